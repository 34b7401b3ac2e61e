"""Run commands and scripts on Redis, and retry them."""

import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, ResponseError

from taskiq_redis._async.clients import Client, clients_of, with_timeout
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.shared_client import SharedClient
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.lua import Script
from taskiq_redis._core.redis_errors import (
    REDIS_ERRORS,
    Predicate,
    as_outage,
    backoff,
    describe_target,
    is_auth_error,
    is_connection_lost,
    is_from_redis_py,
    is_transient,
    keys_are_moving,
    leads_to_wrong_server,
    strip_tracebacks,
    translate,
    was_not_executed,
)
from taskiq_redis._drivers.aio import (
    as_connection_loss,
    follow_rotation,
    mark_for_reconnect,
    restore_startup_nodes,
)
from taskiq_redis._runtime.aio import cancellable, max_block_time, sleep
from taskiq_redis.exceptions import (
    CommandRefusedError,
    ServerUnavailableError,
    TaskIQRedisError,
    ValueTooLargeError,
)

T = TypeVar("T")

#: s; how long a command is retried before its caller gets `ServerUnavailableError`
RETRY_TIMEOUT = 10.0
#: limit for commands in flight, like redis-py's default for a blocking pool
COMMANDS_IN_FLIGHT = 50
#: s; when the connection of a background activity is lost, others count as idle after this time
IDLE_AFTER = 1.0
#: s; a bounded command waits at least so long for a reply, even if its deadline is sooner
MIN_REPLY_TIMEOUT = 1.0
#: bytes; minimum and default of the server's proto-max-bulk-len
MIN_BULK_LEN, DEFAULT_BULK_LEN = 2**20, 2**29
#: connection options that let redis-py send a command again
REPEATING_OPTIONS = frozenset(
    {"cluster_error_retry_attempts", "retry", "retry_on_error", "retry_on_timeout"}
)


