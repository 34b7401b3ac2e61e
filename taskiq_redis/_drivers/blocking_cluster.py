"""A blocking cluster client that copes with moving slots, dead nodes and new addresses."""

from collections.abc import Callable
from functools import partial
from typing import Any

from redis import RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import PRIMARY, ClusterNode
from redis.connection import parse_url
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from taskiq_redis._core.addresses import startup_addresses

__all__ = ["make_cluster", "restore_startup_nodes"]

#: number of nodes that are asked about the server's commands, when some are down
ATTEMPTS = 3


def make_cluster(url: str, **options: Any) -> RedisCluster:
    """Build a client of the cluster that has a node at a URL, and load its slots."""
    make: Any = _Cluster.from_url  # untyped in redis-py, like all of it
    retry = options.get("retry")
    if retry is not None:
        options["retry"] = Retry(NoBackoff(), max(ATTEMPTS, retry.get_retries()))
    client: _Cluster = make(url, **options)
    if retry is not None:
        client.retry = retry
    parse: Any = parse_url
    client.addresses = startup_addresses(parse(url), options)
    manager: Any = client.nodes_manager
    manager.initialize = partial(_load_slots, manager, manager.initialize)
    return client


def _load_slots(manager: Any, load: Callable[..., None], *args: Any, **options: Any) -> None:
    """Load the slots again, over new connections.

    This follows an error after which idle connections may be dead; each would cost a timeout.

    Args:
        manager: redis-py's manager of nodes.
        load: its method that loads the slots.
        args: its arguments.
        options: its arguments.
    """
    for node in tuple(manager.nodes_cache.values()):
        if node.redis_connection is not None:
            pool = node.redis_connection.connection_pool
            with pool._lock:
                for connection in getattr(pool, "_available_connections", ()):
                    connection.disconnect()
    load(*args, **options)


def restore_startup_nodes(client: RedisCluster) -> None:
    """Let a client load its slots from the configured address, too, not only from known nodes.

    All nodes may have got new addresses, which redis-py would never find.

    Args:
        client: a client whose slots could not be loaded.
    """
    make: Any = ClusterNode
    for host, port in getattr(client, "addresses", ()):
        node = make(host, port)
        client.nodes_manager.startup_nodes.setdefault(node.name, node)


class _Cluster(RedisCluster):
    """A client of a cluster."""

    #: host and port of the configured nodes
    addresses: tuple[tuple[str, int], ...] = ()

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> Any:
        """Return a node; one that ASK names need not have slots yet.

        Args:
            host: its host.
            port: its port.
            node_name: its name, instead of the other two.
        """
        manager: Any = self.nodes_manager
        make: Any = ClusterNode
        if node_name is None:
            return manager.get_node(host, port)
        host, _, own_port = node_name.rpartition(":")
        node = make(*manager.remap_host_port(host, int(own_port)), PRIMARY)
        return manager.nodes_cache.setdefault(node.name, node)

    def _get_command_keys(self, *args: Any) -> Any:
        """Return the keys of a command; if the default node is down, ask others about it."""
        get: Any = super()._get_command_keys
        for attempt in range(ATTEMPTS):
            try:
                return get(*args)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                if attempt == ATTEMPTS - 1:
                    raise
                self.replace_default_node()
        raise AssertionError  # the loop above has returned or raised; type checkers don't see it
