"""A cluster client for asyncio that copes with moving slots, dead nodes and new addresses."""

from typing import Any

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.asyncio.connection import parse_url

from taskiq_redis._core.addresses import startup_addresses
from taskiq_redis._core.redis_errors import REDIS_ERRORS

__all__ = ["make_cluster", "restore_startup_nodes"]


def make_cluster(url: str, **options: Any) -> RedisCluster:
    """Build a client of the cluster that has a node at a URL."""
    make: Any = _Cluster.from_url
    client: _Cluster = make(url, **options)
    parse: Any = parse_url  # untyped in redis-py
    client.addresses = startup_addresses(parse(url), options)
    return client


def restore_startup_nodes(client: RedisCluster) -> None:
    """Let a client load its slots from the configured address, too, not only from known nodes.

    All nodes may have got new addresses, which redis-py would never find.

    Args:
        client: a client whose slots could not be loaded.
    """
    manager: Any = client.nodes_manager
    for host, port in getattr(client, "addresses", ()):
        node = ClusterNode(host, port, **manager.connection_kwargs)
        manager.startup_nodes.setdefault(node.name, node)


class _Cluster(RedisCluster):
    """A client of a cluster.

    Args:
        options: passed to redis-py's client.
    """

    #: host and port of the configured nodes
    addresses: tuple[tuple[str, int], ...] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands_parser = _CommandsParser(self)

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> Any:
        """Return a node; one that ASK names need not have slots yet.

        Args:
            host: its host.
            port: its port.
            node_name: its name, instead of the other two.
        """
        if node_name is None:
            return super().get_node(host, port)
        manager: Any = self.nodes_manager
        host, _, own_port = node_name.rpartition(":")
        node = ClusterNode(*manager.remap_host_port(host, int(own_port)), **self.connection_kwargs)
        return _AskedNode(manager.nodes_cache.setdefault(node.name, node))


class _AskedNode:
    """A node to which a slot is moving, which executes a command only after ASKING.

    redis-py takes a free connection for each of the two, which need not be the same.

    Args:
        node: the node.
    """

    def __init__(self, node: ClusterNode) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command, and ASKING before it."""
        if args == ("ASKING",):
            return None
        options.pop("asking", None)
        asking, command = PipelineCommand(0, "ASKING"), PipelineCommand(1, *args, **options)
        await self._node.execute_pipeline([asking, command])
        if isinstance(command.result, Exception):
            raise command.result
        return command.result


class _CommandsParser(AsyncCommandsParser):
    """Knows where the keys of each command are, from any node that is up.

    redis-py asks the first primary only, each time it loads the slots.

    Args:
        client: the cluster client.
    """

    def __init__(self, client: RedisCluster) -> None:
        super().__init__()
        self._client = client

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """Ask a node for all commands, or the others if it is down; later, do nothing (COMMAND).

        Args:
            node: the node to ask first.
        """
        manager = self._client.nodes_manager
        nodes = [] if node is None else [node, *(n for n in self._client.get_nodes() if n != node)]
        if self.commands and nodes:
            self.node = nodes[0]
            return
        failure: BaseException | None = None
        for each in nodes:
            try:
                await super().initialize(each)
            except REDIS_ERRORS as error:
                failure = failure or error
            else:
                manager.default_node = each
                return
        if failure is not None:
            raise failure
        await super().initialize()
