# Generated from taskiq_redis/_async/connection.py by scripts/unasync.py; edit that.

"""The one place that builds redis-py clients: for a node, a cluster, a master of sentinels."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from redis import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, SSLConnection, parse_url
from redis.exceptions import NoScriptError, SlotNotCoveredError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from taskiq_redis._core.failures import (
    REDIS_ERRORS,
    backoff,
    did_nothing,
    is_transient,
    translate,
)
from taskiq_redis._core.guard import Guard
from taskiq_redis._core.lua import Script
from taskiq_redis._core.servers import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._runtime.blocking import Event, Limiter, abandon, disconnect, initialize, sleep
from taskiq_redis._sync.owned import Owned
from taskiq_redis.exceptions import InvalidOptionError

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

T = TypeVar("T")
Client = Redis | RedisCluster

#: s; how long a command is tried again before its caller hears that Redis can't be reached
PATIENCE = 10.0
#: s; how much longer than Redis a blocking read waits for the reply
READ_MARGIN = 5.0
#: s; how long any other command waits for it; what redis-py has by default since version 8
REPLY_TIMEOUT = 5.0
#: most commands that wait for a reply at a time; what redis-py has for a pool that blocks
COMMANDS_IN_FLIGHT = 50
#: as a number of connections
UNBOUNDED = 2**31
#: s; how long closing waits for commands under way
CLOSE_PATIENCE = 5.0
#: options of RedisCluster that a client of one node doesn't have
CLUSTER_ONLY = frozenset(
    {
        "address_remap",
        "cluster_error_retry_attempts",
        "dynamic_startup_nodes",
        "load_balancing_strategy",
        "policy_resolver",
        "read_from_replicas",
        "reinitialize_steps",
        "require_full_coverage",
        "startup_nodes",
    }
)


@dataclass(eq=False)
class SharedClient:
    """The client for commands, and who uses it.

    Args:
        client: what commands are run with.
        limiter: how many of them wait for a reply at a time.
    """

    client: Client
    limiter: Limiter
    #: what it took the place of; commands may still be under way there
    replaced: Self | None = None
    _guard: Guard = field(default_factory=Guard)
    #: commands under way
    _users: int = 0
    _closing: bool = False
    #: set when the last of them has ended, after it began to close
    _idle: Event = field(default_factory=Event)

    def enter(self) -> bool:
        """Begin a command, unless the client is about to be closed."""
        with self._guard:
            if not self._closing:
                self._users += 1
            return not self._closing

    def leave(self) -> None:
        """End a command."""
        with self._guard:
            self._users -= 1
            if self._closing and self._users == 0:
                self._idle.set()

    def retire(self) -> None:
        """Let no command begin, and wait for those under way."""
        with self._guard:
            self._closing = True
            busy = self._users > 0
        if busy:
            self._idle.wait(CLOSE_PATIENCE)


class Connection(ABC):
    """Owns the clients of one broker, result backend or schedule source.

    There is one client for commands on each process, made on first use and kept. What blocks
    has a client of its own.

    Args:
        server: where Redis is.
    """

    #: whether keys of one command have to be in one hash slot
    sharded = False

    def __init__(self, server: Server) -> None:
        self.server = server
        _check_flavour(server.connection_kwargs)
        self._shared = Owned(self._share, _close_shared, _discard)

    @property
    def client(self) -> Client:
        """The client for commands; it is the same one until `close`, on one process."""
        return self._shared.get().client

    def _share(self) -> SharedClient:
        return SharedClient(self.make_client(), Limiter(self._commands_in_flight()))

    def use(self, client: Client) -> None:
        """Run commands with a client that the user made, until `close`, which closes it.

        Args:
            client: the client. The one that it replaces is closed together with it.
        """
        shared = SharedClient(client, Limiter(self._commands_in_flight()))
        shared.replaced = self._shared.swap(shared)

    def call(
        self,
        command: Callable[[Client], T],
        *,
        key: str | None = None,
        repeatable: bool = True,
        patience: float = PATIENCE,
    ) -> T:
        """Run a command, and try it again while Redis can't be reached.

        Args:
            command: gets the client.
            key: what it is about, for errors.
            repeatable: whether running the command twice does no harm. If not, it is tried again
                only after the server said that it did nothing.
            patience: s; how long to try.

        Raises:
            ServerUnavailableError: Redis could not be reached for so long.
            CommandRefusedError: Redis doesn't do it.
        """
        give_up = time.monotonic() + patience
        for attempt in count():
            try:
                return self._try(command)
            except REDIS_ERRORS as error:
                pause = backoff(attempt)
                may_repeat = is_transient(error) if repeatable else did_nothing(error)
                if not may_repeat or time.monotonic() + pause > give_up:
                    raise translate(error, str(self.server), key) from error
            sleep(pause)
        raise AssertionError  # the loop above is endless; type checkers don't see it

    def _try(self, command: Callable[[Client], T]) -> T:
        shared = self._shared.get()
        while not shared.enter():
            shared = self._shared.get()
        try:
            if isinstance(shared.client, RedisCluster):
                initialize(shared.client)
            with shared.limiter:
                return command(shared.client)
        finally:
            shared.leave()

    def run_script(
        self,
        script: Script,
        keys: list[str],
        args: list[str | bytes | int],
        patience: float = PATIENCE,
    ) -> Any:
        """Run a Lua script that does no harm when it is run twice.

        Args:
            script: what to run.
            keys: its KEYS; on a cluster they share a slot.
            args: its ARGV.
            patience: s; how long to try.
        """

        def run(client: Client) -> Any:
            try:
                return client.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                return client.eval(script.source, len(keys), *keys, *args)

        return self.call(run, key=keys[0], patience=patience)

    def close(self) -> None:
        """Close the client when the commands under way have ended; the next makes a new one.

        What belongs to another process is closed by a `close` there, or when that ends.
        """
        shared = self._shared.pop()
        if shared is not None:
            _close_shared(shared)

    def wait_time(self, wanted: float) -> float:
        """Return for how long a blocking read may wait, in seconds.

        That is as long as wanted, unless the user chose a shorter ``socket_timeout``.
        """
        chosen = self._chosen_socket_timeout()
        return wanted if chosen is None else min(wanted, chosen / 2)

    def _chosen_socket_timeout(self) -> float | None:
        """Return the ``socket_timeout`` that the user gave, if any."""
        chosen = self.server.connection_kwargs.get("socket_timeout")
        return None if chosen is None else float(chosen)

    def _commands_in_flight(self) -> int:
        chosen = self.server.connection_kwargs.get("max_connections")
        size = self.server.max_connection_pool_size or chosen or COMMANDS_IN_FLIGHT
        return min(COMMANDS_IN_FLIGHT, int(size))

    @abstractmethod
    def make_client(self, wait: float | None = None) -> Client:
        """Build a client that its caller closes with `close_client`.

        Args:
            wait: s; how long its reads may block, for a client that is not for commands.
        """

    @abstractmethod
    def make_pubsub(self, channel: str) -> tuple[Any, Redis]:
        """Build what subscribes to a channel, and its client; closing that ends it."""

    def close_client(self, client: Client) -> None:
        """Close a client that `make_client` or `make_pubsub` built, and its connections."""
        disconnect(client)

    def _options(self, wait: float | None) -> dict[str, Any]:
        """Return the user's connection options over our defaults."""
        timeout = REPLY_TIMEOUT if wait is None else wait + READ_MARGIN
        defaults = {"socket_keepalive": True, "socket_timeout": timeout}
        return {**defaults, **self.server.connection_kwargs}


