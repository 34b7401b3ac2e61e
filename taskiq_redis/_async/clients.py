"""Build redis-py clients: for commands, for blocking reads and for subscriptions."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, SlotNotCoveredError

from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.checks import check_number
from taskiq_redis._core.redaction import redact
from taskiq_redis._core.redis_errors import NO_MASTER, REDIS_ERRORS, strip_tracebacks
from taskiq_redis._core.tls import certificate_advice, check_tls_options
from taskiq_redis._core.typos import suggestion
from taskiq_redis._drivers.aio import (
    SafeProvider,
    follow_rotation,
    initialize,
    make_cluster,
    make_pool,
    mark_for_reconnect,
    register,
)
from taskiq_redis.exceptions import InvalidOptionError

Client = Redis | RedisCluster

#: s; how much longer the client waits for the reply of a blocking read than the server blocks
READ_MARGIN = 5.0
#: s; timeouts for the replies to other commands and for connecting, as in redis-py 8
REPLY_TIMEOUT = CONNECT_TIMEOUT = 5.0
#: s; connections to sentinels that have been idle for so long are not used again
SENTINEL_IDLE = 10.0
#: maximum number of connections of a cluster client; a semaphore limits its commands instead
UNBOUNDED = 2**31
#: connection options that are numbers, and their minimum
NUMERIC_OPTIONS = {
    "health_check_interval": 0,
    "max_connections": 1,
    "socket_connect_timeout": 0.001,
    "socket_timeout": 0.001,
    "timeout": 0,
}
#: options of a blocking RedisCluster for its pools, which a client of one node doesn't have
POOL_OPTIONS = frozenset({"connection_class", "connection_pool_class", "queue_class", "timeout"})
#: the option of a URL that makes redis-py decode replies
DECODE_OPTION = re.compile(r"(?<=[?&])decode_responses=[^&#]*&?")
#: options of a URL that say how long redis-py waits, or how often it tries again
TIMEOUT_OPTIONS = re.compile(
    r"(?<=[?&])(socket_timeout|socket_connect_timeout|retry_on_timeout|retry_on_error)=[^&#]*&?"
)
#: the option that holds the connection options for sentinels
SENTINEL_OPTIONS = "sentinel_kwargs"
#: options of RedisCluster that a client of one node doesn't have
CLUSTER_OPTIONS = frozenset(
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


class Clients(ABC):
    """Builds the clients of one server; the constructor sends nothing.

    Args:
        server: address and connection options of Redis.
        owner: class of the object that uses them; error messages suggest its options.

    Raises:
        InvalidOptionError: redis-py can't use a connection option.
    """

    #: whether the keys of one command have to share a hash slot
    sharded = False

    def __init__(self, server: Server, owner: type = object) -> None:
        self.server = server
        with as_option_error("credential_provider", Exception):
            self._providers = _safe_providers(server.connection_kwargs)
        with as_option_error("url", ValueError):
            #: the user's connection options; those in the URL win
            self.options = self._read_options()
        _check_cache(self.options)
        _check_client_kind(self.options)
        for option, minimum in NUMERIC_OPTIONS.items():
            check_number(option, self.options.get(option), minimum)
        with as_option_error("connection_kwargs", Exception, owner):
            # Otherwise, redis-py would raise an error about an unknown option at the first command.
            pool: Any = self._make_node_client().connection_pool
            connection = pool.make_connection()
        self._uses_tls = isinstance(connection, SSLConnection)
        if self._uses_tls:
            check_tls_options(self.options)

    @abstractmethod
    def make_client(self, block: float | None = None) -> Client:
        """Build a client, which the caller closes with `disconnect`.

        Args:
            block: s; how long its reads may block; None for a client that runs other commands.
        """

    async def make_subscriber(self, channel: str, client: Client) -> Redis:  # noqa: ARG002
        """Build a client for a subscription, which the caller closes with `disconnect`.

        Args:
            channel: name of the channel.
            client: the client for commands.
        """
        client_of_node: Any = self._make_node_client()
        client_of_node.connection_pool.connection_kwargs.update(self._subscriber_options())
        subscriber: Redis = client_of_node
        return subscriber

    def closing_advice(self, reason: str) -> str:
        """Return further advice for a server that closes connections; '' if there is none.

        Args:
            reason: text of the error.
        """
        return certificate_advice(self.options, reason) if self._uses_tls else ""

    @property
    def longest_wait(self) -> float:
        """How long a command may wait for a connection or a reply, in s; infinity for ever."""
        options = self.options
        waits = [
            options.get("socket_timeout", REPLY_TIMEOUT),
            options.get("socket_connect_timeout", CONNECT_TIMEOUT),
        ]
        return max(float("inf") if wait is None else wait for wait in waits)

    @abstractmethod
    def _read_options(self) -> dict[str, Any]:
        """Return the user's connection options."""

    def _make_node_client(self) -> Redis:
        """Build a client of one server, whose connections get all options."""
        made: Any = self.make_client()
        client: Redis = made
        return client

    def _with_defaults(self, block: float | None) -> dict[str, Any]:
        """Return the user's connection options over our defaults."""
        defaults = {
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": REPLY_TIMEOUT if block is None else block + READ_MARGIN,
        }
        return {**defaults, **self._keyword_options()}

    def _keyword_options(self) -> dict[str, Any]:
        # Messages, results and schedules are bytes that need not be text.
        return {**self.server.connection_kwargs, **self._providers, "decode_responses": False}

    def _subscriber_options(self) -> dict[str, Any]:
        """Return options for subscriptions only, unless the user has chosen these."""
        provider = self._providers.get("credential_provider")
        rotates = provider is not None and provider.rotation is not None
        # A subscribed connection can authenticate again, but not by the older protocol.
        return {"protocol": 3} if rotates and "protocol" not in self.options else {}


