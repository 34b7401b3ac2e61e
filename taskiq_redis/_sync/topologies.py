# Generated from taskiq_redis/_async/topologies.py by scripts/unasync.py; edit that.

"""The attributes that tell on which kind of server an object is."""

from redis import BlockingConnectionPool, RedisCluster, Sentinel

from taskiq_redis._core.servers import SentinelMaster
from taskiq_redis._sync.connection import Connection, sentinel_of


class OnSingleNode:
    """On one Redis server."""

    connection: Connection

    @property
    def connection_pool(self) -> BlockingConnectionPool:
        """The pool of the connections for commands."""
        client = self.connection.client
        pool = None if isinstance(client, RedisCluster) else client.connection_pool
        if not isinstance(pool, BlockingConnectionPool):
            raise TypeError(client)
        return pool

    @property
    def redis_pool(self) -> BlockingConnectionPool:
        """The same pool, under the name that result backends have for it."""
        return self.connection_pool


class OnCluster:
    """On a Redis Cluster."""

    connection: Connection

    @property
    def redis(self) -> RedisCluster:
        """The client for commands."""
        client = self.connection.client
        if not isinstance(client, RedisCluster):
            raise TypeError(client)
        return client


class OnSentinel:
    """On the master that a group of sentinels watches."""

    connection: Connection

    @property
    def sentinel(self) -> Sentinel:
        """The sentinels that are asked for the master."""
        return sentinel_of(self.connection.client)

    @property
    def master_name(self) -> str:
        """The name under which the sentinels know the master."""
        server = self.connection.server
        if not isinstance(server, SentinelMaster):
            raise TypeError(server)
        return server.master_name