class SingleNodeConnection(Connection):
    """Talks to one Redis server."""

    server: SingleNode

    def make_client(self, wait: float | None = None) -> Redis:
        """Build a client on a pool of its own; the URL's options win over the arguments."""
        options = self._options(wait)
        if self.server.url.startswith("unix://"):
            del options["socket_keepalive"]
        if self.server.max_connection_pool_size is not None:
            options["max_connections"] = self.server.max_connection_pool_size
        return Redis(connection_pool=BlockingConnectionPool.from_url(self.server.url, **options))

    def make_pubsub(self, channel: str) -> tuple[Any, Redis]:  # noqa: ARG002
        """Build what subscribes to a channel."""
        client = self.make_client()
        return _pubsub(client), client

    def _chosen_socket_timeout(self) -> float | None:
        pool = BlockingConnectionPool.from_url(self.server.url, **self.server.connection_kwargs)
        chosen = pool.connection_kwargs.get("socket_timeout")
        return None if chosen is None else float(chosen)


class ClusterConnection(Connection):
    """Talks to a Redis Cluster."""

    server: Cluster
    sharded = True

    def make_client(self, wait: float | None = None) -> RedisCluster:
        """Build a client that never repeats a command by itself, unless the user wants it to."""
        options = {"retry": Retry(NoBackoff(), 0), **self._options(wait)}
        if "cluster_error_retry_attempts" in options:
            del options["retry"]
        # The limiter bounds them. A node of redis-py 7 would count each connection that was
        # cancelled, or failed, while it was made, and in the end refuse to make any.
        options["max_connections"] = UNBOUNDED
        return RedisCluster.from_url(self.server.url, **options)

    def make_pubsub(self, channel: str) -> tuple[Any, Redis]:
        """Build what subscribes to a channel on one node, which hears what is published on any.

        Not every redis-py has pub/sub for clusters; a client of one node is enough.
        """
        cluster: Any = self.client
        initialize(cluster)
        node = cluster.get_node_from_key(channel)
        if node is None:
            raise SlotNotCoveredError(f"no node serves the channel {channel!r}")
        client = Redis(**{**self._node_options(), "host": node.host, "port": node.port})
        return _pubsub(client), client

    def _node_options(self) -> dict[str, Any]:
        """Return the user's options for a client of one node, as RedisCluster derives them."""
        parse: Any = parse_url  # untyped in redis-py
        options = {
            "retry": Retry(NoBackoff(), 0),
            **self._options(None),
            **parse(self.server.url),
        }
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        return {name: value for name, value in options.items() if name not in CLUSTER_ONLY}


