# Generated from taskiq_redis/_async/brokers/pubsub.py by scripts/unasync.py; edit that.

"""Brokers on pub/sub: every listening worker receives each message."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ResponseError
from taskiq import BrokerMessage

from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.delays import DELAYED_LABEL
from taskiq_redis._core.options import ChannelOptions
from taskiq_redis._core.output_buffers import DEFAULT_LIMIT, limit_of, longest_message
from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.redis_errors import describe_target, was_not_executed
from taskiq_redis._core.wire import as_bytes
from taskiq_redis._drivers.blocking import disconnect
from taskiq_redis._runtime.blocking import cancellable
from taskiq_redis._sync.brokers.base import (
    BaseBroker,
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
)
from taskiq_redis._sync.brokers.queue_contents import subscribers
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection, execute
from taskiq_redis._sync.subscription import Subscription
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import InvalidOptionError, ValueTooLargeError

T = TypeVar("T")

#: s; how long one read waits; short, as a clean stop waits for it to end
LISTEN_WAIT = 1.0
#: bytes; longer messages are published only if they fit into the output buffers of listeners
SHORT_MESSAGE = 2**16
#: s; timeout for the reply to the PING that checks an idle connection
PONG_WAIT = 10.0


class ChannelReader(Reader[Message]):
    """Receives messages that are published to a channel.

    Args:
        connection: makes the clients that subscribe.
        channel: name of the channel.
        accept: returns a message without its signature; None if it is dropped.
    """

    def __init__(
        self, connection: Connection, channel: str, accept: Callable[[bytes], bytes | None]
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._accept = accept
        self._subscription: Subscription | None = None

    def fetch(self) -> list[Message]:
        """Wait for a message; after an error, the next call subscribes on a new connection."""
        try:
            reply = cancellable(self._receive)
        except Exception:
            self.close()
            raise
        if not reply or reply["type"] != "message":
            return []
        message = self._accept(as_bytes(reply["data"]))
        return [] if message is None else [message]

    def _receive(self) -> Any:
        subscription = self._subscribed()
        return subscription.receive(LISTEN_WAIT)

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            client = self._connection.make_subscriber(self._channel)
            channels = frozenset({self._channel})
            self._subscription = Subscription(client, lambda: channels, PONG_WAIT)
            self._subscription.update()
        return self._subscription

    def close(self) -> None:
        """End the subscription by closing its connection."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            disconnect(subscription.client)


