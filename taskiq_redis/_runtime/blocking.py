"""Concurrency for the blocking twin: the names of `aio`, on threads."""

import contextvars

# The first connection would import it, and a fork meanwhile leave it locked for ever in the child.
import encodings.idna  # noqa: F401
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

from redis import BlockingConnectionPool, Redis, RedisCluster
from redis.exceptions import RedisError
from redis.sentinel import SentinelConnectionPool

from taskiq_redis._core.process import process_id
from taskiq_redis._core.redis_errors import UnsentError

__all__ = [
    "BackgroundTask",
    "Event",
    "OneShot",
    "Queue",
    "Semaphore",
    "WorkerThread",
    "as_connection_loss",
    "cancellable",
    "current_owner",
    "current_task",
    "disconnect",
    "drop_connections",
    "initialize",
    "is_owner_gone",
    "is_ready",
    "make_pool",
    "max_block_time",
    "no_loop",
    "on_owner_shutdown",
    "on_task_done",
    "run_shielded",
    "sleep",
    "yield_while",
]

logger = logging.getLogger("taskiq_redis")

T = TypeVar("T")

sleep = time.sleep

#: s; how long a read blocks at most, as nothing interrupts it: so long takes a stop
LONGEST_READ = 1.0
#: s; how long `Background.stop` waits for its thread
JOIN_TIMEOUT = 10.0


def current_owner() -> int:
    """Return what connections belong to: the process, so that a forked child makes its own."""
    return process_id()


def no_loop() -> object:
    """Return the owner of what is made outside of a process, which nothing is."""
    return None


def is_owner_gone(owner: Any) -> bool:
    """Tell whether connections of an owner can't be used any more: not in a child of its."""
    return bool(owner != process_id())