class SingleNodeClients(Clients):
    """Builds clients of one Redis server."""

    server: SingleNode

    def make_client(self, block: float | None = None) -> Redis:
        """Build a client with a pool of its own."""
        options = self._with_defaults(block)
        url = _url_of(self.server)
        if url.startswith("unix://"):
            del options["socket_keepalive"]
        if self.server.max_connection_pool_size is not None:
            options["max_connections"] = self.server.max_connection_pool_size
        return register(Redis(connection_pool=make_pool(url, **options)))

    def _read_options(self) -> dict[str, Any]:
        return {**self._keyword_options(), **_parse_options(_url_of(self.server))}


class ClusterClients(Clients):
    """Builds clients of a Redis Cluster."""

    server: Cluster
    sharded = True

    def make_client(self, block: float | None = None) -> RedisCluster:
        """Build a client that doesn't retry commands, unless the user asks for it."""
        options = {"retry": Retry(NoBackoff(), 0), **self._with_defaults(block)}
        if "cluster_error_retry_attempts" in options:
            del options["retry"]
        # A node of redis-py 7 also counts connections that failed, or were cancelled, while they
        # connected. At the limit, it makes no more.
        options["max_connections"] = UNBOUNDED
        with as_option_error("connection_kwargs", TypeError):
            return register(make_cluster(_url_of(self.server), **options))

    async def make_subscriber(self, channel: str, client: Client) -> Redis:
        """Build a client of one node, which receives what is published on any node.

        Not every redis-py has pub/sub for clusters.
        """
        cluster: Any = client
        await initialize(cluster)
        node = cluster.get_node_from_key(channel)
        if node is None:
            raise SlotNotCoveredError(f"no node serves the channel {channel!r}")
        with suppress(NoPermissionError):
            # If the node is dead, the failed PING makes the cluster client reload its nodes.
            await cluster.ping(target_nodes=node)
        options = {**self._node_options(), **self._subscriber_options()}
        return register(Redis(**{**options, "host": node.host, "port": node.port}))

    def _read_options(self) -> dict[str, Any]:
        options = {**self._keyword_options(), **_parse_options(_url_of(self.server))}
        if int(options.get("db") or 0):
            raise ValueError("a cluster has no database but 0")
        return options

    def _make_node_client(self) -> Redis:
        options = self._node_options().items()
        return Redis(**{name: value for name, value in options if name not in POOL_OPTIONS})

    def _node_options(self) -> dict[str, Any]:
        """Return the user's options for a client of one node, as RedisCluster derives them."""
        options = {"retry": Retry(NoBackoff(), 0), **self._with_defaults(None), **self.options}
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        return {name: value for name, value in options.items() if name not in CLUSTER_OPTIONS}


