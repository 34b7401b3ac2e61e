"""Concurrency for the async twin: anyio, and asyncio where a task must outlive its starter."""

import asyncio
import concurrent.futures
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from traceback import walk_tb
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisError
from redis.utils import HIREDIS_AVAILABLE

from taskiq_redis._core.locks import ForkSafeLock
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

sleep = anyio.sleep

#: s; after which a task is cancelled once more. Before Python 3.12, `asyncio.wait_for`, by which
#: redis-py sends, forgets a cancellation that comes at the moment when it is done.
CANCEL_AGAIN = 1.0 if sys.version_info < (3, 12) else None

#: s; how long closing a client in good order may take
CLOSE_TIMEOUT = 5.0
#: s; how long `OwnThread.stop` waits for its thread
JOIN_TIMEOUT = 10.0


#: which process, and which event loop in it, if any
Owner = tuple[int, asyncio.AbstractEventLoop | None]


def current_owner() -> Owner:
    """Return what connections belong to: this process, and the event loop that runs, if any."""
    try:
        return process_id(), asyncio.get_running_loop()
    except RuntimeError:
        return no_loop()


def no_loop() -> Owner:
    """Return the owner of what is made outside of an event loop."""
    return process_id(), None


def is_owner_gone(owner: Any) -> bool:
    """Tell whether connections of an owner can't be used any more."""
    process, loop = owner
    return process != process_id() or (loop is not None and loop.is_closed())


