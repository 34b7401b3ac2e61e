"""What tests need of concurrency, on asyncio; `tests._threads` has the same for threads."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

__all__ = ["Running", "new_world", "sleep", "together", "wait_until"]

sleep = anyio.sleep

#: s; only guards against a test that would hang
PATIENCE = 30.0


async def together(*calls: Callable[[], Awaitable[T]], timeout: float = PATIENCE) -> list[T]:
    """Run calls at the same time, and return what they return, in order."""
    with anyio.fail_after(timeout):
        return list(await asyncio.gather(*(call() for call in calls)))


async def wait_until(condition: Callable[[], Awaitable[Any]], timeout: float = PATIENCE) -> Any:
    """Ask until the answer is true, and return it."""
    give_up = time.monotonic() + timeout
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        await sleep(0.01)


class Running:
    """Runs a call beside the test, which waits for its end when it leaves the block."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._call = call

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._call())

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is not None:
            self._task.cancel()
            return
        with anyio.fail_after(PATIENCE):
            await self._task


async def new_world(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a call where connections of before can't be used: on an event loop of its own."""
    return await anyio.to_thread.run_sync(lambda: asyncio.run(call()))