class SentinelClients(Clients):
    """Builds clients of a master that sentinels monitor, which follow a failover."""

    server: SentinelMaster

    def __init__(self, server: SentinelMaster, owner: type = object) -> None:
        super().__init__(server, owner)
        if self._sentinel_options().get("ssl"):
            check_tls_options(self._sentinel_options(), SENTINEL_OPTIONS)

    def closing_advice(self, reason: str) -> str:
        """Return further advice for a server that closes connections; '' if there is none.

        Args:
            reason: text of the error, which may be that of the sentinels.
        """
        if NO_MASTER not in reason:
            return super().closing_advice(reason)
        options = self._sentinel_options()
        return certificate_advice(options, reason, SENTINEL_OPTIONS) if options.get("ssl") else ""

    def make_client(self, block: float | None = None) -> Redis:
        """Build a client whose connections ask the sentinels for the master."""
        options = self._with_defaults(block)
        if self.server.max_connection_pool_size is not None:
            options["max_connections"] = self.server.max_connection_pool_size
        make_sentinel: Any = VerboseSentinel  # untyped in redis-py
        sentinel = make_sentinel(
            list(self.server.sentinels),
            min_other_sentinels=self.server.min_other_sentinels,
            sentinel_kwargs=self._sentinel_options(),
            **options,
        )
        for node in sentinel.sentinels:
            follow_rotation(node)
        client: Redis = sentinel.master_for(self.server.master_name)
        return register(client)

    def _read_options(self) -> dict[str, Any]:
        return self._keyword_options()

    @property
    def longest_wait(self) -> float:
        """How long a command may wait for a connection or a reply, in s; infinity for ever."""
        options = self._sentinel_options()
        waits = [options["socket_timeout"], options["socket_connect_timeout"], super().longest_wait]
        return max(float("inf") if wait is None else wait for wait in waits)

    def _sentinel_options(self) -> dict[str, Any]:
        chosen = self.server.sentinel_kwargs
        if chosen is None:
            options = self.options.items()
            chosen = {name: value for name, value in options if name.startswith("socket_")}
        return {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": REPLY_TIMEOUT,
            **chosen,
            **_safe_providers(chosen),
        }


class VerboseSentinel(Sentinel):
    """A `Sentinel` that says in its error what each sentinel answered, if none knows the master."""

    def __init__(self, *args: Any, **options: Any) -> None:
        init: Any = super().__init__  # untyped in redis-py
        init(*args, **options)
        self._all = tuple(self.sentinels)

    async def discover_master(self, service_name: str) -> Any:
        """Return the address of a master (SENTINEL MASTERS).

        Args:
            service_name: its name in the sentinels' configuration.
        """
        for sentinel in self._all:
            # They are asked so rarely that a NAT gateway may have forgotten the connection.
            mark_for_reconnect(sentinel, SENTINEL_IDLE)
        try:
            discover: Any = super().discover_master  # untyped in redis-py
            return await discover(service_name)
        except MasterNotFoundError:
            answers = [await _answer_of(node, service_name) for node in self._all]
            raise MasterNotFoundError(f"{NO_MASTER} ({'; '.join(answers)})") from None
        finally:
            # redis-py swaps the sentinel that answered with the first one; concurrent calls could
            # drop one from the list.
            first = self.sentinels[0]
            self.sentinels = [first, *(node for node in self._all if node is not first)]


async def _answer_of(sentinel: Any, master_name: str) -> str:
    """Describe what a sentinel answers about a master that was not found."""
    options = sentinel.connection_pool.connection_kwargs
    address = f"{options['host']}:{options['port']}"
    try:
        known = await sentinel.sentinel_masters()
    except REDIS_ERRORS as error:
        return f"{address}: {str(redact(error)).rstrip('.')}"
    if master_name in known:
        return f"{address} considers it down, or sees too few other sentinels"
    return f"{address} knows {', '.join(map(repr, sorted(known))) or 'no master'}"


def clients_of(server: Server, owner: type = object) -> Clients:
    """Return the builder of clients for a server.

    Args:
        server: address and connection options of Redis.
        owner: class of the object that uses them; error messages suggest its options.
    """
    if isinstance(server, SingleNode):
        return SingleNodeClients(server, owner)
    if isinstance(server, Cluster):
        return ClusterClients(server, owner)
    return SentinelClients(server, owner)


