"""Concurrency for the blocking classes: the names of `aio`, on threads."""

import contextvars

# The first connection would import it, and a fork meanwhile leave the import locked in the child.
import encodings.idna  # noqa: F401
import logging
import queue
import sys
import threading
import time
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from taskiq_redis._core.notices import warn_of_running_loop
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

Event = threading.Event
sleep = time.sleep

#: s; limit for blocking reads, since nothing interrupts them: a stop takes this long
LONGEST_READ = 1.0
#: s; how long `BackgroundTask.stop` waits for its thread
JOIN_TIMEOUT = 10.0


def current_owner() -> int:
    """Return the owner of new connections: this process, so that a forked child makes its own.

    Every command calls this, so it also notices a running event loop, which blocking calls stop.
    """
    if _get_running_loop() is not None:
        warn_of_running_loop()
    return process_id()


def no_loop() -> object:
    """Return the owner of objects that are made outside of any process: none."""
    return None


def is_owner_gone(owner: Any) -> bool:
    """Return whether the connections of an owner are unusable: those of a parent process are."""
    return bool(owner != process_id())


def on_owner_shutdown(run: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG001 - see `aio`
    """Do nothing: the end of a process closes its connections.

    Args:
        run: not called.

    Returns:
        A function that does nothing.
    """
    return lambda: None


def on_task_done(run: Callable[[bool, bool], None]) -> Callable[[], object] | None:  # noqa: ARG001 - see `aio`
    """Do nothing: a thread may handle many messages.

    Args:
        run: not called.

    Returns:
        None.
    """
    return None


def result_of(value: Any) -> Any:
    """Return a value.

    Args:
        value: what a method returned that a subclass may override.
    """
    return value


def max_block_time(wait: float) -> float:
    """Return how long a read may block, in s: not too long, since nothing interrupts it."""
    return min(wait, LONGEST_READ)


def yield_while(condition: Callable[[], bool]) -> None:
    """Yield to other threads again and again, as long as a condition holds.

    Args:
        condition: called each time.
    """
    time.sleep(0)
    while condition():
        time.sleep(0)


class OneShot:
    """An event with a single waiter.

    There is one for every request, so it is cheaper than an `Event`.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiter."""
        # Unlocked if it was set before.
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float) -> None:
        """Wait until it is set, `timeout` seconds at most."""
        self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class Semaphore:
    """Limits concurrent users; cheaper than `threading.Semaphore`, which is written in Python.

    Args:
        initial_value: maximum number of concurrent users.
    """

    def __init__(self, initial_value: int) -> None:
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(initial_value):
            self._permits.put(None)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait while there are as many users as allowed."""
        self._permits.get()

    def release(self) -> None:
        """Let the next user in."""
        self._permits.put(None)


class Queue(Generic[T]):
    """A bounded queue from several `BackgroundTask` producers to one consumer.

    Args:
        size: maximum number of items; `put` waits while it is full.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item, and wait while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float) -> T | None:
        """Remove and return an item, or None after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """Let `put` wait no longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class BackgroundTask:
    """Run a function in the background until it is stopped, and log its exceptions.

    Args:
        run: the function; gets an `Event` that is set when it has to return.
        name: name of the task or thread.
    """

    def __init__(self, run: Callable[[Event], None], name: str) -> None:
        self._run = run
        self._name = name
        self._stopping = Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, with the starter's context variables."""
        context = contextvars.copy_context()
        # A daemon, so that a program that forgets to close a generator can still exit.
        self._thread = threading.Thread(
            target=context.run, args=(self._run_logged,), name=self._name, daemon=True
        )
        self._thread.start()

    def interrupt(self) -> None:
        """Ask it to return; a thread can't be interrupted while it waits."""
        self._stopping.set()

    def stop(self) -> None:
        """Ask it to return, and wait until it is done; its bounded reads keep that short."""
        self.interrupt()
        # While Python finalizes, daemon threads are frozen. A thread whose start was interrupted
        # returns as soon as it begins.
        if sys.is_finalizing() or self._thread is None or not self._thread.is_alive():
            return
        self._thread.join(JOIN_TIMEOUT)
        if self._thread.is_alive():
            logger.error("%s did not end within %.0f s.", self._name, JOIN_TIMEOUT)

    def _run_logged(self) -> None:
        try:
            self._run(self._stopping)
        except Exception:
            logger.exception("%s failed.", self._name)


class Refresher(Generic[T]):
    """Keeps a list up to date, once a second, as long as anything refers to it.

    Args:
        read: reads the items; None leaves the list as it is. Exceptions are logged.
        name: name of the task.
    """

    # Only taskiq's scheduler looks at a list again and again, which runs on asyncio.

    def __init__(self, read: Callable[[], list[T] | None], name: str) -> None:
        pass

    def publish(self, items: list[T]) -> list[T]:
        """Return the items."""
        return items

    def stop(self) -> None:
        """Do nothing."""


#: a background task is a thread already
WorkerThread = BackgroundTask


if sys.version_info >= (3, 11):
    # It costs no frame on the path of every command.
    from operator import call as cancellable
else:

    def cancellable(call: Callable[..., T], *args: Any) -> T:
        """Run a call; threads can't be cancelled.

        Args:
            call: a function that talks to Redis.
            args: its arguments.
        """
        return call(*args)


def run_shielded(call: Callable[[], T], salvage: Callable[[T], None]) -> T:  # noqa: ARG001 - see `aio`
    """Run a call that removes data from Redis; threads can't be cancelled.

    Args:
        call: the call.
        salvage: not called.
    """
    return call()
