# Generated from taskiq_redis/_async/loop_local.py by scripts/unasync.py; edit that.

"""State that belongs to one process and can't be used on another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._runtime.blocking import current_owner, is_owner_gone, no_loop, on_owner_shutdown

T = TypeVar("T")


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A value, and what to call when it needn't be closed at the end of its owner any more."""

    value: T
    disarm: Callable[[], None]


class LoopLocal(Generic[T]):
    """Keeps one value for each owner, that is the process that runs, made on first use there.

    Several owners may live at the same time, also in threads. What is made where there is none
    belongs to the first that asks for it.

    Args:
        make: makes a value; one at a time, and it may take long on the blocking side, where a
            cluster client connects in its constructor.
        close: closes a value when its owner ends in good order, if it can be told of that.
        discard: gets a value that nobody will close: its owner is gone, be it closed or in the
            process from which this one was forked. It must not wait, nor use what that one uses.
    """

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], None] | None = None,
        discard: Callable[[T], None] | None = None,
    ) -> None:
        self._make = make
        self._close = close
        self._discard = discard
        self._making = ForkSafeLock()
        #: why the last attempt to make a value failed, and when, by the monotonic clock
        self._failure: tuple[float, Exception] | None = None
        # What is done to it is a single operation each time, which threads can't see half of.
        self._kept: dict[object, Kept[T]] = {}

    def get(self) -> T:
        """Return the value of whoever asks."""
        owner = current_owner()
        kept = self._kept.get(owner) or self._make_for(owner)
        return kept.value

    def swap(self, value: T) -> T | None:
        """Give a value to whoever asks, and return the one that it replaces, if there is one."""
        self._drop_gone()
        owner = current_owner()
        with self._making:
            replaced = self._take(owner)
            self._kept[owner] = self._adopt(owner, value)
        return replaced

    def pop(self) -> T | None:
        """Take away the value of whoever asks, if there is one; the next `get` makes another."""
        self._drop_gone()
        return self._take(current_owner())

    def _make_for(self, owner: object) -> Kept[T]:
        self._drop_gone()
        asked = time.monotonic()
        with self._making:
            kept = self._kept.get(owner)
            if kept is None:
                self._check_failure(asked)
                try:
                    kept = self._kept[owner] = self._adopt(owner, self._take(no_loop()))
                except Exception as error:
                    self._failure = time.monotonic(), error
                    raise
                self._failure = None
        return kept

    def _check_failure(self, asked: float) -> None:
        """Fail as another thread did meanwhile: one by one, they would wait far too long."""
        if self._failure is not None and self._failure[0] >= asked:
            raise self._failure[1]

    def _adopt(self, owner: object, value: T | None) -> Kept[T]:
        """Let an owner have a value, or a new one, and see to its end."""
        kept = Kept(self._make() if value is None else value, lambda: None)
        close = self._close
        if close is None or owner == no_loop():
            return kept

        def end() -> None:
            if self._kept.pop(owner, None) is not None:
                close(kept.value)

        return Kept(kept.value, on_owner_shutdown(end))

    def _take(self, owner: object) -> T | None:
        kept = self._kept.pop(owner, None)
        if kept is None:
            return None
        kept.disarm()
        return kept.value

    def _drop_gone(self) -> None:
        for owner in filter(is_owner_gone, tuple(self._kept)):
            self._drop(self._take(owner))

    def _drop(self, value: T | None) -> None:
        if value is not None and self._discard is not None:
            self._discard(value)
