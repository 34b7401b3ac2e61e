"""Where async hooks run for blocking code: on one thread per process, with its own event loop."""

import asyncio
import atexit
import inspect
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar, overload

import anyio

# anyio would import it on first use, and a fork meanwhile leave it locked for ever in the child.
import anyio._backends._asyncio
from anyio.from_thread import BlockingPortal

from taskiq_redis._core.guard import Guard

T = TypeVar("T")

THREAD_NAME = "taskiq-redis-portal"
#: s; how long a stop waits for hooks that don't heed their cancellation. What they still do on the
#: thread, which is a daemon, ends with the process.
STOP_TIMEOUT = 2.0


class _PortalThread(threading.Thread):
    """A thread with an event loop; it is ready for calls once it is constructed.

    anyio's `start_blocking_portal` would do, but for its end: that waits without a bound.
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
            # There are no file descriptors left for a loop, perhaps: whoever waits has to know.
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._ready.set_result((portal, asyncio.get_running_loop()))
            await portal.sleep_until_stopped()

    def call(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable to its end, in the caller's context."""
        future = self._portal.start_task_soon(_run, awaitable)
        try:
            outcome = future.result()
        except BaseException:
            # A signal handler may raise here: then nobody waits for the hook any more.
            future.cancel()
            raise
        if isinstance(outcome, _Exit):
            raise outcome.error
        return outcome

    def stop(self) -> None:
        """Cancel what runs, and wait a bounded time for the end of the thread."""
        if self.is_alive():
            stopping = self._portal.stop(cancel_remaining=True)
            asyncio.run_coroutine_threadsafe(stopping, self._loop)
            self.join(STOP_TIMEOUT)


@dataclass(frozen=True)
class _Exit:
    """What a hook raised that isn't an `Exception`, such as `SystemExit`."""

    error: BaseException


async def _run(awaitable: Awaitable[T]) -> T | _Exit:
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - raised here, it would end the loop for everybody
        return _Exit(error)


class _Portal:
    """The portal thread of this process, started on first need."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._thread: _PortalThread | None = None
        self._inherited: list[_PortalThread | None] = []

    def call(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the thread, and wait for its end."""
        if self._thread is threading.current_thread():
            raise RuntimeError(
                "An async hook called blocking code that needs an async hook itself; that would "
                "wait for its own end. Use the async broker inside of async hooks."
            )
        return self._started().call(awaitable)

    def _started(self) -> _PortalThread:
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._thread = _PortalThread()
            return self._thread

    def stop(self) -> None:
        """End the thread, if there is one; the next need starts another one."""
        with self._guard:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def forget(self) -> None:
        """Start anew in a forked child, which has the loop but not its thread."""
        # Its selector belongs to the parent as well, so it must not be collected and closed here.
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
    """Return a value, or what an awaitable yields when it is run to its end.

    Args:
        value: what a middleware's hook or an event handler returned; either may be async.

    Raises:
        RuntimeError: it is an awaitable, and this is the portal's own thread.
    """
    if not inspect.isawaitable(value):
        return value
    try:
        result: T = _portal.call(value)
    finally:
        # One that could not be started would complain that it was never awaited.
        if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
            value.close()
    return result


def stop_portal() -> None:
    """End the thread that runs async hooks, and cancel those; the next hook starts another one."""
    _portal.stop()
