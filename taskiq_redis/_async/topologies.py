"""The attributes that tell on which kind of server an object is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel

from taskiq_redis._async.connection import Connection, sentinel_of
from taskiq_redis._core.addresses import SentinelMaster


class OnSingleNode:
    """On one Redis server."""

    connection: Connection

    @property
    def connection_pool(self) -> BlockingConnectionPool:
        """The pool of the connections for commands; another one serves until `shutdown`."""
        client: Any = self.connection.client
        pool: BlockingConnectionPool = client.connection_pool
        return pool

    @connection_pool.setter
    def connection_pool(self, pool: BlockingConnectionPool) -> None:
        self.connection.use(Redis(connection_pool=pool))

    @property
    def redis_pool(self) -> BlockingConnectionPool:
        """The same pool, under the name that result backends have for it."""
        return self.connection_pool

    @redis_pool.setter
    def redis_pool(self, pool: BlockingConnectionPool) -> None:
        self.connection_pool = pool


class OnCluster:
    """On a Redis Cluster."""

    connection: Connection

    @property
    def redis(self) -> RedisCluster:
        """The client for commands; another one serves until `shutdown`."""
        client = self.connection.client
        if not isinstance(client, RedisCluster):
            raise TypeError(client)
        return client

    @redis.setter
    def redis(self, client: RedisCluster) -> None:
        self.connection.use(client)


class OnSentinel:
    """On the master that a group of sentinels watches."""

    connection: Connection

    @property
    def sentinel(self) -> Sentinel:
        """The sentinels that are asked for the master; others serve until `shutdown`."""
        return sentinel_of(self.connection.client)

    @sentinel.setter
    def sentinel(self, sentinel: Sentinel) -> None:
        master_for: Any = sentinel.master_for  # untyped in redis-py
        self.connection.use(master_for(self.master_name))

    @property
    def master_name(self) -> str:
        """The name under which the sentinels know the master."""
        server = self.connection.server
        if not isinstance(server, SentinelMaster):
            raise TypeError(server)
        return server.master_name

    @asynccontextmanager
    async def _acquire_master_conn(self) -> AsyncIterator[Redis]:
        """Lend the client for commands, as subclasses of 1.2.4's classes expect it."""
        client: Any = self.connection.client
        yield client
