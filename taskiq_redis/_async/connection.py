"""The one place that builds redis-py clients: for a node, a cluster, a master of sentinels."""

import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    ResponseError,
    SlotNotCoveredError,
)

from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.checks import check_number
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.lua import Script
from taskiq_redis._core.redis_errors import (
    NO_MASTER,
    REDIS_ERRORS,
    backoff,
    is_transient,
    location,
    strip_tracebacks,
    translate,
    was_not_executed,
)
from taskiq_redis._runtime.aio import (
    Event,
    Semaphore,
    as_connection_loss,
    cancellable,
    current_task,
    disconnect,
    drop_connections,
    initialize,
    make_pool,
    max_block_time,
    sleep,
)
from taskiq_redis.exceptions import (
    InvalidOptionError,
    ServerUnavailableError,
    TaskIQRedisError,
    ValueTooLargeError,
)

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

T = TypeVar("T")
Client = Redis | RedisCluster

#: s; how long a command is tried again before its caller hears that Redis can't be reached
RETRY_TIMEOUT = 10.0
#: s; how much longer than Redis a blocking read waits for the reply
READ_MARGIN = 5.0
#: s; how long any other command waits for it, and connecting for the server; what redis-py has by
#: default since version 8
REPLY_TIMEOUT = CONNECT_TIMEOUT = 5.0
#: most commands that wait for a reply at a time; what redis-py has for a pool that blocks
COMMANDS_IN_FLIGHT = 50
#: as a number of connections
UNBOUNDED = 2**31
#: s; how long closing waits for commands under way
CLOSE_TIMEOUT = 5.0
#: bytes; the least that a server can be told to take in one piece, and what it takes by default
SMALLEST_LIMIT, USUAL_LIMIT = 2**20, 2**29
#: connection options that are numbers, and the least that makes sense
NUMBERS = {
    "health_check_interval": 0,
    "max_connections": 1,
    "socket_connect_timeout": 0.001,
    "socket_timeout": 0.001,
    "timeout": 0,
}
#: options of a blocking RedisCluster for its pools, which a client of one node doesn't have
POOL_ONLY = frozenset({"connection_class", "connection_pool_class", "queue_class", "timeout"})
#: the option of a URL that makes redis-py decode replies
DECODING = re.compile(r"(?<=[?&])decode_responses=[^&#]*&?")
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
        semaphore: how many of them wait for a reply at a time.
    """

    client: Client
    semaphore: Semaphore
    #: what it took the place of; commands may still be under way there
    replaced: Self | None = None
    _guard: ForkSafeLock = field(default_factory=ForkSafeLock)
    #: who has commands under way, and how many
    _users: dict[object, int] = field(default_factory=dict)
    _closing: bool = False
    #: set when the last of them has ended, after it began to close
    _idle: Event = field(default_factory=Event)
    #: whether the last of them closes the client
    _left: bool = False

    def is_nested(self, user: object) -> bool:
        """Tell whether a command has interrupted another of the same user, by a signal handler."""
        return self._users[user] > 1

    def enter(self, user: object) -> bool:
        """Begin a command, unless the client is about to be closed."""
        # Nothing is called while the guard is held, so no signal handler comes in between.
        with self._guard:
            if not self._closing:
                if user not in self._users:
                    self._users[user] = 0
                self._users[user] += 1
            return not self._closing

    def leave(self, user: object) -> bool:
        """End a command, and tell whether the client has to be closed now."""
        with self._guard:
            self._users[user] -= 1
            if self._users[user] == 0:
                del self._users[user]
            if not self._closing or self._users:
                return False
        self._idle.set()
        return self._left

    async def retire(self) -> bool:
        """Let no command begin, wait for those under way, and tell whether one has to close it.

        That is so if a command of this very thread is under way, which was interrupted by the
        signal handler that calls this.
        """
        with self._guard:
            self._closing = True
            busy, self._left = bool(self._users), current_task() in self._users
        if busy and not self._left:
            await self._idle.wait(CLOSE_TIMEOUT)
        return self._left


class Connection(ABC):
    """Owns the clients of one broker, result backend or schedule source.

    There is one client for commands on each event loop, made on first use and kept. What blocks
    has a client of its own.

    Args:
        server: where Redis is.
    """

    #: whether keys of one command have to be in one hash slot
    sharded = False

    def __init__(self, server: Server) -> None:
        self.server = server
        with as_option_error("url", ValueError):
            #: the user's connection options; those in the URL win
            self._chosen = self._read_options()
        _check_flavour(self._chosen)
        for option, least in NUMBERS.items():
            check_number(option, self._chosen.get(option), least)
        with as_option_error("connection_kwargs", Exception):
            # Nothing is sent. Otherwise, what redis-py doesn't take would be heard of much later.
            pool: Any = self._sample().connection_pool
            pool.make_connection()
        self._shared = LoopLocal(self._share, _close_shared, _discard)
        #: bytes that the server is known to take in one piece
        self._longest_value = SMALLEST_LIMIT

    @property
    def client(self) -> Client:
        """The client for commands; it is the same one until `close`, on one event loop."""
        try:
            return self._shared.get().client
        except REDIS_ERRORS as error:
            raise translate(error, str(self.server)) from strip_tracebacks(error)

    def _share(self) -> SharedClient:
        return SharedClient(self.make_client(), Semaphore(self._commands_in_flight()))

    def use(self, client: Client) -> None:
        """Run commands with a client that the user made, until `close`, which closes it.

        Args:
            client: the client. The one that it replaces is closed together with it.
        """
        shared = SharedClient(client, Semaphore(self._commands_in_flight()))
        shared.replaced = self._shared.swap(shared)

    async def call(
        self,
        command: Callable[[Client], Awaitable[T]],
        *,
        key: str | Sequence[str] = (),
        size: int = 0,
        repeatable: bool = True,
        retry_timeout: float = RETRY_TIMEOUT,
    ) -> T:
        """Run a command, and try it again while Redis can't be reached.

        Args:
            command: gets the client.
            key: what it is about, for errors.
            size: bytes; of the longest value that it sends, if that may be too long for a server.
            repeatable: whether running the command twice does no harm. If not, it is tried again
                only after the server said that it did nothing.
            retry_timeout: s; how long to try; the last try may take `CONNECT_TIMEOUT` longer.

        Raises:
            ServerUnavailableError: Redis could not be reached for so long.
            CommandRefusedError: Redis doesn't do it.
        """
        keys = (key,) if isinstance(key, str) else tuple(dict.fromkeys(key))
        if size > SMALLEST_LIMIT:
            command = self._measured(command, size, location(str(self.server), *keys))
        deadline = time.monotonic() + retry_timeout
        for attempt in count():
            try:
                return await self._try(command)
            except TaskIQRedisError:
                raise
            except REDIS_ERRORS as error:
                pause = backoff(attempt)
                may_repeat = is_transient(error) if repeatable else was_not_executed(error)
                if not may_repeat or time.monotonic() + pause > deadline:
                    told = translate(error, str(self.server), *keys)
                    raise told from strip_tracebacks(error)
            await sleep(pause)
        raise AssertionError  # the loop above is endless; type checkers don't see it

    async def _try(self, command: Callable[[Client], Awaitable[T]]) -> T:
        user, shared = current_task(), self._shared.get()
        while not shared.enter(user):
            shared = self._shared.get()

        async def run() -> T:
            if isinstance(shared.client, RedisCluster):
                await initialize(shared.client)
            if shared.is_nested(user):
                # The other has a place, and can't leave it before this one has ended.
                return await command(shared.client)
            async with shared.semaphore:
                return await command(shared.client)

        try:
            return await cancellable(run)
        except (TypeError, RuntimeError) as error:
            loss = as_connection_loss(error)
            if loss is None:
                raise
            raise loss from None
        finally:
            if shared.leave(user):
                await self.close_client(shared.client)

    def _measured(
        self, command: Callable[[Client], Awaitable[T]], size: int, where: str
    ) -> Callable[[Client], Awaitable[T]]:
        """Refuse a value that is too long, for which the server would cut the connection."""

        async def run(client: Client) -> T:
            if size > self._longest_value:
                self._longest_value = await _longest_value(client)
            if size > self._longest_value:
                raise ValueTooLargeError(
                    server=where,
                    reason=(
                        f"{size:,} bytes are more than its proto-max-bulk-len of "
                        f"{self._longest_value:,}"
                    ),
                    advice="Send where the data is instead of the data, or raise that limit.",
                )
            return await command(client)

        return run

    async def check(self) -> None:
        """Connect, and raise what another try wouldn't mend, such as a wrong password.

        That Redis can't be reached is no error yet: it may be there when it is needed.
        """

        async def connect_one(client: Client) -> None:
            # A cluster client has connected to learn its slots.
            if isinstance(client, Redis):
                pool: Any = client.connection_pool
                await pool.release(await pool.get_connection())

        with suppress(ServerUnavailableError):
            await self.call(connect_one, retry_timeout=0)

    async def run_script(
        self,
        script: Script,
        keys: list[str],
        args: list[str | bytes | int],
        *,
        size: int | None = None,
        repeatable: bool = True,
        retry_timeout: float = RETRY_TIMEOUT,
    ) -> Any:
        """Run a Lua script.

        Args:
            script: what to run.
            keys: its KEYS; on a cluster they share a slot.
            args: its ARGV.
            size: bytes; of the longest of them, if that may be too long for a server.
            repeatable: whether running it twice does no harm; see `call`.
            retry_timeout: s; how long to try.
        """

        async def run(client: Client) -> Any:
            return await evaluate(client, script, keys, args)

        if size is None:
            size = max((len(arg) for arg in args if isinstance(arg, bytes)), default=0)
        return await self.call(
            run, key=keys, size=size, repeatable=repeatable, retry_timeout=retry_timeout
        )

    async def close(self) -> None:
        """Close the client when the commands under way have ended; the next makes a new one.

        What belongs to another event loop is closed by a `close` there, or when that ends.
        """
        shared = self._shared.pop()
        if shared is not None:
            await _close_shared(shared)

    def wait_time(self, wanted: float) -> float:
        """Return for how long a blocking read may wait, in seconds.

        That is as long as wanted, unless the user chose a shorter ``socket_timeout``, or nothing
        could interrupt it.
        """
        wanted, chosen = max_block_time(wanted), self._chosen.get("socket_timeout")
        return wanted if chosen is None else min(wanted, chosen / 2)

    def _commands_in_flight(self) -> int:
        sizes = (self.server.max_connection_pool_size, self._chosen.get("max_connections"))
        return min(COMMANDS_IN_FLIGHT, *(size or COMMANDS_IN_FLIGHT for size in sizes))

    @abstractmethod
    def _read_options(self) -> dict[str, Any]:
        """Return the user's connection options."""

    @abstractmethod
    def _sample(self) -> Redis:
        """Build a client whose connections have all options."""

    @abstractmethod
    def make_client(self, wait: float | None = None) -> Client:
        """Build a client that its caller closes with `close_client`.

        Args:
            wait: s; how long its reads may block, for a client that is not for commands.
        """

    @abstractmethod
    async def make_subscriber(self, channel: str) -> Redis:
        """Build a client for what subscribes to a channel; closing it ends the subscription."""

    async def close_client(self, client: Client) -> None:
        """Close a client that `make_client` or `make_subscriber` built, and its connections."""
        await disconnect(client)

    def _options(self, wait: float | None) -> dict[str, Any]:
        """Return the user's connection options over our defaults."""
        defaults = {
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": REPLY_TIMEOUT if wait is None else wait + READ_MARGIN,
        }
        return {**defaults, **self._arguments()}

    def _arguments(self) -> dict[str, Any]:
        # Messages, results and schedules are bytes, which need not be text.
        return {**self.server.connection_kwargs, "decode_responses": False}


