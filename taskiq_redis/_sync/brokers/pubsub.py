# Generated from taskiq_redis/_async/brokers/pubsub.py by scripts/unasync.py; edit that.

"""Brokers on pub/sub: every listening worker receives each message."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from taskiq import BrokerMessage

from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.delays import DELAYED_LABEL
from taskiq_redis._core.options import QueueOptions
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
from taskiq_redis._sync.connection import Connection, execute
from taskiq_redis._sync.subscription import Subscription
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import InvalidOptionError

T = TypeVar("T")

#: s; how long one read waits; short, as a clean stop waits for it to end
LISTEN_WAIT = 1.0
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

    def kick(self, message: BrokerMessage) -> None:
        """Publish a message (PUBLISH); it isn't published again if the reply is lost.

        Args:
            message: the message as taskiq's formatter made it.

        Raises:
            InvalidOptionError: the task ID or the channel's name can't be sent, the label
                `queue_name` names a channel that isn't allowed, or the message has a delay.
            ValueTooLargeError: the message is longer than the server allows.
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
        data = self._seal("message", channel, message.message)
        self._connection.call(
            # RedisCluster has no method for it before redis-py 8.
            lambda client: execute(client, "PUBLISH", channel, data),
            key=channel,
            size=len(data),
            repeatable=False,
            retry_timeout=self.kick_timeout,
            bounded=True,
        )

    def _kick_to(
        self,
        queue_name: str,  # noqa: ARG002 - `kick` determines it again
        messages: Sequence[BrokerMessage],
    ) -> None:
        for message in messages:
            self.kick(message)

    def _open_reader(self) -> Reader[Message]:
        """Make the reader of the channel (SUBSCRIBE)."""
        channel = self.queue_name
        return ChannelReader(self._connection, channel, partial(self._accept, channel))


class SyncPubSubBroker(ChannelBroker, BaseRedisBroker):
    """Publishes each task to all listening workers, on one Redis server.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        result_backend: stores results, as for `with_result_backend`. Default none.
        queue_name: name of the channel. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
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
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
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
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
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
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
            task_id_generator,
            result_backend,
        )
