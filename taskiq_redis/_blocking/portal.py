"""Where async hooks run for blocking code: on one thread per process, with its own event loop."""

import atexit
import inspect
import os
import threading
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")

THREAD_NAME = "taskiq-redis-portal"


class _Portal:
    """The thread, started on first need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._manager: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable to its end on the thread."""

        async def wait() -> T:
            return await awaitable

        return self._started().call(wait)

    def _started(self) -> BlockingPortal:
        if threading.current_thread().name == THREAD_NAME:
            raise RuntimeError(
                "An async hook called blocking code that needs an async hook itself; that would "
                "wait for its own end. Use the async broker inside of async hooks."
            )
        with self._lock:
            if self._portal is None:
                self._manager = start_blocking_portal("asyncio", name=THREAD_NAME)
                self._portal = self._manager.__enter__()
            return self._portal

    def stop(self) -> None:
        """End the thread, if it was started; the next need starts another one."""
        with self._lock:
            manager, self._manager, self._portal = self._manager, None, None
        if manager is not None:
            manager.__exit__(None, None, None)

    def forget(self) -> None:
        """Start anew in a forked child, which has the lock and the loop but not the thread."""
        self.__init__()  # type: ignore[misc]


_portal = _Portal()
atexit.register(_portal.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)


def resolve(value: T | Awaitable[T]) -> T:
    """Return a value, or what an awaitable yields when it is run to its end.

    Args:
        value: what a middleware's hook or an event handler returned; either may be async.

    Raises:
        RuntimeError: it is an awaitable, and this is the portal's own thread.
    """
    if inspect.isawaitable(value):
        result: T = _portal.run(value)
        return result
    return value


def stop_portal() -> None:
    """End the thread that runs async hooks; the next hook starts another one."""
    _portal.stop()
