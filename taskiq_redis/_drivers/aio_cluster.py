"""A cluster client for asyncio that copes with moving slots, dead nodes and new addresses."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, PipelineCommand
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    TimeoutError as RedisTimeoutError,
)

from taskiq_redis._core.addresses import startup_addresses

__all__ = ["make_cluster", "restore_startup_nodes"]

T = TypeVar("T")

#: errors of a node that is down
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)


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
        """Return a node; one that ASK names need not have slots yet. SCAN asks by name, too.

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

    def pipeline(
        self, transaction: Any | None = None, shard_hint: Any | None = None
    ) -> ClusterPipeline:
        """Return a new pipeline.

        Args:
            transaction: as in redis-py.
            shard_hint: not used.
        """
        del shard_hint
        # Abstract, by the annotations of redis-py.
        make: Any = _Pipeline
        pipeline: ClusterPipeline = make(self, transaction)
        return pipeline


class _Pipeline(ClusterPipeline):
    """A pipeline after whose failure the slots are loaded again, as after that of a command.

    Otherwise, the primary that replaces a dead one would never be found.

    Args:
        client: the cluster client.
        transaction: as in redis-py.
    """

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """Execute the commands, and return their replies.

        Args:
            raise_on_error: as in redis-py.
            allow_redirections: as in redis-py.
        """
        try:
            replies = await super().execute(raise_on_error, allow_redirections)
        except _LOST:
            self.cluster_client._initialize = True
            raise
        # The reply to a command whose connection was lost is the error.
        if any(isinstance(reply, _LOST) for reply in replies):
            self.cluster_client._initialize = True
        return replies


class _AskedNode:
    """A node to which a slot is moving, which executes a command only after ASKING.

    redis-py takes a free connection for each of the two, which need not be the same.

    Args:
        node: the node.
    """

    def __init__(self, node: ClusterNode) -> None:
        self._node = node
        self._asking = False

    @property
    def __class__(self) -> type[Any]:
        """The class of the node, by which redis-py recognizes one."""
        return type(self._node)

    @__class__.setter
    def __class__(self, _: type[Any]) -> None:
        raise AttributeError("__class__")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command, and before it ASKING, if that was the last one."""
        if args == ("ASKING",):
            self._asking = True
            return None
        if not self._asking:
            return await self._node.execute_command(*args, **options)
        self._asking = False
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
        """Ask for all commands, unless they are known and this is called with a node (COMMAND).

        Args:
            node: the node to ask first.
        """
        if node is not None:
            self.node = node
        if node is None or not self.commands:
            await self._ask(super().initialize)

    async def get_keys(self, *args: Any) -> tuple[str, ...] | None:
        """Return the keys of a command (COMMAND GETKEYS, if the server has to tell).

        Args:
            args: the command.
        """
        try:
            return await super().get_keys(*args)
        except _LOST:
            return await self._ask(partial(super().get_keys, *args))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the current node, or the others in turn if it is down."""
        failure: Exception | None = None
        for node in (self.node, *(node for node in self._client.get_nodes() if node != self.node)):
            self.node = node
            try:
                return await call()
            except _LOST as error:
                failure = failure or error
        raise failure or RedisConnectionError("the cluster has no nodes")
