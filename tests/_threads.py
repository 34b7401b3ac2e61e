"""Concurrency for the tests, on threads; `tests._aio` has the same for asyncio."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tests import waiting
from tests.waiting import TIMEOUT

T = TypeVar("T")

__all__ = ["TIMEOUT", "Running", "collect", "run_elsewhere", "sleep", "together", "wait_until"]

sleep = time.sleep

#: maximum number of threads of `together`
THREADS = 32


def together(*calls: Callable[[], T], timeout: float = TIMEOUT) -> list[T]:
    """Run calls at the same time, and return what they return, in order."""
    with ThreadPoolExecutor(min(len(calls), THREADS)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result(timeout) for future in futures]


def wait_until(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Call a condition repeatedly until it is true, and return its value."""
    return waiting.wait_until(condition, timeout=timeout, interval=0.01, not_yet=())


def collect(iterator: Iterator[T]) -> list[T]:
    """Return what an iterator yields."""
    return list(iterator)


class Running:
    """Runs a call in the background; leaving the block waits for its end."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __exit__(self, exc_type: object, *_: object) -> None:
        self._thread.join(TIMEOUT)
        if exc_type is None:
            assert not self._thread.is_alive(), "still running"
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # raised when the test leaves the block
            self._error = error


def run_elsewhere(call: Callable[[], T]) -> T:
    """Run a call on another thread; unlike event loops, threads share connections."""
    return together(call)[0]