class ChannelBroker(BaseBroker):
    """A broker that publishes its messages.

    Each message goes to every worker that is listening. A worker that is stopped or reconnecting
    misses it.
    """

    _keeps_messages = False

    def __init__(
        self,
        server: Server,
        options: ChannelOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self.max_message_size: int | None = options.max_message_size
        #: bytes; length up to which messages certainly reach the listeners
        self._deliverable = SHORT_MESSAGE

    def kick(self, message: BrokerMessage) -> None:
        """Publish a message (PUBLISH); it isn't published again if the reply is lost.

        Args:
            message: the message as taskiq's formatter made it.

        Raises:
            InvalidOptionError: the task ID or the channel's name can't be sent, the label
                `queue_name` names a channel that isn't allowed, or the message has a delay.
            ValueTooLargeError: the message is longer than the server can deliver, or longer than
                `max_message_size`.
            ServerUnavailableError: Redis could not be reached for `kick_timeout` seconds.
            CommandRefusedError: Redis refuses it, because of an ACL.
        """
        if DELAYED_LABEL in message.labels:
            raise InvalidOptionError(
                option="delay",
                problem="published messages are not stored, so they can't be delayed",
                advice="Send the task with a list or stream broker, or schedule it.",
            )
        channel = self._queue_of(message)
        data = self._sign_value("message", channel, message.message)
        self._connection.call(
            partial(self._publish, channel, data),
            key=channel,
            size=len(data),
            repeatable=False,
            retry_timeout=self.kick_timeout,
            bounded=True,
        )

    def _publish(self, channel: str, data: bytes, client: Client) -> None:
        chosen = self.max_message_size
        if len(data) > (self._deliverable if chosen is None else chosen):
            self._check_size(channel, len(data), client)
        # RedisCluster has no method for it before redis-py 8.
        execute(client, "PUBLISH", channel, data)

    def _check_size(self, channel: str, size: int, client: Client) -> None:
        """Refuse a message for which the server would close the connections of the listeners."""
        limit = longest = self.max_message_size
        name = "the `max_message_size` of this broker"
        if longest is None:
            limit, name = _output_limit_of(client)
            longest = size if limit is None else longest_message(limit)
            self._deliverable = longest
        if size > longest:
            raise ValueTooLargeError(
                server=describe_target(str(self._connection.server), channel),
                reason=f"{size:,} bytes are too much for {name}, {limit:,}",
                advice=(
                    "Send a reference to the data, such as a path, or raise that limit. Set "
                    "`max_message_size` if this user may not read the limit (CONFIG GET)."
                ),
            )

    def _kick_to(
        self,
        queue_name: str,  # noqa: ARG002 - `kick` determines it again
        messages: Sequence[BrokerMessage],
    ) -> None:
        for message in messages:
            self.kick(message)

    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return how many workers listen to a channel (PUBSUB NUMSUB, on all nodes of a cluster).

        Nothing else is known of it, as Redis doesn't store what is published.

        Args:
            queue_name: the channel. Default this broker's.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it, because of an ACL.
        """
        name = queue_name or self.queue_name
        number = subscribers(self._connection, name)
        return QueueStats(queue_name=name, kind="pubsub", subscribers=number)

    def _open_reader(self) -> Reader[Message]:
        """Make the reader of the channel (SUBSCRIBE)."""
        channel = self.queue_name
        return ChannelReader(self._connection, channel, partial(self._accept, channel))


def _output_limit_of(client: Client) -> tuple[int | None, str]:
    """Return the limit of a listener's output buffer in bytes, and its name (CONFIG GET)."""
    name = "the listeners' output buffers (`client-output-buffer-limit` for pubsub"
    try:
        reply: Any = client.config_get("client-output-buffer-limit")
    except ResponseError as error:
        if was_not_executed(error):
            raise
        # Many users may not run CONFIG.
        return DEFAULT_LIMIT, f"{name}, by default)"
    return limit_of(reply), f"{name})"


class SyncPubSubBroker(ChannelBroker, BaseRedisBroker):
    """Publishes each task to all listening workers, on one Redis server.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        result_backend: stores results, as for `with_result_backend`. Default none.
        queue_name: name of the channel. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        max_message_size: bytes; longer messages are refused. Default what the server's
            ``client-output-buffer-limit`` allows; 28 MiB if this user may not read it.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
        queue_name: str = "taskiq",
        max_connection_pool_size: int | None = None,
        kick_timeout: float = 10,
        max_message_size: int | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            ChannelOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                max_message_size=max_message_size,
            ),
            task_id_generator,
            result_backend,
        )


class SyncPubSubClusterBroker(ChannelBroker, BaseRedisClusterBroker):
    """Publishes each task to all listening workers, on a Redis Cluster.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: name of the channel. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections per node. Default unlimited, but at
            most 50 commands are executed at a time.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        max_message_size: bytes; longer messages are refused. Default what the server's
            ``client-output-buffer-limit`` allows; 28 MiB if this user may not read it.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int = 2**31,
        kick_timeout: float = 10,
        max_message_size: int | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            ChannelOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                max_message_size=max_message_size,
            ),
        )


class SyncPubSubSentinelBroker(ChannelBroker, BaseSentinelBroker):
    """Publishes each task to all listening workers, on a master that sentinels monitor.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        result_backend: stores results, as for `with_result_backend`. Default none.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        queue_name: name of the channel. Default ``taskiq``.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        max_message_size: bytes; longer messages are refused. Default what the server's
            ``client-output-buffer-limit`` allows; 28 MiB if this user may not read it.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        result_backend: SyncResultBackend[T] | None = None,
        task_id_generator: Callable[[], str] | None = None,
        queue_name: str = "taskiq",
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        max_message_size: int | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SentinelMaster(
                sentinels,
                master_name,
                min_other_sentinels,
                sentinel_kwargs,
                connection_kwargs=connection_kwargs,
            ),
            ChannelOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                max_message_size=max_message_size,
            ),
            task_id_generator,
            result_backend,
        )