class SentinelConnection(Connection):
    """Talks to the master that a group of sentinels names, also after a failover."""

    server: SentinelMaster

    def make_client(self, wait: float | None = None) -> Redis:
        """Build a client whose connections ask the sentinels for the master."""
        options = self._options(wait)
        if self.server.max_connection_pool_size is not None:
            options["max_connections"] = self.server.max_connection_pool_size
        make_sentinel: Any = Sentinel  # untyped in redis-py
        sentinel = make_sentinel(
            list(self.server.sentinels),
            min_other_sentinels=self.server.min_other_sentinels,
            sentinel_kwargs=self._sentinel_options(),
            **options,
        )
        client: Redis = sentinel.master_for(self.server.master_name)
        return client

    def _sentinel_options(self) -> dict[str, Any]:
        if self.server.sentinel_kwargs is not None:
            return dict(self.server.sentinel_kwargs)
        chosen = self.server.connection_kwargs.items()
        sockets = {name: value for name, value in chosen if name.startswith("socket_")}
        return {"retry": Retry(NoBackoff(), 0), **sockets}

    def make_pubsub(self, channel: str) -> tuple[Any, Redis]:  # noqa: ARG002
        """Build what subscribes to a channel."""
        client = self.make_client()
        return _pubsub(client), client


def _close_shared(shared: SharedClient) -> None:
    try:
        if shared.replaced is not None:
            _close_shared(shared.replaced)
        shared.retire()
    finally:
        disconnect(shared.client)


def _discard(shared: SharedClient) -> None:
    abandon(shared.client)
    if shared.replaced is not None:
        _discard(shared.replaced)


def _pubsub(client: Any) -> Any:
    """Return a new subscriber; the method is untyped in redis-py."""
    return client.pubsub()


def execute(client: Any, *command: str | bytes | int) -> Any:
    """Run a command as it stands; the method for that is untyped in redis-py."""
    return client.execute_command(*command)


def sentinel_of(client: Client) -> Sentinel:
    """Return the sentinels that a client asks for its master."""
    pool = client.connection_pool if isinstance(client, Redis) else None
    if not isinstance(pool, SentinelConnectionPool):
        raise TypeError(client)
    sentinel: Sentinel = pool.sentinel_manager
    return sentinel


def connect(server: Server) -> Connection:
    """Return what talks to a server; nothing is sent yet."""
    if isinstance(server, SingleNode):
        return SingleNodeConnection(server)
    if isinstance(server, Cluster):
        return ClusterConnection(server)
    return SentinelConnection(server)


def _check_flavour(options: Mapping[str, Any]) -> None:
    """Refuse options that are for the other kind of redis-py client; they would fail much later."""
    connection_class = options.get("connection_class")
    if isinstance(connection_class, type) and not issubclass(connection_class, AbstractConnection):
        raise InvalidOptionError(
            option="connection_class",
            problem=f"{connection_class!r} is not of this kind of client",
            advice=f"Give a subclass of {AbstractConnection.__module__}.AbstractConnection.",
        )
    retry = options.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidOptionError(
            option="retry",
            problem=f"{retry!r} is not of this kind of client",
            advice=f"Give a {Retry.__module__}.Retry.",
        )
