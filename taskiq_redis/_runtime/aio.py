"""Concurrency for the async classes: anyio, and asyncio where a task must outlive its starter."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

import anyio

from taskiq_redis._core.exits import let_end_at_exit
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.process import process_id

__all__ = [
    "BackgroundTask",
    "Event",
    "OneShot",
    "Queue",
    "Refresher",
    "Semaphore",
    "WorkerThread",
    "cancellable",
    "current_owner",
    "is_owner_gone",
    "max_block_time",
    "no_loop",
    "on_owner_shutdown",
    "on_task_done",
    "result_of",
    "run_shielded",
    "sleep",
    "yield_while",
]

logger = logging.getLogger("taskiq_redis")

T = TypeVar("T")

sleep = anyio.sleep

#: limits concurrent users; without contention it doesn't yield to the event loop
Semaphore = partial(anyio.Semaphore, fast_acquire=True)

#: s; interval after which a cancelled task is cancelled again. Before Python 3.12,
#: `asyncio.wait_for`, with which redis-py sends, can lose a cancellation.
CANCEL_AGAIN = 1.0 if sys.version_info < (3, 12) else None

#: s; how long `WorkerThread.stop` waits for its thread
JOIN_TIMEOUT = 10.0

#: s; when `Refresher` reads, within each second: taskiq's scheduler looks at its list right after
#: the beginning of each second
REFRESH_PHASE = 0.85
#: s; a list that was published so shortly before isn't refreshed, so that its receiver sees it
REFRESH_PAUSE = 0.3


#: a process and the event loop that runs in it, if any
Owner = tuple[int, asyncio.AbstractEventLoop | None]


def current_owner() -> Owner:
    """Return the owner of new connections: this process and its running event loop, if any."""
    try:
        return process_id(), asyncio.get_running_loop()
    except RuntimeError:
        return no_loop()


def no_loop() -> Owner:
    """Return the owner of objects that are made outside of an event loop."""
    return process_id(), None


def is_owner_gone(owner: Any) -> bool:
    """Return whether the connections of an owner are unusable: loop closed, or process forked."""
    process, loop = owner
    return process != process_id() or (loop is not None and loop.is_closed())


def on_owner_shutdown(run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Call a function when the running event loop shuts down, as at the end of `asyncio.run`.

    Args:
        run: the function; not called if the loop is closed without ``shutdown_asyncgens()``.

    Returns:
        A function that cancels this.
    """
    # Async generators are the only objects that a loop finalizes when it shuts down.
    armed = [run]
    generator = _run_at_exit(armed)
    with contextlib.suppress(StopIteration):
        generator.asend(None).send(None)

    def disarm() -> None:
        armed.clear()
        with contextlib.suppress(StopIteration):
            generator.aclose().send(None)

    return disarm


