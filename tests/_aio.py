"""Concurrency for the tests, on asyncio; `tests._threads` has the same for threads."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from tests.waiting import TIMEOUT

T = TypeVar("T")

__all__ = ["TIMEOUT", "Running", "collect", "run_elsewhere", "sleep", "together", "wait_until"]

sleep = anyio.sleep


async def together(*calls: Callable[[], Awaitable[T]], timeout: float = TIMEOUT) -> list[T]:
    """Run calls at the same time, and return what they return, in order."""
    with anyio.fail_after(timeout):
        return list(await asyncio.gather(*(call() for call in calls)))


async def wait_until(condition: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> Any:
    """Await a condition repeatedly until it is true, and return its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout:g} s")
        await sleep(0.01)


async def collect(iterator: AsyncIterator[T]) -> list[T]:
    """Return what an iterator yields."""
    return [each async for each in iterator]


class Running:
    """Runs a call in the background; leaving the block waits for its end."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._call = call

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._call())

    async def __aexit__(self, exc_type: object, *_: object) -> None:
        if exc_type is not None:
            self._task.cancel()
            return
        with anyio.fail_after(TIMEOUT):
            await self._task


async def run_elsewhere(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a call on a new event loop, which can't use connections of other loops."""
    return await anyio.to_thread.run_sync(lambda: asyncio.run(call()))