def on_owner_shutdown(run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a function when the running event loop shuts down, as it does in `asyncio.run`.

    Args:
        run: what to run; not if the loop is closed without ``shutdown_asyncgens()``.

    Returns:
        What to call when that isn't needed any more.
    """
    # Generators are all that a loop tells of its end.
    armed = [run]
    generator = _at_end(armed)
    with contextlib.suppress(StopIteration):
        generator.asend(None).send(None)

    def disarm() -> None:
        armed.clear()
        with contextlib.suppress(StopIteration):
            generator.aclose().send(None)

    return disarm


async def _at_end(armed: list[Callable[[], Awaitable[None]]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for run in armed:
            await run()


def on_task_done(run: Callable[[bool], None]) -> None:
    """Call a function when the task that runs at the moment has ended.

    Args:
        run: gets whether the task has failed, or was cancelled.
    """
    task = asyncio.current_task()
    if task is not None:
        # Who asks for the exception is told of it elsewhere, too: this must not be the only one.
        task.add_done_callback(lambda done: run(done.cancelled() or done._exception is not None))


def current_task() -> object:
    """Return what runs at the moment: the task."""
    return asyncio.current_task()


def max_block_time(wait: float) -> float:
    """Return for how many of so many seconds a read may block: all, as a task can be cancelled."""
    return wait


def as_connection_loss(error: TypeError | RuntimeError) -> UnsentError | None:
    """Return what an error means that is raised when something is written to a closed connection.

    Python 3.12 and early versions of 3.13 raise a TypeError (python/cpython#136234), and uvloop a
    RuntimeError.
    """
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, TypeError):
        codes, where = codes[-1:], "selector_events.py"
    else:
        # Whatever uvloop's own frames are called, they are beneath these.
        where = "streams.py"
    for code in codes:
        if code.co_name == "writelines" and code.co_filename.endswith(where):
            return UnsentError("Connection closed by server.")
    return None


async def initialize(client: RedisCluster) -> None:
    """Make a cluster client learn its slots, before many tasks use it at once."""
    _ = await client.initialize()


async def disconnect(client: Redis | RedisCluster) -> None:
    """Close a client and all its connections: in good order, or at once if that is cancelled."""
    try:
        with anyio.move_on_after(CLOSE_TIMEOUT):
            await (_close_cluster if isinstance(client, RedisCluster) else _close_redis)(client)
    finally:
        drop_connections(client)


async def _close_cluster(client: Any) -> None:
    await client.aclose()
    # One that is about to learn its slots anew takes itself for closed, and closes nothing.
    for nodes in ("nodes_cache", "startup_nodes"):
        await client.nodes_manager.aclose(nodes)


async def _close_redis(client: Any) -> None:
    # Closing a client leaves the connections in its pool open, and its sentinels.
    await client.aclose()
    pool = client.connection_pool
    await pool.disconnect()
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def drop_connections(client: Redis | RedisCluster) -> None:
    """Close all connections of a client, which may belong to a loop that is closed or not ours.

    Nothing is sent, and nothing waited for.
    """
    if isinstance(client, RedisCluster):
        client._initialize = True  # or it complains when it is collected
    for connection in _connections_of(client):
        writer = connection._writer
        connection._writer = connection._reader = None
        if writer is not None:
            _abandon_stream(writer)


def _connections_of(client: Any) -> Iterator[Any]:
    if isinstance(client, RedisCluster):
        for nodes in (client.nodes_manager.nodes_cache, client.nodes_manager.startup_nodes):
            for node in nodes.values():
                yield from node._connections
        return
    pool = client.connection_pool
    yield from (*pool._available_connections, *pool._in_use_connections)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            yield from _connections_of(sentinel)


#: streams of the parent process's uvloop, kept for ever: closing them touches what both share
_inherited: list[asyncio.StreamWriter] = []


def _abandon_stream(writer: Any) -> None:
    if current_owner() == (process_id(), writer._loop):
        writer.transport.abort()
        return
    transport = writer.transport
    tls = getattr(transport, "_ssl_protocol", None)
    plain = getattr(tls, "_transport", None) or transport
    sock = getattr(plain, "_sock", None)
    if sock is None:
        # One of uvloop, which closes its sockets together with the loop.
        if not writer._loop.is_closed():
            _inherited.append(writer)
        return
    # Not by the transport: its loop doesn't run, or shares its selector with that of a parent.
    plain._sock, plain._closing = None, True
    if tls is not None:
        transport._closed = True
    sock.close()


async def yield_while(goes_on: Callable[[], bool]) -> None:
    """Let everything else go on, again and again while that is wanted.

    Args:
        goes_on: is asked each time.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def look() -> None:
        # The caller, who may be deep in other calls, isn't woken for that.
        if over.done():
            return
        if goes_on():
            loop.call_soon(look)
        else:
            over.set_result(None)

    loop.call_soon(look)
    await over


#: how hiredis encodes text
HIREDIS_ENCODING = ("utf-8", "strict")

_serializer: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else None


class _Pool(BlockingConnectionPool):
    """A pool that keeps connections at hand for whoever comes next; they count as in use.

    For every command, redis-py's takes locks, sets a time limit and tells of what it does.

    Args:
        options: go to redis-py's pool.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # While anybody waits in redis-py's queue for one, nothing is put here.
        self._at_hand: list[AbstractConnection] = []
        #: those who are in redis-py's queue
        self._queued: list[None] = []
        # redis-py logs in anew by such a one when a connection is released.
        self._keeps = options.get("credential_provider") is None

    async def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - nor does redis-py use them any more
        *keys: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> AbstractConnection:
        """Return a connection that is connected.

        Args:
            command_name: without effect.
            keys: without effect.
            options: without effect.
        """
        while self._at_hand:
            kept, ready = self._at_hand.pop(), False
            try:
                ready = await is_ready(kept)
                if ready:
                    return kept
                # redis-py might use it as it is.
                await kept.disconnect(nowait=True)
            finally:
                if not ready:
                    await super().release(kept)
        self._queued.append(None)
        try:
            get: Any = super().get_connection  # untyped in redis-py
            connection: AbstractConnection = await get()
        finally:
            self._queued.pop()
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back.

        Args:
            connection: what `get_connection` returned.
        """
        if self._keeps and not self._queued and connection.is_connected:
            self._at_hand.append(connection)
        else:
            await super().release(connection)


async def is_ready(connection: Any) -> bool:
    """Tell whether a connection can be used: it is there, and nothing has come that nobody read."""
    if not connection.is_connected or connection.should_reconnect():
        return False
    try:
        # What redis-py 8 calls it, and version 7.
        can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
        return not await can_read()
    except (OSError, RedisError):
        return False


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


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Build a pool of connections to what a URL names."""
    options.setdefault("connection_class", _Connection)
    return _Pool.from_url(url, **options)


class _Connection(Connection):
    """A connection that sets a time limit for sending only where that has to wait.

    Args:
        options: go to redis-py's connection.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command.

        Args:
            command: its bytes.
            check_health: whether to ask first whether the server is there, if it is time to.
        """
        writer = self._writer
        if writer is None or self.health_check_interval or isinstance(command, (bytes, str)):
            await super().send_packed_command(command, check_health)
            return
        try:
            writer.writelines(command)
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if writer.transport.get_write_buffer_size() > 0:
            # It waits until there is room for what is next.
            await super().send_packed_command((), check_health=False)

    if HIREDIS_AVAILABLE:

        def pack_command(self, *args: Any) -> list[bytes]:
            """Return the bytes of a command, made by C code, as on the blocking side."""
            encoder = self.encoder
            if (encoder.encoding, encoder.encoding_errors) != HIREDIS_ENCODING:
                return super().pack_command(*args)
            packed: list[bytes] = _serializer.pack(*args)
            return packed


class OneShot:
    """What one caller waits for, and others bring about.

    There is one for every command, so it does without what makes an `Event` expensive.
    """

    __slots__ = ("_come", "_waiting")

    def __init__(self) -> None:
        self._come = False
        self._waiting: asyncio.Future[None] | None = None

    def come(self) -> None:
        """Let it come."""
        self._come = True
        if self._waiting is not None:
            _wake(self._waiting)

    async def wait(self, timeout: float) -> None:
        """Wait for it, or for `timeout` seconds."""
        if self._come:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(timeout, _wake, self._waiting)
        try:
            await self._waiting
        finally:
            timer.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Semaphore:
    """Lets at most `size` users in at a time; the others wait for their turn."""

    def __init__(self, size: int) -> None:
        self._semaphore = anyio.Semaphore(size, fast_acquire=True)

    async def __aenter__(self) -> None:
        try:
            self._semaphore.acquire_nowait()
        except anyio.WouldBlock:
            await self._semaphore.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._semaphore.release()


class Queue(Generic[T]):
    """Hands items from `BackgroundTask` readers to one consumer, which they wait for.

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


class BackgroundTask:
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

    def interrupt(self) -> None:
        """Ask it to end, and interrupt it where it waits."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Interrupt it, and wait until it has ended."""
        self.interrupt()
        if self._task is not None:
            await _end(self._task)

    async def _guarded(self) -> None:
        try:
            await self._run(self._stopping)
        except Exception:
            logger.exception("%s failed.", self._name)


class WorkerThread:
    """Runs a function in a thread of its own until it is stopped, and logs what it raises.

    So it goes on while its starter is busy with something else.

    Args:
        run: gets an `Event` that is set when it has to end.
        name: for logs and debuggers.
    """

    def __init__(self, run: Callable[[Event], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._guard = ForkSafeLock()
        self._interrupted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: Event | None = None
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start(self) -> None:
        """Start it."""
        # A daemon, so that a program that forgets to shut down can end all the same.
        threading.Thread(target=self._main, name=self._name, daemon=True).start()

    def interrupt(self) -> None:
        """Ask it to end; any thread may do so."""
        with self._guard:
            self._interrupted = True
            # That of a loop that has ended meanwhile can't be set any more, and needn't be.
            if self._loop is not None and self._stopping is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._stopping.set)

    async def stop(self) -> None:
        """Ask it to end, and wait until it has ended."""
        self.interrupt()
        ended, _ = await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=JOIN_TIMEOUT)
        if not ended:
            logger.error("%s did not end within %.0f s.", self._name, JOIN_TIMEOUT)

    def _main(self) -> None:
        try:
            asyncio.run(self._guarded())
        except Exception:
            logger.exception("%s failed.", self._name)
        finally:
            self._ended.set_result(None)

    async def _guarded(self) -> None:
        stopping = Event()
        with self._guard:
            self._loop, self._stopping = asyncio.get_running_loop(), stopping
            if self._interrupted:
                stopping.set()
        await self._run(stopping)


async def cancellable(call: Callable[[], Awaitable[T]]) -> T:
    """Wait for a call, and let no cancellation get lost in it.

    Args:
        call: what to run; when its caller is cancelled, it is as well, until it has ended.
    """
    if CANCEL_AGAIN is None:
        return await call()
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _end(task)
        raise


async def _end(task: "asyncio.Future[Any]") -> None:
    """Cancel a task, and wait for its end, also if the caller is cancelled meanwhile."""
    cancelled = False
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=CANCEL_AGAIN)
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()  # or asyncio would complain that nobody asked for it
    if cancelled:
        raise asyncio.CancelledError


async def run_shielded(
    call: Callable[[], Coroutine[Any, Any, T]], salvage: Callable[[T], Awaitable[None]]
) -> T:
    """Run a call that takes something out of Redis; it isn't cut short when it is cancelled.

    Its caller then waits for its end, and is cancelled after that.

    Args:
        call: what to run.
        salvage: gets what the call returned too late for its caller.
    """
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _to_its_end(asyncio.ensure_future(_rescue(task, salvage)))
        raise


async def _to_its_end(task: "asyncio.Task[None]") -> None:
    """Wait for a task, however often that is cancelled."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])


async def _rescue(task: "asyncio.Task[T]", salvage: Callable[[T], Awaitable[None]]) -> None:
    try:
        await salvage(await task)
    except Exception:
        logger.exception("What arrived after its reader was cancelled could not be put back.")
