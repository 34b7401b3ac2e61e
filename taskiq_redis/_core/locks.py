"""A lock that a forked child can use, even if another thread held it during the fork."""

import os
import threading
import weakref
from typing import Any

# `threading.Lock` can't be subclassed, and typeshed declares `RLock` as a function.
_RLock: Any = type(threading.RLock())

_locks: "weakref.WeakSet[ForkSafeLock]" = weakref.WeakSet()


class ForkSafeLock(_RLock):  # type: ignore[misc]
    """A reentrant lock that is released in a forked child.

    It protects plain attributes, and is never held during I/O, except while a blocking cluster
    client connects in its constructor.
    """

    def __init__(self) -> None:
        super().__init__()
        _locks.add(self)

    def reinit(self) -> None:
        """Release the lock, since the thread that held it doesn't exist in this process."""
        # The standard library does the same to its own locks.
        self._at_fork_reinit()


def _reinit_all() -> None:
    for lock in tuple(_locks):
        lock.reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reinit_all)
