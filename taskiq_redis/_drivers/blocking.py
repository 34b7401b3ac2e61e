"""Pools and closing of connections, for redis-py's blocking clients, with the names of `aio`."""

import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

from redis import BlockingConnectionPool, Redis, RedisCluster
from redis.exceptions import RedisError
from redis.sentinel import SentinelConnectionPool

from taskiq_redis._core.process import process_id
from taskiq_redis._core.redis_errors import UnsentError
from taskiq_redis._drivers.blocking_cluster import make_cluster, restore_startup_nodes
from taskiq_redis._drivers.blocking_credentials import (
    SafeProvider,
    find_rotating,
    follow_rotation,
)
from taskiq_redis._drivers.sockets import silence_of

__all__ = [
    "SafeProvider",
    "as_connection_loss",
    "disconnect",
    "drop_connections",
    "find_rotating",
    "follow_rotation",
    "initialize",
    "is_ready",
    "make_cluster",
    "make_pool",
    "mark_for_reconnect",
    "register",
    "restore_startup_nodes",
]

AnyClient = TypeVar("AnyClient", Redis, RedisCluster)

#: all clients, whose sockets a forked child closes
_clients: "weakref.WeakSet[Redis | RedisCluster]" = weakref.WeakSet()


def as_connection_loss(error: TypeError | RuntimeError) -> UnsentError | None:  # noqa: ARG001 - see `aio`
    """Return None: blocking sockets raise OSError themselves."""
    return None


def initialize(client: RedisCluster) -> None:
    """Do nothing: a blocking cluster client loads its slots in its constructor."""


def disconnect(client: Redis | RedisCluster) -> None:
    """Close a client and all its connections."""
    # Closing a client leaves the connections of its pools open.
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
    """Do nothing: a forked child has closed the sockets of the parent process already."""


def mark_for_reconnect(client: Redis | RedisCluster, silent_for: float = 0.0) -> None:
    """Let connections of a client connect again, once their command in flight is done.

    Args:
        client: the client.
        silent_for: s; connections that have received data since then are kept.
    """
    for pool in tuple(_pools_of(client)):
        for connection in _connections_in(pool):
            # With a cache, it is the connection of a proxy.
            sock = getattr(connection, "_conn", connection)._sock
            if sock is not None and silence_of(sock) >= silent_for:
                connection.mark_for_reconnect()
        if not isinstance(pool, BlockingConnectionPool):
            # redis-py's pools would use an idle one once more.
            with pool._lock:
                for connection in pool._available_connections:
                    if connection.should_reconnect():
                        connection.disconnect()


def register(client: AnyClient) -> AnyClient:
    """Let forked children close their copies of a client's sockets, and return the client.

    redis-py leaves that to the garbage collector, which may find the sockets first and warn.

    Args:
        client: a new client.
    """
    _clients.add(client)
    return client


def _close_inherited() -> None:
    for client in tuple(_clients):
        for connection in _connections_of(client):
            # In a child, redis-py closes the socket without shutting it down for the parent.
            with suppress(Exception):
                connection.disconnect()
    _clients.clear()


def _connections_of(client: Any) -> Iterator[Any]:
    for pool in _pools_of(client):
        yield from _connections_in(pool)


def _pools_of(client: Any) -> Iterator[Any]:
    if isinstance(client, RedisCluster):
        for node in tuple(client.nodes_manager.nodes_cache.values()):
            if node.redis_connection is not None:
                yield from _pools_of(node.redis_connection)
        return
    pool = client.connection_pool
    yield pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            yield from _pools_of(sentinel)


def _connections_in(pool: Any) -> Iterator[Any]:
    # A blocking pool has the first list, other pools have the last two.
    for connections in ("_connections", "_available_connections", "_in_use_connections"):
        yield from tuple(getattr(pool, connections, ()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """Build a pool of connections to the server of a URL."""
    pool: BlockingConnectionPool = _Pool.from_url(url, **options)
    return pool


class _Pool(BlockingConnectionPool):
    """A pool that keeps idle connections in a list of its own, where they count as in use.

    For every command, redis-py's pool takes locks, sets a timeout and records metrics; reusing a
    connection from the list skips that.

    Args:
        options: passed to redis-py's pool.
    """

    def reset(self) -> None:
        """Start without connections, also in a forked child."""
        # append() and pop() are atomic, so that threads need no lock.
        self._idle: list[Any] = []
        #: one item per caller that waits in redis-py's queue
        self._queued: list[None] = []
        reset: Any = super().reset
        reset()

    def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - redis-py ignores them, too
        *keys: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> Any:
        """Return a connection that is connected.

        Args:
            command_name: ignored.
            keys: ignored.
            options: ignored.
        """
        if self.pid != process_id():
            self._checkpid()
        kept = self._ready()
        if kept is not None:
            return kept
        queued = self._queued
        queued.append(None)
        try:
            # One may have been released before `_queued` was changed.
            kept = self._ready()
            if kept is not None:
                return kept
            get: Any = super().get_connection
            return self._reconnected(get())
        finally:
            queued.pop()

    def _reconnected(self, connection: Any) -> Any:
        """Return a connection of redis-py's queue, after it has connected again if it has to."""
        if connection.should_reconnect():
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self._put_back(connection)
                raise
        return connection

    def release(self, connection: Any) -> None:
        """Put a connection back.

        Args:
            connection: returned by `get_connection`.
        """
        if self._queued or not self._may_keep(connection):
            self._put_back(connection)
            return
        self._idle.append(connection)
        # A caller queued meanwhile doesn't look at the list again.
        if self._queued and (kept := self._take()) is not None:
            self._put_back(kept)

    def _may_keep(self, connection: Any) -> bool:
        # Not if it, or this pool, belongs to the parent process.
        return connection._sock is not None and connection.pid == self.pid == process_id()

    def _ready(self) -> Any:
        """Take a usable connection from the list, or None."""
        while (kept := self._take()) is not None:
            ready = False
            try:
                ready = is_ready(kept)
                if ready:
                    return kept
                # Otherwise, redis-py could use it without this check.
                kept.disconnect()
            finally:
                if not ready:
                    self._put_back(kept)
        return None

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _put_back(self, connection: Any) -> None:
        release: Any = super().release
        release(connection)


def is_ready(connection: Any) -> bool:
    """Return whether a connection is usable: connected, with no unread data."""
    if connection._sock is None or connection.should_reconnect():
        return False
    try:
        return not connection.can_read()
    except (OSError, RedisError):
        return False
