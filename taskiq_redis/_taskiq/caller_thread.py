"""Let async code run functions in the thread that waits for it, inside its transactions."""

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.process import process_id


class _WorkItem:
    """A function to run, and the future of its result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.future: Future[Any] = Future()

    def run(self) -> None:
        """Run it, unless it was cancelled; raise KeyboardInterrupt in this thread, too."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as error:
            self.future.set_exception(error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self.future.set_result(result)


class CallerThread:
    """A thread that runs functions for async code while it waits for that code."""

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._items: queue.SimpleQueue[_WorkItem | None] = queue.SimpleQueue()
        self._lock = ForkSafeLock()
        #: number of nested waits
        self._waits = 0

    def submit(self, function: Callable[[], Any]) -> "Future[Any] | None":
        """Run a function in this thread; return None if the thread doesn't wait.

        Args:
            function: function to run.
        """
        item = _WorkItem(function)
        if threading.get_ident() == self._ident:
            # At exit, Python may start no thread for the event loop, so that it runs here.
            return None
        with self._lock:
            if not self._waits:
                return None
            self._items.put(item)
        return item.future

    def wait(self, running: "Future[Any]") -> None:
        """Run functions until a future is done.

        Args:
            running: the future.
        """
        with self.waiting():
            running.add_done_callback(lambda _: self._items.put(None))
            while not running.done():
                item = self._items.get()
                if item is not None:
                    item.run()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Accept functions, because this thread will wait."""
        with self._lock:
            self._waits += 1
        try:
            yield
        finally:
            with self._lock:
                self._waits -= 1
                left = [] if self._waits else self._drain()
            for item in left:
                # The code that submitted them has ended. Another thread would be wrong.
                item.future.cancel()

    def run_pending(self) -> None:
        """Run the functions that are waiting, without waiting for more."""
        for item in self._drain():
            item.run()

    def _drain(self) -> list[_WorkItem]:
        items: list[_WorkItem] = []
        while True:
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                return items
            if item is not None:
                items.append(item)


_threads = threading.local()


def waiting_thread() -> CallerThread | None:
    """Return this thread, if `this_thread` was called in it; else None.

    It is None, too, while an event loop runs in the thread: sync code in it could neither run a
    loop of its own nor use Django's models.
    """
    thread: CallerThread | None = getattr(_threads, "caller", None)
    return thread if asyncio._get_running_loop() is None else None


def this_thread() -> CallerThread | None:
    """Return this thread, and let it run functions from now on; None if it runs an event loop."""
    if asyncio._get_running_loop() is None and waiting_thread() is None:
        _threads.caller = CallerThread()
    return waiting_thread()


class InPlaceExecutor(Executor):
    """Runs functions in the thread that waits for them, or else in a pool.

    In Django, and wherever else asgiref is in use, that is the thread of asgiref's `async_to_sync`
    if there is one.

    Args:
        pool_size: number of threads of the pool.
        find_caller: returns the thread that waits for the running async code, or None.
    """

    def __init__(self, pool_size: int, find_caller: Callable[[], CallerThread | None]) -> None:
        self._find_caller = find_caller
        self._pool_size = pool_size
        self._pool: ThreadPoolExecutor | None = None
        #: ID of the process that has the threads
        self._process = process_id()
        self._lock = ForkSafeLock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a function; see `concurrent.futures.Executor.submit`."""
        function = partial(fn, *args, **kwargs)
        outer = _executor_of_asgiref()
        if outer is not None and not isinstance(outer, InPlaceExecutor):
            try:
                return outer.submit(function)
            except RuntimeError:
                # It has ended, or this is its own thread.
                pass
        caller = self._find_caller()
        future = None if caller is None else caller.submit(function)
        if future is not None:
            return future
        try:
            return self._get_pool().submit(function)
        except RuntimeError:
            # Python starts no more threads at exit.
            item = _WorkItem(function)
            item.run()
            return item.future

    def _get_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._process != process_id():
                self._pool = ThreadPoolExecutor(self._pool_size, "taskiq-redis-tasks")
                self._process = process_id()
            return self._pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads of the pool; the next use starts others."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._process == process_id():
            pool.shutdown(wait, cancel_futures=cancel_futures)

    @contextmanager
    def serving_asgiref(self) -> Iterator[None]:
        """Let asgiref's `sync_to_async` use the waiting thread in this context.

        So async methods of Django's models use the database connection of that thread.
        """
        executors = _executors_of_asgiref()
        before = getattr(executors, "current", None)
        if executors is None:
            yield
            return
        # Also instead of another one: it belongs to this thread, which waits here, or to none.
        executors.current = self
        try:
            yield
        finally:
            # Older versions share what is set with the contexts that this one was copied from.
            executors.current = before


def _executors_of_asgiref() -> Any:
    """Return where asgiref keeps the executor for this context; None if it isn't imported."""
    module = sys.modules.get("asgiref.sync")
    return getattr(getattr(module, "AsyncToSync", None), "executors", None)


def _executor_of_asgiref() -> Executor | None:
    """Return the executor in which asgiref's `sync_to_async` runs functions, or None."""
    executor = getattr(_executors_of_asgiref(), "current", None)
    return executor if isinstance(executor, Executor) else None
