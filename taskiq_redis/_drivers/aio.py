"""Pools, sending and closing of connections, for redis-py's asyncio clients."""

import asyncio
from collections.abc import Iterable, Iterator
from traceback import walk_tb
from typing import Any, TypeVar

import anyio
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisError
from redis.utils import HIREDIS_AVAILABLE

from taskiq_redis._core.process import process_id
from taskiq_redis._core.redis_errors import REDIS_ERRORS, UnsentError, as_outage
from taskiq_redis._runtime.aio import current_owner

__all__ = [
    "SafeProvider",
    "as_connection_loss",
    "disconnect",
    "drop_connections",
    "initialize",
    "is_ready",
    "make_pool",
    "mark_for_reconnect",
    "register",
]

AnyClient = TypeVar("AnyClient", Redis, RedisCluster)

#: s; how long closing a client may take; after that, only its sockets are closed
CLOSE_TIMEOUT = 5.0


def as_connection_loss(error: TypeError | RuntimeError) -> UnsentError | None:
    """Return an error that means a closed connection as `UnsentError`, or None for any other one.

    When a closed transport is written to, Python 3.12 and early versions of 3.13 raise a TypeError
    (python/cpython#136234), and uvloop a RuntimeError.

    Args:
        error: raised while a command was sent.
    """
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, TypeError):
        codes, where = codes[-1:], "selector_events.py"
    else:
        # Below this frame of asyncio are uvloop's, whose names differ by version.
        where = "streams.py"
    for code in codes:
        if code.co_name == "writelines" and code.co_filename.endswith(where):
            return UnsentError("Connection closed by server.")
    return None


class SafeProvider:
    """A credential provider whose exceptions redis-py understands.

    After any other one, redis-py would go on with the connection, without a user.

    Args:
        provider: the user's credential provider, of any kind.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    @property
    def __class__(self) -> type[Any]:
        """The class of the user's provider, which decides what redis-py does with it."""
        return type(self._provider)

    @__class__.setter
    def __class__(self, _: type[Any]) -> None:
        raise AttributeError("__class__")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    async def get_credentials_async(self) -> Any:
        """Return the credentials."""
        try:
            return await self._provider.get_credentials_async()
        except REDIS_ERRORS:
            raise
        except Exception as error:
            raise as_outage(error, unsent=True) from error


async def initialize(client: RedisCluster) -> None:
    """Load the slots of a cluster client, before its first command and before concurrent tasks.

    Otherwise, its first command goes to any node, which redirects it past `address_remap`.
    """
    _ = await client.initialize()


async def disconnect(client: Redis | RedisCluster) -> None:
    """Close a client and all its connections; if cancelled, close them at once."""
    try:
        with anyio.move_on_after(CLOSE_TIMEOUT):
            await (_close_cluster if isinstance(client, RedisCluster) else _close_redis)(client)
    finally:
        drop_connections(client)


async def _close_cluster(client: Any) -> None:
    await client.aclose()
    # `aclose` closes nothing while the cluster client reloads its slots.
    for nodes in ("nodes_cache", "startup_nodes"):
        await client.nodes_manager.aclose(nodes)


async def _close_redis(client: Any) -> None:
    # Closing a client leaves the connections of its pool and of its sentinels open.
    await client.aclose()
    pool = client.connection_pool
    await pool.disconnect()
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def drop_connections(client: Redis | RedisCluster) -> None:
    """Close the sockets of a client at once, without sending anything or waiting.

    Its event loop may be closed, or another one than the running loop.
    """
    if isinstance(client, RedisCluster):
        client._initialize = True  # or it warns when it is garbage-collected
    for connection in _connections_of(client):
        writer = connection._writer
        connection._writer = connection._reader = None
        if writer is not None:
            _drop_stream(writer)


def mark_for_reconnect(client: Redis | RedisCluster) -> None:
    """Let each connection of a client connect again, once its command in flight is done."""
    for connection in tuple(_connections_of(client)):
        connection.mark_for_reconnect()