class UrlConnection(Connection):
    """Talks to what a URL names; the options in it win over the arguments, as in redis-py."""

    @property
    def _url(self) -> str:
        server: Any = self.server  # one of those that have a URL
        return DECODING.sub("", server.url)

    def _read_options(self) -> dict[str, Any]:
        return {**self._arguments(), **_query_of(self._url)}


class SingleNodeConnection(UrlConnection):
    """Talks to one Redis server."""

    server: SingleNode

    def make_client(self, wait: float | None = None) -> Redis:
        """Build a client on a pool of its own."""
        options = self._options(wait)
        if self._url.startswith("unix://"):
            del options["socket_keepalive"]
        if self.server.max_connection_pool_size is not None:
            options["max_connections"] = self.server.max_connection_pool_size
        return Redis(connection_pool=make_pool(self._url, **options))

    async def make_subscriber(self, channel: str) -> Redis:  # noqa: ARG002
        """Build a client for what subscribes to a channel."""
        return self.make_client()

    def _sample(self) -> Redis:
        return self.make_client()


class ClusterConnection(UrlConnection):
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
        with as_option_error("connection_kwargs", TypeError):
            return RedisCluster.from_url(self._url, **options)

    async def make_subscriber(self, channel: str) -> Redis:
        """Build a client for what subscribes on one node, which hears what is published on any.

        Not every redis-py has pub/sub for clusters; a client of one node is enough.
        """
        cluster: Any = self.client
        await initialize(cluster)
        node = cluster.get_node_from_key(channel)
        if node is None:
            raise SlotNotCoveredError(f"no node serves the channel {channel!r}")
        with suppress(NoPermissionError):
            # One that is dead makes this client learn anew, before the next try, which nodes there
            # are; a listener sends nothing else from which it could learn that.
            await cluster.ping(target_nodes=node)
        return Redis(**{**self._node_options(), "host": node.host, "port": node.port})

    def _read_options(self) -> dict[str, Any]:
        options = super()._read_options()
        if int(options.get("db") or 0):
            raise ValueError("a cluster has no database but 0")
        return options

    def _sample(self) -> Redis:
        options = self._node_options().items()
        return Redis(**{name: value for name, value in options if name not in POOL_ONLY})

    def _node_options(self) -> dict[str, Any]:
        """Return the user's options for a client of one node, as RedisCluster derives them."""
        options = {"retry": Retry(NoBackoff(), 0), **self._options(None), **self._chosen}
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
        make_sentinel: Any = Sentinels  # untyped in redis-py
        sentinel = make_sentinel(
            list(self.server.sentinels),
            min_other_sentinels=self.server.min_other_sentinels,
            sentinel_kwargs=self._sentinel_options(),
            **options,
        )
        client: Redis = sentinel.master_for(self.server.master_name)
        return client

    def _read_options(self) -> dict[str, Any]:
        return self._arguments()

    def _sample(self) -> Redis:
        return self.make_client()

    def _sentinel_options(self) -> dict[str, Any]:
        chosen = self.server.sentinel_kwargs
        if chosen is None:
            options = self._chosen.items()
            chosen = {name: value for name, value in options if name.startswith("socket_")}
        return {
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": REPLY_TIMEOUT,
            **chosen,
        }

    async def make_subscriber(self, channel: str) -> Redis:  # noqa: ARG002
        """Build a client for what subscribes to a channel."""
        return self.make_client()


