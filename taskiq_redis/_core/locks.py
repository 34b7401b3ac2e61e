"""Locks for plain fields, usable from threads, tasks and signal handlers."""

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:

    class _RLock:
        """What typeshed doesn't know as a class."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *error: object) -> None: ...
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def _at_fork_reinit(self) -> None: ...

else:
    # A class, of which threading only shows a function.
    _RLock = type(threading.RLock())

_guards: "weakref.WeakSet[ForkSafeLock]" = weakref.WeakSet()


class ForkSafeLock(_RLock):
    """A mutual exclusion lock that is free again after a fork.

    It is never held while waiting, but for what a blocking client does in its constructor. The
    thread that holds it may enter it again, as a signal handler does that interrupts it; if that
    handler waits, so do all others who want the lock.
    """

    def __init__(self) -> None:
        super().__init__()
        _guards.add(self)

    def renew(self) -> None:
        """Forget whoever held the lock in the parent process; that thread doesn't exist here."""
        # What the standard library does to its own locks.
        self._at_fork_reinit()


class Entrance:
    """Lets one in at a time, and makes nobody wait for that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Go in, if nobody is there, and tell whether that is so."""
        return self._lock.acquire(blocking=False)

    def leave(self) -> None:
        """Let others in."""
        self._lock.release()


def _renew_all() -> None:
    for guard in tuple(_guards):
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