def register(client: AnyClient) -> AnyClient:
    """Return the client; a forked child calls `drop_connections` itself, unlike in `blocking`.

    Args:
        client: a new client.
    """
    return client


def _connections_of(client: Any) -> Iterator[Any]:
    if isinstance(client, RedisCluster):
        for nodes in (client.nodes_manager.nodes_cache, client.nodes_manager.startup_nodes):
            for node in tuple(nodes.values()):
                yield from tuple(node._connections)
        return
    pool = client.connection_pool
    yield from (*pool._available_connections, *pool._in_use_connections)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            yield from _connections_of(sentinel)


#: streams of the parent process's uvloop, never closed: parent and child share their sockets
_inherited: list[asyncio.StreamWriter] = []


def _drop_stream(writer: Any) -> None:
    if current_owner() == (process_id(), writer._loop):
        writer.transport.abort()
        return
    transport = writer.transport
    tls = getattr(transport, "_ssl_protocol", None)
    plain = getattr(tls, "_transport", None) or transport
    sock = getattr(plain, "_sock", None)
    if sock is None:
        # A transport of uvloop, which closes its sockets together with the loop.
        if not writer._loop.is_closed():
            _inherited.append(writer)
        return
    # `transport.close()` needs a running loop, and in a child changes the selector of the parent.
    plain._sock, plain._closing = None, True
    if tls is not None:
        transport._closed = True
    sock.close()


#: how hiredis encodes text
HIREDIS_ENCODING = ("utf-8", "strict")

_serializer: Any = HiredisRespSerializer() if HIREDIS_AVAILABLE else None


class _Pool(BlockingConnectionPool):
    """A pool that keeps idle connections in a list of its own, where they count as in use.

    For every command, redis-py's pool takes locks, sets a timeout and records metrics; reusing a
    connection from the list skips that.

    Args:
        options: passed to redis-py's pool.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: empty while a caller waits in redis-py's queue
        self._idle: list[AbstractConnection] = []
        #: one item per caller that waits in redis-py's queue
        self._queued: list[None] = []
        # With a credential provider, redis-py re-authenticates when a connection is released.
        self._keeps_released = options.get("credential_provider") is None

    async def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - redis-py ignores them, too
        *keys: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> AbstractConnection:
        """Return a connection that is connected.

        Args:
            command_name: ignored.
            keys: ignored.
            options: ignored.
        """
        while self._idle:
            kept, ready = self._idle.pop(), False
            try:
                ready = await is_ready(kept)
                if ready:
                    return kept
                # Otherwise, redis-py could use it without this check.
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
        """Put a connection back.

        Args:
            connection: returned by `get_connection`.
        """
        if self._keeps_released and not self._queued and connection.is_connected:
            self._idle.append(connection)
        else:
            await super().release(connection)


async def is_ready(connection: Any) -> bool:
    """Return whether a connection is usable: connected, with no unread data."""
    if not connection.is_connected or connection.should_reconnect():
        return False
    try:
        # Named `can_read` in redis-py 8, `can_read_destructive` in 7.
        can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
        return not await can_read()
    except (OSError, RedisError):
        return False


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Build a pool of connections to the server of a URL."""
    options.setdefault("connection_class", _Connection)
    return _Pool.from_url(url, **options)


class _Connection(Connection):
    """A connection that sets a timeout for sending only if the send buffer is full.

    Args:
        options: passed to redis-py's connection.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command.

        Args:
            command: its bytes.
            check_health: whether to send a PING first, if a health check is due.
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
            # Wait until the buffer has drained.
            await super().send_packed_command((), check_health=False)

    if HIREDIS_AVAILABLE:

        def pack_command(self, *args: Any) -> list[bytes]:
            """Return the bytes of a command, packed by hiredis as in the blocking client."""
            encoder = self.encoder
            if (encoder.encoding, encoder.encoding_errors) != HIREDIS_ENCODING:
                return super().pack_command(*args)
            packed: list[bytes] = _serializer.pack(*args)
            return packed
