"""A lock for plain fields, usable from threads, tasks and both sides of a fork."""

import os
import threading
import weakref
from types import TracebackType

_guards: "weakref.WeakSet[Guard]" = weakref.WeakSet()


class Guard:
    """A mutual exclusion lock that is free again after a fork.

    It is never held while waiting, but for what a blocking client does in its constructor. The
    thread that holds it may enter it again, as a signal handler does that interrupts it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _guards.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget whoever held the lock in the parent process; that thread doesn't exist here."""
        self._lock = threading.RLock()


def _renew_all() -> None:
    for guard in tuple(_guards):
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