def on_owner_shutdown(run: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG001 - see `aio`
    """Do nothing: the end of a process closes its connections.

    Args:
        run: what could be run then.

    Returns:
        What to call when that isn't needed any more.
    """
    return lambda: None


def on_task_done(run: Callable[[bool], None]) -> None:
    """Do nothing: a thread isn't a task, and may do several."""


def current_task() -> object:
    """Return what runs at the moment: the thread."""
    return threading.get_ident()


def max_block_time(wait: float) -> float:
    """Return for how many of so many seconds a read may block, so that a stop comes through."""
    return min(wait, LONGEST_READ)


def as_connection_loss(error: TypeError | RuntimeError) -> UnsentError | None:  # noqa: ARG001 - see `aio`
    """Return None: sockets say themselves what is wrong."""
    return None


def initialize(client: RedisCluster) -> None:
    """Do nothing: a blocking cluster client learns its slots in its constructor."""


def disconnect(client: Redis | RedisCluster) -> None:
    """Close a client and all its connections."""
    # Closing a client leaves the connections in its pools open.
    if isinstance(client, RedisCluster):
        cluster: Any = client  # untyped in redis-py
        cluster.disconnect_connection_pools()
        client.close()
        return
    client.close()
    pool = client.connection_pool
    pool.disconnect()
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


def drop_connections(client: Redis | RedisCluster) -> None:
    """Let go of a client of the parent process; redis-py sees that it is, and sends nothing."""


def yield_while(goes_on: Callable[[], bool]) -> None:
    """Let other threads go on, again and again while that is wanted.

    Args:
        goes_on: is asked each time.
    """
    time.sleep(0)
    while goes_on():
        time.sleep(0)


class Event:
    """Something that happens once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Let it happen."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it, `timeout` seconds at most, and tell whether it has happened."""
        return self._event.wait(timeout)


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Build a pool of connections to what a URL names."""
    pool: BlockingConnectionPool = _Pool.from_url(url, **options)
    return pool


class _Queue(queue.LifoQueue[Any]):
    """A queue that a signal handler may use though it has interrupted another use of it."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.mutex = threading.RLock()  # type: ignore[assignment]
        self.not_empty = threading.Condition(self.mutex)
        self.not_full = threading.Condition(self.mutex)
        self.all_tasks_done = threading.Condition(self.mutex)


class _Pool(BlockingConnectionPool):
    """A pool that keeps connections at hand for whoever comes next; they count as in use.

    For every command, redis-py's takes locks, sets a time limit and tells of what it does.

    Args:
        options: go to redis-py's pool.
    """

    def __init__(self, **options: Any) -> None:
        init: Any = super().__init__  # untyped in redis-py, like all of it
        init(**{"queue_class": _Queue, **options})
        # redis-py logs in anew by such a one, or looks at its cache, when a connection is released.
        self._keeps = options.get("credential_provider") is None and self.cache is None

    def reset(self) -> None:
        """Begin without connections, also in a child of this process."""
        # Each is taken and put there in one step: no thread or signal handler can come between.
        self._at_hand: list[Any] = []
        #: those who are in redis-py's queue
        self._queued: list[None] = []
        reset: Any = super().reset
        reset()

    def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - nor does redis-py use them any more
        *keys: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> Any:
        """Return a connection that is connected.

        Args:
            command_name: without effect.
            keys: without effect.
            options: without effect.
        """
        self._checkpid()
        kept = self._ready()
        if kept is not None:
            return kept
        queued = self._queued
        queued.append(None)
        try:
            # One may have been put there before that was seen.
            kept = self._ready()
            if kept is not None:
                return kept
            get: Any = super().get_connection
            return get()
        finally:
            queued.pop()

    def release(self, connection: Any) -> None:
        """Take a connection back.

        Args:
            connection: what `get_connection` returned.
        """
        if self._queued or not self._keeps or not self._may_keep(connection):
            self._put_back(connection)
            return
        self._at_hand.append(connection)
        # Whoever is queued since doesn't look there any more.
        if self._queued and (kept := self._take()) is not None:
            self._put_back(kept)

    def _may_keep(self, connection: Any) -> bool:
        # Not if it, or this pool, is a parent's.
        return connection._sock is not None and connection.pid == self.pid == process_id()

    def _ready(self) -> Any:
        """Take one that is at hand and can be used, or None."""
        while (kept := self._take()) is not None:
            ready = False
            try:
                ready = is_ready(kept)
                if ready:
                    return kept
                # redis-py might use it as it is.
                kept.disconnect()
            finally:
                if not ready:
                    self._put_back(kept)
        return None

    def _take(self) -> Any:
        try:
            return self._at_hand.pop()
        except IndexError:
            return None

    def _put_back(self, connection: Any) -> None:
        release: Any = super().release
        release(connection)


def is_ready(connection: Any) -> bool:
    """Tell whether a connection can be used: it is there, and nothing has come that nobody read."""
    if connection._sock is None or connection.should_reconnect():
        return False
    try:
        return not connection.can_read()
    except (OSError, RedisError):
        return False


class OneShot:
    """What one caller waits for, and others bring about.

    There is one for every command, so it does without what makes an `Event` expensive.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def come(self) -> None:
        """Let it come."""
        # It may have come before.
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float) -> None:
        """Wait for it, or for `timeout` seconds."""
        self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class Semaphore:
    """Lets at most `size` users in at a time; the others wait for their turn."""

    def __init__(self, size: int) -> None:
        # Not a semaphore, whose lock a signal handler would wait for that has interrupted it.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._places.put(None)

    def __enter__(self) -> None:
        self._places.get()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._places.put(None)


class Queue(Generic[T]):
    """Hands items from `BackgroundTask` readers to one consumer, which they wait for.

    Args:
        size: most items that wait in it; whoever puts more has to wait.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item when there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float) -> T | None:
        """Take an item, or None if there is none for `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """Let nobody wait any more for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class BackgroundTask:
    """Runs a function beside its starter until it is stopped, and logs what it raises.

    Args:
        run: gets an `Event` that is set when it has to end.
        name: for logs and debuggers.
    """

    def __init__(self, run: Callable[[Event], None], name: str) -> None:
        self._run = run
        self._name = name
        self._stopping = Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, with the starter's context variables."""
        context = contextvars.copy_context()
        # A daemon, so that a program that forgets to close a generator can end all the same.
        self._thread = threading.Thread(
            target=context.run, args=(self._guarded,), name=self._name, daemon=True
        )
        self._thread.start()

    def interrupt(self) -> None:
        """Ask it to end; a thread can't be interrupted where it waits."""
        self._stopping.set()

    def stop(self) -> None:
        """Ask it to end, and wait until it has ended, which its bounded reads keep short."""
        self.interrupt()
        # When Python itself ends, threads stand still for ever. And one whose start this signal
        # handler has interrupted ends as soon as it begins.
        if sys.is_finalizing() or self._thread is None or not self._thread.is_alive():
            return
        self._thread.join(JOIN_TIMEOUT)
        if self._thread.is_alive():
            logger.error("%s did not end within %.0f s.", self._name, JOIN_TIMEOUT)

    def _guarded(self) -> None:
        try:
            self._run(self._stopping)
        except Exception:
            logger.exception("%s failed.", self._name)


class WorkerThread(BackgroundTask):
    """Runs a function in a thread of its own until it is stopped, and logs what it raises.

    So it goes on while its starter is busy with something else.

    Args:
        run: gets an `Event` that is set when it has to end.
        name: for logs and debuggers.
    """


def cancellable(call: Callable[[], T]) -> T:
    """Run a call; a thread isn't cancelled meanwhile."""
    return call()


def run_shielded(call: Callable[[], T], salvage: Callable[[T], None]) -> T:  # noqa: ARG001 - see `aio`
    """Run a call that takes something out of Redis; a thread isn't cancelled meanwhile."""
    return call()