def with_timeout(server: Server, timeout: float, chosen: Mapping[str, Any] | None = None) -> Server:
    """Return a server whose clients wait a given time, whatever timeouts the user chose.

    Args:
        server: address and connection options of Redis.
        timeout: s; how long to wait for a reply, and for a connection. There are no retries.
        chosen: the user's connection options, if their timeouts stay where they are shorter.
    """
    options = _bounded_options(timeout, chosen)
    kept = dict(server.connection_kwargs)
    # If both are given, redis-py 7 and this module prefer it to `retry`.
    kept.pop("cluster_error_retry_attempts", None)
    if isinstance(server, SentinelMaster):
        sentinel_kwargs = server.sentinel_kwargs
        if sentinel_kwargs is not None:
            bounded = _bounded_options(timeout, None if chosen is None else sentinel_kwargs)
            sentinel_kwargs = {**sentinel_kwargs, **bounded}
        return replace(
            server, sentinel_kwargs=sentinel_kwargs, connection_kwargs={**kept, **options}
        )
    url = TIMEOUT_OPTIONS.sub("", server.url)
    return replace(server, url=url, connection_kwargs={**kept, **options})


def _bounded_options(timeout: float, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    defaults = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": REPLY_TIMEOUT}
    for name, default in defaults.items():
        shorter = None if chosen is None else chosen.get(name, default)
        options[name] = timeout if shorter is None else min(timeout, shorter)
    return options


def sentinel_of(client: Client) -> Sentinel:
    """Return the Sentinel client that a client gets its master's address from."""
    pool = client.connection_pool if isinstance(client, Redis) else None
    if not isinstance(pool, SentinelConnectionPool):
        raise TypeError(client)
    sentinel: Sentinel = pool.sentinel_manager
    return sentinel


def _safe_providers(options: Mapping[str, Any]) -> dict[str, SafeProvider]:
    """Return the option for the user's credential provider, if there is one."""
    provider = options.get("credential_provider")
    return {} if provider is None else {"credential_provider": SafeProvider(provider)}


def _url_of(server: SingleNode | Cluster) -> str:
    return DECODE_OPTION.sub("", server.url)


def _parse_options(url: str) -> dict[str, Any]:
    """Return the connection options of a URL; the function is untyped in redis-py."""
    parse: Any = parse_url
    options: dict[str, Any] = parse(url)
    return options


@contextmanager
def as_option_error(option: str, kind: type[Exception], owner: type = object) -> Iterator[None]:
    """Raise redis-py's errors about connection options as `InvalidOptionError`.

    Args:
        option: the option to name.
        kind: the class of errors.
        owner: class whose options the error may suggest, beside those of redis-py.
    """
    try:
        yield
    except InvalidOptionError:
        raise
    except kind as error:
        meant = suggestion(error, owner, Redis)
        advice = "Check the connection options, those in the URL's query too."
        raise InvalidOptionError(
            option=option,
            # Python 3.13 suggests connection options itself.
            problem=str(error).partition(" Did you mean")[0].rstrip("."),
            advice=f"{meant} {advice}" if meant else advice,
        ) from strip_tracebacks(error)


def _check_cache(options: Mapping[str, Any]) -> None:
    """Refuse client-side caching, for which redis-py has to be told the keys of each command."""
    for option in ("cache", "cache_config"):
        if options.get(option) is not None:
            raise InvalidOptionError(
                option=option,
                problem="client-side caching would save nothing, as hardly any key is read twice",
                advice="Leave this option out, and cache with a redis-py client of your own.",
            )


def _check_client_kind(options: Mapping[str, Any]) -> None:
    """Refuse objects for the other kind of redis-py's clients, which fail at the first command."""
    connection_class = options.get("connection_class")
    if isinstance(connection_class, type) and not issubclass(connection_class, AbstractConnection):
        raise InvalidOptionError(
            option="connection_class",
            problem=f"{connection_class!r} doesn't fit this client",
            advice=f"Give a subclass of {AbstractConnection.__module__}.AbstractConnection.",
        )
    retry = options.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidOptionError(
            option="retry",
            problem=f"{retry!r} doesn't fit this client",
            advice=f"Give a {Retry.__module__}.Retry.",
        )
    for kind in options.get("retry_on_error") or ():
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidOptionError(
                option="retry_on_error",
                problem=f"{kind!r} is not a class of exceptions",
                advice="Give a list of classes of exceptions.",
            )