async def _close_shared(shared: SharedClient) -> None:
    left_to_command = False
    try:
        if shared.replaced is not None:
            await _close_shared(shared.replaced)
        left_to_command = await shared.retire()
    finally:
        if not left_to_command:
            await disconnect(shared.client)


def _discard(shared: SharedClient) -> None:
    drop_connections(shared.client)
    if shared.replaced is not None:
        _discard(shared.replaced)


class Sentinels(Sentinel):
    """Sentinels that tell, where no master is found, what each of them says."""

    def __init__(self, *args: Any, **options: Any) -> None:
        init: Any = super().__init__  # untyped in redis-py
        init(*args, **options)
        self._all = tuple(self.sentinels)

    async def discover_master(self, service_name: str) -> Any:
        """Return the address of a master.

        Args:
            service_name: the name under which the sentinels know it.
        """
        try:
            # Untyped in redis-py.
            discover: Any = super().discover_master
            return await discover(service_name)
        except MasterNotFoundError:
            answers = [await _answer(node, service_name) for node in self._all]
            raise MasterNotFoundError(f"{NO_MASTER} ({'; '.join(answers)})") from None
        finally:
            # The one that has answered changes places with the first; where several ask at the same
            # time, one that was down would be lost by that.
            first = self.sentinels[0]
            self.sentinels = [first, *(node for node in self._all if node is not first)]


