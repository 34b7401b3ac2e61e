# Generated from taskiq_redis/_async/loop_local.py by scripts/unasync.py; edit that.

"""Values that belong to one process, such as clients, which no other loop can use."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._runtime.blocking import current_owner, is_owner_gone, no_loop, on_owner_shutdown

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """One value per process, made on first use there.

    Several loops may run at the same time, in different threads. A value that was made outside of
    a loop is passed on to the first loop that calls `get`.

    Args:
        make: makes a value; called by one thread at a time. It may block in the blocking twin: a
            blocking cluster client connects in its constructor.
        close: closes a value when its process shuts down.
        drop: called instead of `close` if the value's loop is closed, or the process was forked.
            It must neither wait nor send anything.
    """

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], None] | None = None,
        drop: Callable[[T], None] | None = None,
    ) -> None:
        self._make = make
        self._close = close
        self._drop = drop
        self._make_lock = ForkSafeLock()
        #: the last failure of `make`, and its time by the monotonic clock
        self._failure: tuple[float, Exception] | None = None
        # By owner, a value and a function that cancels its closing at the loop's shutdown. Threads
        # share it; each access is a single, atomic operation.
        self._values: dict[object, tuple[T, Callable[[], None]]] = {}

    def get(self) -> T:
        """Return the value of the running process."""
        owner = current_owner()
        value, _ = self._values.get(owner) or self._make_for(owner)
        return value

    def swap(self, value: T) -> T | None:
        """Set the value of the running process, and return the one that it replaces, or None."""
        self._drop_gone()
        owner = current_owner()
        with self._make_lock:
            replaced = self._take(owner)
            self._values[owner] = self._close_at_shutdown(owner, value)
        return replaced

    def pop(self) -> T | None:
        """Remove and return the value of the running process, or None."""
        self._drop_gone()
        return self._take(current_owner())

    def _make_for(self, owner: object) -> tuple[T, Callable[[], None]]:
        self._drop_gone()
        asked = time.monotonic()
        with self._make_lock:
            entry = self._values.get(owner)
            if entry is None:
                self._raise_recent_failure(asked)
                try:
                    made = self._take(no_loop())
                    value = self._make() if made is None else made
                except Exception as error:
                    self._failure = time.monotonic(), error
                    raise
                entry = self._values[owner] = self._close_at_shutdown(owner, value)
                self._failure = None
        return entry

    def _raise_recent_failure(self, asked: float) -> None:
        """Raise the error of a call of `make` that has failed since `asked`.

        Otherwise, each thread that waited for that call would wait for a timeout of its own.
        """
        if self._failure is not None and self._failure[0] >= asked:
            raise self._failure[1]

    def _close_at_shutdown(self, owner: object, value: T) -> tuple[T, Callable[[], None]]:
        close = self._close
        if close is None or owner == no_loop():
            return value, lambda: None

        def run() -> None:
            if self._values.pop(owner, None) is not None:
                close(value)

        return value, on_owner_shutdown(run)

    def _take(self, owner: object) -> T | None:
        entry = self._values.pop(owner, None)
        if entry is None:
            return None
        value, disarm = entry
        disarm()
        return value

    def _drop_gone(self) -> None:
        for owner in filter(is_owner_gone, tuple(self._values)):
            value = self._take(owner)
            if value is not None and self._drop is not None:
                self._drop(value)