async def _run_at_exit(armed: list[Callable[[], Awaitable[None]]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for run in armed:
            await run()


def on_task_done(run: Callable[[bool, bool], None]) -> Callable[[], object] | None:
    """Call a function when the current task is done.

    Args:
        run: gets whether the task failed or was cancelled, and whether it was cancelled.

    Returns:
        A function that undoes it, or None if it won't be called.
    """
    task = asyncio.current_task()
    if task is None:
        return None
    done = partial(_report_done, run)
    task.add_done_callback(done)
    return partial(task.remove_done_callback, done)


def _report_done(run: Callable[[bool, bool], None], task: "asyncio.Task[Any]") -> None:
    # `exception()` would mark the exception as retrieved, and asyncio would not log it.
    cancelled = task.cancelled()
    run(cancelled or task._exception is not None, cancelled)


async def result_of(value: Any) -> Any:
    """Return a value, or the result of an awaitable.

    Args:
        value: what a method returned that a subclass may override, with or without `async`.
    """
    return await value if inspect.isawaitable(value) else value


def max_block_time(wait: float) -> float:
    """Return how long a read may block, in s: as long as wanted, since a task can be cancelled."""
    return wait


async def yield_while(condition: Callable[[], bool]) -> None:
    """Yield to the event loop again and again, as long as a condition holds.

    Args:
        condition: called once per iteration of the loop.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def check() -> None:
        # In a callback, since waking the caller each time costs more.
        if done.done():
            return
        if condition():
            loop.call_soon(check)
        else:
            done.set_result(None)

    loop.call_soon(check)
    await done


class Event:
    """A flag that is set once and can be waited for."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Set the flag."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, `timeout` seconds at most, and return whether it is set."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self.is_set()


class OneShot:
    """An event with a single waiter.

    There is one for every request, so it is cheaper than an `Event`.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the waiter."""
        self._is_set = True
        if self._waiter is not None:
            _wake(self._waiter)

    async def wait(self, timeout: float) -> None:
        """Wait until it is set, `timeout` seconds at most."""
        if self._is_set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Queue(Generic[T]):
    """A bounded queue from several `BackgroundTask` producers to one consumer.

    Args:
        size: maximum number of items; `put` waits while it is full.
    """

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(size)

    async def put(self, item: T) -> None:
        """Add an item, and wait while the queue is full."""
        await self._queue.put(item)

    async def get(self, timeout: float) -> T | None:
        """Remove and return an item, or None after `timeout` seconds."""
        with anyio.move_on_after(timeout):
            return await self._queue.get()
        return None

    def close(self) -> None:
        """Let `put` wait no longer; on asyncio, cancellation does that."""


class BackgroundTask:
    """Run a function in the background until it is stopped, and log its exceptions.

    Args:
        run: the function; gets an `Event` that is set when it has to return.
        name: name of the task or thread.
    """

    def __init__(self, run: Callable[[Event], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._stopping = Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.get_running_loop().create_task(self._run_logged(), name=self._name)

    def interrupt(self) -> None:
        """Ask it to return, and cancel what it waits for."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Interrupt it, and wait until it is done."""
        self.interrupt()
        if self._task is not None:
            await _cancel_and_wait(self._task)

    async def _run_logged(self) -> None:
        try:
            await self._run(self._stopping)
        except Exception:
            logger.exception("%s failed.", self._name)


class _WeakList(list[T]):
    """A list that can be referenced weakly."""

    __slots__ = ("__weakref__",)


class Refresher(Generic[T]):
    """Keeps a list up to date, once a second, as long as anything refers to it.

    Args:
        read: reads the items; None leaves the list as it is. Exceptions are logged.
        name: name of the task.
    """

    def __init__(self, read: Callable[[], Awaitable[list[T] | None]], name: str) -> None:
        self._read = read
        self._name = name
        self._held: Callable[[], _WeakList[T] | None] = lambda: None
        self._published = 0.0
        self._task: asyncio.Task[None] | None = None

    def publish(self, items: list[T]) -> list[T]:
        """Return a list with these items, which is then kept up to date: always the same one."""
        held = self._held()
        if held is None:
            held = _WeakList()
            self._held = weakref.ref(held)
        held[:] = items
        self._published = time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        return held

    async def stop(self) -> None:
        """Leave the list as it is."""
        if self._task is not None:
            await _cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep((REFRESH_PHASE - time.time()) % 1 or 1)
            if self._held() is None:
                return
            if time.monotonic() - self._published > REFRESH_PAUSE:
                await self._refresh()

    async def _refresh(self) -> None:
        try:
            items = await self._read()
        except Exception:
            logger.exception("%s failed.", self._name)
            return
        held = self._held()
        if held is not None and items is not None:
            held[:] = items


class WorkerThread:
    """Run a function in a thread of its own until it is stopped, and log its exceptions.

    It keeps running while the event loop of its starter is blocked.

    Args:
        run: the function; gets an `Event` that is set when it has to return.
        name: name of the thread.
    """

    def __init__(self, run: Callable[[Event], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._lock = ForkSafeLock()
        self._interrupted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: Event | None = None
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start(self) -> None:
        """Start it."""
        # A daemon, so that a program that forgets to shut down can still exit.
        threading.Thread(target=self._main, name=self._name, daemon=True).start()

    def interrupt(self) -> None:
        """Ask it to return; safe in any thread."""
        with self._lock:
            self._interrupted = True
            # If the thread's loop is closed already, nothing needs to be set.
            if self._loop is not None and self._stopping is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._stopping.set)

    async def stop(self) -> None:
        """Ask it to return, and wait until the thread is done."""
        self.interrupt()
        done, _ = await asyncio.wait({asyncio.wrap_future(self._done)}, timeout=JOIN_TIMEOUT)
        if not done:
            logger.error("%s did not end within %.0f s.", self._name, JOIN_TIMEOUT)

    def _main(self) -> None:
        try:
            asyncio.run(self._run_interruptibly())
        except Exception:
            logger.exception("%s failed.", self._name)
        finally:
            self._done.set_result(None)

    async def _run_interruptibly(self) -> None:
        let_end_at_exit(asyncio.get_running_loop())
        stopping = Event()
        with self._lock:
            self._loop, self._stopping = asyncio.get_running_loop(), stopping
            if self._interrupted:
                stopping.set()
        await self._run(stopping)


def cancellable(call: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
    """Await a call so that no cancellation of the current task gets lost in it.

    Args:
        call: an async function that talks to Redis.
        args: its arguments.
    """
    return call(*args) if CANCEL_AGAIN is None else _cancellable(call(*args))


async def _cancellable(call: Awaitable[T]) -> T:
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _cancel_and_wait(task)
        raise


async def _cancel_and_wait(task: "asyncio.Future[Any]") -> None:
    """Cancel a task and wait until it is done, even if the caller is cancelled meanwhile."""
    cancelled = False
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=CANCEL_AGAIN)
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()  # or asyncio would log that it was never retrieved
    if cancelled:
        raise asyncio.CancelledError


async def run_shielded(
    call: Callable[[], Coroutine[Any, Any, T]], salvage: Callable[[T], Awaitable[None]]
) -> T:
    """Run a call that removes data from Redis, without cutting it short on cancellation.

    If the current task is cancelled, wait for the call to end, then raise the cancellation.

    Args:
        call: the call.
        salvage: puts the data back if the call returned after the cancellation.
    """
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _wait_shielded(asyncio.ensure_future(_salvage(task, salvage)))
        raise


async def _wait_shielded(task: "asyncio.Task[None]") -> None:
    """Wait until a task is done, however often the caller is cancelled."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])


async def _salvage(task: "asyncio.Task[T]", salvage: Callable[[T], Awaitable[None]]) -> None:
    try:
        await salvage(await task)
    except Exception:
        logger.exception("A message that was popped for a cancelled listener was not put back.")