async def _answer(sentinel: Any, master_name: str) -> str:
    """Say what a sentinel has to say about a master that was not found."""
    options = sentinel.connection_pool.connection_kwargs
    address = f"{options['host']}:{options['port']}"
    try:
        known = await sentinel.sentinel_masters()
    except REDIS_ERRORS as error:
        return f"{address}: {str(error).rstrip('.')}"
    if master_name in known:
        return f"{address} takes it for down, or sees too few other sentinels"
    return f"{address} knows {', '.join(map(repr, sorted(known))) or 'no master'}"


async def _longest_value(client: Client) -> int:
    """Ask how many bytes the server takes in one piece (CONFIG GET)."""
    try:
        reply: Any = await client.config_get("proto-max-bulk-len")
    except ResponseError as error:
        if was_not_executed(error):
            raise
        # Not everybody may ask.
        return USUAL_LIMIT
    return int(next(iter(reply.values())))


def _query_of(url: str) -> dict[str, Any]:
    """Return the connection options that a URL holds; the function is untyped in redis-py."""
    parse: Any = parse_url
    options: dict[str, Any] = parse(url)
    return options


@contextmanager
def as_option_error(option: str, kind: type[Exception]) -> Iterator[None]:
    """Turn what redis-py raises, when it is given options that it can't use, into our error."""
    try:
        yield
    except kind as error:
        raise InvalidOptionError(
            option=option,
            problem=str(error).rstrip("."),
            advice="Check the connection options, those in the URL's query too.",
        ) from strip_tracebacks(error)


async def execute(client: Any, *command: str | bytes | int) -> Any:
    """Run a command as it stands; the method for that is untyped in redis-py."""
    return await client.execute_command(*command)


async def execute_words(command: Sequence[str | bytes | int], client: Client) -> Any:
    """Run a command as it stands."""
    return await execute(client, *command)


async def evaluate(
    client: Client, script: Script, keys: list[str], args: list[str | bytes | int]
) -> Any:
    """Run a Lua script, which the server may not have seen yet."""
    try:
        return await client.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await client.eval(script.source, len(keys), *keys, *args)


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
    for kind in options.get("retry_on_error") or ():
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidOptionError(
                option="retry_on_error",
                problem=f"{kind!r} is no class of exceptions",
                advice="Give a list of them.",
            )