class Connection:
    """Runs the commands of one broker, result backend or schedule source.

    One client for commands per event loop is made on first use and kept. Blocking reads and
    subscriptions get clients of their own.

    Args:
        server: address and connection options of Redis.
        owner: class of that object; error messages suggest its options. Default none.
        max_wait: s; how long a bounded command waits for a connection or a reply, if the user's
            timeouts are longer. Bounded commands have a client of their own then. Default: the
            user's timeouts.

    Raises:
        InvalidOptionError: redis-py can't use a connection option.
    """

    def __init__(
        self, server: Server, owner: type = object, max_wait: float = float("inf")
    ) -> None:
        self.server = server
        self._clients = clients_of(server, owner)
        #: whether the keys of one command have to share a hash slot
        self.sharded = self._clients.sharded
        #: whether redis-py may retry commands, because of the user's options or client
        self.may_repeat = not REPEATING_OPTIONS.isdisjoint(self._clients.options)
        self._shared = LoopLocal(
            lambda: self._share(self.make_client()), SharedClient.close, SharedClient.drop
        )
        #: clients for bounded commands; None if the timeouts of the others are short enough
        self._bounded = self._make_bounded(max(MIN_REPLY_TIMEOUT, max_wait))
        #: whether the user has made the client for commands
        self._replaced = False
        self._lock = ForkSafeLock()
        #: all its clients, also one that the user made
        self._made: weakref.WeakSet[Client] = weakref.WeakSet()
        #: bytes; known lower bound of the server's proto-max-bulk-len
        self._bulk_len = MIN_BULK_LEN

    def _make_bounded(self, timeout: float) -> LoopLocal[SharedClient] | None:
        if self._clients.longest_wait <= timeout:
            return None
        clients = clients_of(with_timeout(self.server, timeout, self._clients.options))
        return LoopLocal(
            lambda: self._share(self._add(follow_rotation(clients.make_client()))),
            SharedClient.close,
            SharedClient.drop,
        )

    @property
    def client(self) -> Client:
        """The client for commands; the same one until `close`, on one event loop."""
        try:
            return self._shared.get().client
        except REDIS_ERRORS as error:
            raise self._translate(error) from strip_tracebacks(error)

    def use(self, client: Client) -> None:
        """Run commands with a client that the user made, until `close`, which closes it.

        Args:
            client: the client. The client that it replaces is closed together with it.
        """
        self.may_repeat = True
        shared = self._share(self._add(client))
        shared.replaced = self._shared.swap(shared)
        self._replaced = True

    def _share(self, client: Client) -> SharedClient:
        sizes = (
            self.server.max_connection_pool_size,
            self._clients.options.get("max_connections"),
        )
        return SharedClient(client, min(size or COMMANDS_IN_FLIGHT for size in (*sizes, None)))

    def make_client(self, block: float | None = None) -> Client:
        """Build a further client, which the caller closes with `disconnect`.

        Args:
            block: s; how long its reads may block; None for a client that runs other commands.
        """
        return self._add(follow_rotation(self._clients.make_client(block)))

    def _add(self, client: Client) -> Client:
        with self._lock:
            self._made.add(client)
        return client

    async def make_subscriber(self, channel: str) -> Redis:
        """Build a client for a subscription, which the caller closes with `disconnect`.

        Args:
            channel: name of the channel.
        """
        return await self._clients.make_subscriber(channel, self.client)

    def block_time(self, wanted: float) -> float:
        """Return how long a read may block, in s.

        A ``socket_timeout`` of the user limits it, and in the blocking twin `max_block_time`.
        """
        wanted, chosen = max_block_time(wanted), self._clients.options.get("socket_timeout")
        return wanted if chosen is None else min(wanted, chosen / 2)

    async def call(
        self,
        command: Callable[[Client], Awaitable[T]],
        *,
        key: str | Sequence[str] = (),
        size: int = 0,
        repeatable: bool = True,
        is_retried: Predicate = is_transient,
        retry_timeout: float = RETRY_TIMEOUT,
        bounded: bool = False,
        waits_for_slot: bool = True,
    ) -> T:
        """Run a command, and retry it while Redis can't be reached.

        Args:
            command: gets the client for commands.
            key: Redis key or keys, for error messages.
            size: bytes; length of the longest value that it sends, if that may exceed 1 MiB.
            repeatable: whether the command may run twice. If not, it is retried only if it was
                certainly not executed.
            is_retried: returns whether to retry a repeatable command after an error.
            retry_timeout: s; how long to retry; the last try may take `CONNECT_TIMEOUT` longer.
            bounded: whether no try may take longer than `max_wait` of this connection.
            waits_for_slot: whether to retry while the hash slot of the keys is moving, when only
                commands with one key can be executed. If not, that is a refusal, unless an earlier
                try may have been executed.

        Raises:
            ServerUnavailableError: Redis could not be reached for `retry_timeout`.
            CommandRefusedError: Redis refuses the command.
        """
        began = time.monotonic()
        deadline, attempt = began + retry_timeout, 0
        while True:
            try:
                async with self._reserve_client(bounded) as client:
                    if size > self._bulk_len:
                        await cancellable(self._check_size, client, size, key)
                    return await cancellable(command, client)
            except TaskIQRedisError:
                raise
            except Exception as raised:
                error = known_error(raised)
                if error is None:
                    raise
                pause, attempt = backoff(attempt), attempt + 1
                self._drop_connections(error, time.monotonic() - began)
                retry = is_retried(error) if repeatable else was_not_executed(error)
                waits_for_slot = waits_for_slot or not was_not_executed(error)
                blocked = keys_are_moving(error) and not waits_for_slot
                if not retry or blocked or time.monotonic() + pause > deadline:
                    translated = self._translate(error, *_keys(key))
                    if blocked:
                        translated = _as_refusal(translated)
                    raise translated from strip_tracebacks(error)
            await sleep(pause)
            began = time.monotonic()

    def outage(self, error: Exception, *keys: str) -> TaskIQRedisError:
        """Return an error of a background activity with advice, before that is retried.

        Args:
            error: any exception.
            keys: Redis keys or channels, for the message.
        """
        if isinstance(error, TaskIQRedisError):
            return error
        known = known_error(error) or as_outage(error)
        self._drop_connections(known, IDLE_AFTER)
        translated = self._translate(known, *keys)
        strip_tracebacks(known)
        return translated

    def _translate(self, error: BaseException, *keys: str) -> TaskIQRedisError:
        translated = translate(error, str(self.server), *keys)
        if not isinstance(translated, ServerUnavailableError):
            return translated
        more = self._clients.closing_advice(translated.reason)
        if not more:
            return translated
        return ServerUnavailableError(
            server=translated.server,
            reason=translated.reason,
            problem=translated.problem,
            advice=f"{translated.advice} {more}",
        )

    def _drop_connections(self, error: BaseException, silent_for: float) -> None:
        """Let connections be replaced before their next command, if an error shows they are bad.

        If one leads to the wrong server, all may. If one is dead, so may be all that have been idle
        as long: firewalls and NAT gateways forget idle connections without closing them. If no node
        of a cluster can be reached, all may have got new addresses.

        Args:
            error: the error.
            silent_for: s; if a connection is lost, those that have received data since then stay.
        """
        at_wrong_server = leads_to_wrong_server(error)
        lost = at_wrong_server or is_connection_lost(error)
        unreachable = isinstance(error, RedisClusterException)
        if not (lost or unreachable):
            return
        with self._lock:
            clients = tuple(self._made)
        for client in clients:
            if lost:
                mark_for_reconnect(client, 0.0 if at_wrong_server else silent_for)
            if unreachable and isinstance(client, RedisCluster):
                restore_startup_nodes(client)

    def _reserve_client(self, bounded: bool) -> SharedClient:
        clients = self._shared
        if bounded and self._bounded is not None and not self._replaced:
            clients = self._bounded
        shared = clients.get()
        while not shared.reserve():
            shared = clients.get()
        return shared

    async def _check_size(self, client: Client, size: int, key: str | Sequence[str]) -> None:
        """Refuse a value that is too long, for which the server would close the connection."""
        self._bulk_len = await _bulk_len_of(client)
        if size > self._bulk_len:
            raise ValueTooLargeError(
                server=describe_target(str(self.server), *_keys(key)),
                reason=f"{size:,} bytes are more than its proto-max-bulk-len of {self._bulk_len:,}",
                advice="Send a reference to the data, such as a path, or raise that limit.",
            )

    async def check(self) -> bool:
        """Connect, and raise errors that a retry doesn't fix, such as a wrong password.

        An unreachable server is no error: it may be up when it is needed.

        Returns:
            Whether the server can be reached.
        """

        async def connect_one(client: Client) -> None:
            # A cluster client has connected to load its slots.
            if isinstance(client, Redis):
                pool: Any = client.connection_pool
                await pool.release(await pool.get_connection())
                await _check_password(client)

        try:
            await self.call(connect_one, retry_timeout=0, bounded=True)
        except ServerUnavailableError:
            return False
        return True

    async def run_script(
        self,
        script: Script,
        keys: list[str],
        args: list[str | bytes | int],
        *,
        key: str | Sequence[str] = (),
        repeatable: bool = True,
        is_retried: Predicate = is_transient,
        retry_timeout: float = RETRY_TIMEOUT,
        waits_for_slot: bool = True,
    ) -> Any:
        """Run a Lua script.

        Args:
            script: the script.
            keys: its KEYS; on a cluster they share a slot.
            args: its ARGV.
            key: Redis keys or patterns, for error messages. Default `keys`.
            repeatable: whether the script may run twice; see `call`.
            is_retried: returns whether to retry a repeatable script after an error.
            retry_timeout: s; how long to retry.
            waits_for_slot: see `call`.
        """
        return await self.call(
            partial(evaluate, script, keys, args),
            key=key or keys,
            size=max((len(arg) for arg in args if isinstance(arg, bytes)), default=0),
            repeatable=repeatable,
            is_retried=is_retried,
            retry_timeout=retry_timeout,
            waits_for_slot=waits_for_slot,
        )

    async def close(self) -> None:
        """Close the client when the commands in flight are done; the next command makes a new one.

        A client of another event loop is closed by a `close` there, or when that loop ends.
        """
        self._replaced = False
        shared, bounded = self._shared.pop(), self._bounded and self._bounded.pop()
        try:
            if shared is not None:
                await shared.close()
        finally:
            if bounded:
                await bounded.close()


