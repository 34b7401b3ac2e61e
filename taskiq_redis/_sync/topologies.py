# Generated from taskiq_redis/_async/topologies.py by scripts/unasync.py; edit that.

"""Attributes by which 1.2.4 gave access to the clients of an object, by topology."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import BlockingConnectionPool, Redis, RedisCluster, Sentinel

from taskiq_redis._core.addresses import SentinelMaster
from taskiq_redis._sync.clients import sentinel_of
from taskiq_redis._sync.connection import Connection


class OnSingleNode:
    """Attributes of objects on one Redis server."""

    _connection: Connection

    @property
    def connection_pool(self) -> BlockingConnectionPool:
        """The connection pool for commands; a pool that you set is used until `shutdown`."""
        client: Any = self._connection.client
        pool: BlockingConnectionPool = client.connection_pool
        return pool

    @connection_pool.setter
    def connection_pool(self, pool: BlockingConnectionPool) -> None:
        self._connection.use(Redis(connection_pool=pool))

    @property
    def redis_pool(self) -> BlockingConnectionPool:
        """The connection pool, under its name in the result backends of 1.2.4."""
        return self.connection_pool

    @redis_pool.setter
    def redis_pool(self, pool: BlockingConnectionPool) -> None:
        self.connection_pool = pool


class OnCluster:
    """Attributes of objects on a Redis Cluster."""

    _connection: Connection

    @property
    def redis(self) -> RedisCluster:
        """The client for commands; a client that you set is used until `shutdown`."""
        client = self._connection.client
        if not isinstance(client, RedisCluster):
            raise TypeError(client)
        return client

    @redis.setter
    def redis(self, client: RedisCluster) -> None:
        self._connection.use(client)


class OnSentinel:
    """Attributes of objects on a master that sentinels monitor."""

    _connection: Connection

    @property
    def sentinel(self) -> Sentinel:
        """The Sentinel client; one that you set is used until `shutdown`."""
        return sentinel_of(self._connection.client)

    @sentinel.setter
    def sentinel(self, sentinel: Sentinel) -> None:
        master_for: Any = sentinel.master_for  # untyped in redis-py
        self._connection.use(master_for(self.master_name))

    @property
    def master_name(self) -> str:
        """The name of the master in the sentinels' configuration."""
        server = self._connection.server
        if not isinstance(server, SentinelMaster):
            raise TypeError(server)
        return server.master_name

    @contextmanager
    def _acquire_master_conn(self) -> Iterator[Redis]:
        """Yield the client for commands, for subclasses that were written for 1.2.4."""
        client: Any = self._connection.client
        yield client
