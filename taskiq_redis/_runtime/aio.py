"""Concurrency for the async twin: anyio, and asyncio where a task must outlive its starter."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
from redis.asyncio import RedisCluster

__all__ = [
    "Background",
    "Channel",
    "Event",
    "Limiter",
    "close_cluster",
    "current_owner",
    "finish",
    "initialize",
    "sleep",
]

logger = logging.getLogger("taskiq_redis")

T = TypeVar("T")

sleep = anyio.sleep


def current_owner() -> object:
    """Return what connections belong to: the running event loop, or None outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def initialize(client: RedisCluster) -> None:
    """Make a cluster client learn its slots, before many tasks use it at once."""
    _ = await client.initialize()


async def close_cluster(client: RedisCluster) -> None:
    """Close a cluster client and its connections."""
    await client.aclose()
    # One that is about to learn its slots anew takes itself for closed, and closes nothing.
    for nodes in ("nodes_cache", "startup_nodes"):
        await client.nodes_manager.aclose(nodes)


class Event:
    """Something that happens once."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Let it happen."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for it, `timeout` seconds at most, and tell whether it has happened."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self.is_set()


class Limiter:
    """Lets at most `size` users in at a time; the others wait for their turn."""

    def __init__(self, size: int) -> None:
        self._semaphore = anyio.Semaphore(size, fast_acquire=True)

    async def __aenter__(self) -> None:
        await self._semaphore.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._semaphore.release()


class Channel(Generic[T]):
    """Hands items from `Background` readers to one consumer, which they wait for.

    Args:
        size: most items that wait in it; whoever puts more has to wait.
    """

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(size)

    async def put(self, item: T) -> None:
        """Add an item when there is room."""
        await self._queue.put(item)

    async def get(self, timeout: float) -> T | None:
        """Take an item, or None if there is none for `timeout` seconds."""
        with anyio.move_on_after(timeout):
            return await self._queue.get()
        return None

    def close(self) -> None:
        """Let nobody wait any more; here, cancellation sees to that."""


class Background:
    """Runs a function beside its starter until it is stopped, and logs what it raises.

    Args:
        run: gets an `Event` that is set when it has to end.
        name: for logs and debuggers.
    """

    def __init__(self, run: Callable[[Event], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._stopping = Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.get_running_loop().create_task(self._guarded(), name=self._name)

    async def stop(self) -> None:
        """Ask it to end, interrupt it where it waits, and wait until it has ended."""
        self._stopping.set()
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _guarded(self) -> None:
        try:
            await self._run(self._stopping)
        except Exception:
            logger.exception("%s failed.", self._name)


_unfinished: set[asyncio.Task[Any]] = set()


async def finish(
    call: Callable[[], Coroutine[Any, Any, T]], salvage: Callable[[T], Awaitable[None]]
) -> T:
    """Wait for a call that takes something out of Redis, and lose nothing when cancelled meanwhile.

    Args:
        call: what to run; it ends even if its caller is cancelled.
        salvage: gets what the call returned too late for its caller.
    """
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise
        rescue = asyncio.ensure_future(_salvage(task, salvage))
        # The loop itself keeps weak references only.
        _unfinished.add(rescue)
        rescue.add_done_callback(_unfinished.discard)
        raise


async def _salvage(task: "asyncio.Task[T]", salvage: Callable[[T], Awaitable[None]]) -> None:
    try:
        await salvage(await task)
    except Exception:
        logger.exception("What arrived after its reader was cancelled could not be put back.")
