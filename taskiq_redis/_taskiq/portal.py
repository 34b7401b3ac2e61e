"""A thread with an event loop that runs async hooks for blocking code; one per process."""

import asyncio
import atexit
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar, overload

import anyio

# anyio imports this on first use; a fork during that import would leave the import lock of the
# child locked for ever.
import anyio._backends._asyncio
from anyio.from_thread import BlockingPortal

from taskiq_redis._core.exits import let_end_at_exit
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._taskiq.caller_thread import waiting_thread

T = TypeVar("T")

THREAD_NAME = "taskiq-redis-portal"
#: s; how long a stop waits for hooks that ignore their cancellation. They continue in the daemon
#: thread until the process ends.
STOP_TIMEOUT = 2.0
#: s; interval of the checks whether the event loop of another thread still runs
LOOP_CHECK = 1.0


class PortalCall(Generic[T]):
    """An awaitable that runs on the portal.

    Args:
        running: future of the task that runs it.
        outcome: future of its result, which may be a SystemExit.
    """

    def __init__(self, running: "Future[None]", outcome: "Future[T]") -> None:
        self._running = running
        self._outcome = outcome

    def add_done_callback(self, function: Callable[[Any], object]) -> None:
        """Call a function when it ends, or at once if it has ended.

        Args:
            function: function to call; its argument doesn't matter.
        """
        self._running.add_done_callback(function)

    def result(self) -> T:
        """Wait until it ends, and return its result.

        This thread runs functions for it meanwhile, if it does so for other calls.
        """
        caller = waiting_thread()
        try:
            if caller is not None:
                caller.wait(self._running)
            self._running.result()
        except BaseException:
            # A signal handler raised (KeyboardInterrupt): the result isn't needed any more.
            self._running.cancel()
            raise
        return self._outcome.result()


class _PortalThread(threading.Thread):
    """A thread with an event loop, ready for calls once it is constructed.

    `stop` has a time limit, which anyio's `start_blocking_portal` doesn't have.
    """

    def __init__(self) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._ready: Future[tuple[BlockingPortal, asyncio.AbstractEventLoop]] = Future()
        self.start()
        self._portal, self._loop = self._ready.result()

    def run(self) -> None:
        try:
            anyio.run(self._serve, backend="asyncio")
        except BaseException as error:
            if self._ready.done():
                raise
            # The loop didn't start, for lack of file descriptors for example: fail the constructor.
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        let_end_at_exit(asyncio.get_running_loop())
        async with BlockingPortal() as portal:
            self._ready.set_result((portal, asyncio.get_running_loop()))
            await portal.sleep_until_stopped()

    def start_call(self, awaitable: Awaitable[T]) -> PortalCall[T]:
        """Start to run an awaitable in the caller's context."""
        outcome: Future[T] = Future()
        return PortalCall(self._portal.start_task_soon(_run, awaitable, outcome), outcome)

    def stop(self) -> None:
        """Cancel running hooks, and wait up to STOP_TIMEOUT for the thread to end."""
        if self.is_alive():
            stopping = self._portal.stop(cancel_remaining=True)
            asyncio.run_coroutine_threadsafe(stopping, self._loop)
            self.join(STOP_TIMEOUT)


async def _run(awaitable: Awaitable[T], outcome: "Future[T]") -> None:
    try:
        outcome.set_result(await awaitable)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raising SystemExit here would end the loop
        outcome.set_exception(error)


async def _run_here(awaitable: Awaitable[T]) -> T:
    let_end_at_exit(asyncio.get_running_loop())
    return await awaitable


class _Portal:
    """The portal thread of this process, started by the first call."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._thread: _PortalThread | None = None
        self._inherited: list[_PortalThread | None] = []

    def call(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the thread, and return its result."""
        if self.is_current():
            raise RuntimeError(
                "An async hook called blocking code that runs an async hook itself, which would "
                "deadlock. Use the async broker inside async hooks."
            )
        thread = self._started()
        if thread is None:
            return asyncio.run(_run_here(awaitable))
        return thread.start_call(awaitable).result()

    def start(self, awaitable: Awaitable[T]) -> PortalCall[T]:
        """Start to run an awaitable on the thread; run it here if there can be no thread."""
        thread = self._started()
        if thread is not None:
            return thread.start_call(awaitable)
        running: Future[None] = Future()
        outcome: Future[T] = Future()
        asyncio.run(_run_here(_run(awaitable, outcome)))
        running.set_result(None)
        return PortalCall(running, outcome)

    def is_current(self) -> bool:
        """Return whether this thread is the portal's."""
        return self._thread is threading.current_thread()

    def _started(self) -> _PortalThread | None:
        """Return the thread; None if Python starts no more threads, as 3.12 at exit."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                try:
                    self._thread = _PortalThread()
                except RuntimeError:
                    if asyncio._get_running_loop() is not None:
                        raise
                    return None
            return self._thread

    def stop(self) -> None:
        """Stop the thread, if there is one; the next call starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def forget(self) -> None:
        """Drop the thread in a forked child, where it doesn't run."""
        # If it was garbage-collected, that would close the selector, which the parent uses too.
        self._inherited.append(self._thread)
        self._thread = None


_portal = _Portal()
atexit.register(_portal.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)


@overload
def resolve(value: Awaitable[T]) -> T: ...


@overload
def resolve(value: T | Awaitable[T]) -> T: ...


def resolve(value: T | Awaitable[T]) -> T:
    """Return a value, or the result of an awaitable.

    Args:
        value: return value of a middleware's hook or an event handler; either may be async.

    Raises:
        RuntimeError: the value is an awaitable, and the portal thread itself is calling.
    """
    if not inspect.isawaitable(value):
        return value
    try:
        result: T = _portal.call(value)
    finally:
        close_unstarted(value)
    return result


def start_on_portal(coroutine: Coroutine[Any, Any, T]) -> PortalCall[T]:
    """Start to run a coroutine on the portal, in the caller's context.

    Args:
        coroutine: the coroutine.
    """
    return _portal.start(coroutine)


def is_portal_thread() -> bool:
    """Return whether this thread runs the async hooks, and so can't wait for one."""
    return _portal.is_current()


def close_unstarted(value: object) -> None:
    """Close a coroutine that didn't start, which would warn that it was never awaited.

    Args:
        value: the coroutine, or something else that may be awaitable.
    """
    if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()


def resolve_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop of another thread, and return its result.

    Args:
        loop: the event loop.
        coroutine: the coroutine.

    Raises:
        RuntimeError: the event loop stopped before the end.
    """
    outcome: Future[T] = Future()
    running = asyncio.run_coroutine_threadsafe(_run(coroutine, outcome), loop)
    try:
        while not wait([running], LOOP_CHECK).done and loop.is_running():
            pass
        if running.done():
            running.result()
    except BaseException:
        running.cancel()
        raise
    if not running.done():
        running.cancel()
        raise RuntimeError(
            "The event loop of the async broker stopped before it had run an async hook."
        )
    return outcome.result()


def stop_portal() -> None:
    """Cancel async hooks, and stop their thread; the next hook starts another."""
    _portal.stop()