def _keys(key: str | Sequence[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(dict.fromkeys(key))


def known_error(error: Exception) -> Exception | None:
    """Return an error as one of redis-py, if it is one or comes from there; None for others."""
    if isinstance(error, REDIS_ERRORS):
        return error
    loss = as_connection_loss(error) if isinstance(error, (TypeError, RuntimeError)) else None
    return loss or (as_outage(error) if is_from_redis_py(error) else None)


async def _check_password(client: Client) -> None:
    """Raise an error if a password is required, and none was given (HELLO).

    Users of any rights may run the command, on servers that have it.
    """
    try:
        await execute(client, "HELLO")
    except ResponseError as error:
        if is_auth_error(error):
            raise


async def _bulk_len_of(client: Client) -> int:
    """Return the maximum length of a value in bytes (CONFIG GET)."""
    try:
        reply: Any = await client.config_get("proto-max-bulk-len")
    except ResponseError as error:
        if was_not_executed(error):
            raise
        # Many users may not run CONFIG.
        return DEFAULT_BULK_LEN
    return int(next(iter(reply.values())))


async def execute(client: Any, *command: str | bytes | int) -> Any:
    """Run a command that is given by its words; the method is untyped in redis-py."""
    return await client.execute_command(*command)


def _as_refusal(error: TaskIQRedisError) -> TaskIQRedisError:
    if not isinstance(error, ServerUnavailableError):
        return error
    return CommandRefusedError(server=error.server, reason=error.reason, advice=error.advice)


async def evaluate(
    script: Script, keys: Sequence[str], args: Sequence[str | bytes | int], client: Any
) -> Any:
    """Run a Lua script (EVALSHA), and load it first if the server doesn't have it (EVAL)."""
    try:
        # Not `evalsha`, whose two further calls cost every message time.
        return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await client.eval(script.source, len(keys), *keys, *args)
