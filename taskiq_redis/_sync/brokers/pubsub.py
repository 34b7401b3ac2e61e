# Generated from taskiq_redis/_async/brokers/pubsub.py by scripts/unasync.py; edit that.

"""Tasks by publishing: everybody who listens gets each of them, and nobody else ever."""

from collections.abc import Callable
from typing import Any, TypeVar

from taskiq import BrokerMessage

from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.delays import DELAYED
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.wire import as_bytes
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

#: s; how long one look for messages waits, and so how soon a listener sees that it has to stop
LISTEN_WAIT = 1.0
#: s; how long a silent server may take to say that it is there
PONG_WAIT = 10.0


class ChannelReader(Reader[Message]):
    """Receives what is published to a channel.

    Args:
        connection: where the channel is.
        channel: its name.
    """

    def __init__(self, connection: Connection, channel: str) -> None:
        self._connection = connection
        self._channel = channel
        self._subscription: Subscription | None = None

    def fetch(self) -> list[Message]:
        """Wait for a message; after a fault, subscribe again on a new connection."""
        try:
            reply = cancellable(self._receive)
        except Exception:
            self.close()
            raise
        return [as_bytes(reply["data"])] if reply and reply["type"] == "message" else []

    def _receive(self) -> Any:
        subscription = self._subscribed()
        return subscription.receive(LISTEN_WAIT)

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            client = self._connection.make_subscriber(self._channel)
            wanted = frozenset({self._channel})
            self._subscription = Subscription(client, lambda: wanted, PONG_WAIT)
            self._subscription.listen()
        return self._subscription

    def close(self) -> None:
        """End the subscription by closing its connection."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._connection.close_client(subscription.client)


class ChannelBroker(BaseBroker):
    """A broker that publishes.

    A task goes to every worker that listens at that moment. It isn't kept, and so it is lost for
    a worker that is away or reconnecting.
    """

    def send(self, queue_name: str, message: BrokerMessage) -> None:
        """Publish a message (PUBLISH); after a lost reply it isn't published again."""
        if DELAYED in message.labels:
            raise InvalidOptionError(
                option="delay",
                problem="what is published is not kept, so it can't come later",
                advice="Send it by a broker for lists or streams, or schedule it.",
            )
        data = message.message
        self.connection.call(
            # RedisCluster has no method for it before redis-py 8.
            lambda client: execute(client, "PUBLISH", queue_name, data),
            key=queue_name,
            size=len(data),
            repeatable=False,
            retry_timeout=self.kick_timeout,
        )

    def open_reader(self) -> Reader[Message]:
        """Make what subscribes to the channel (SUBSCRIBE)."""
        return ChannelReader(self.connection, self.queue_name)


class SyncPubSubBroker(ChannelBroker, BaseRedisBroker):
    """Publishes every task to all workers of one Redis server that listen now.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: makes the ids of new tasks; better set by `with_id_generator`.
        result_backend: where results go; better set by `with_result_backend`.
        queue_name: name of the channel. Default ``taskiq``.
        max_connection_pool_size: most connections for commands at a time. Default 50.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: go to redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option can't work.
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
    """Publishes every task to all workers of a Redis Cluster that listen now.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: name of the channel. Default ``taskiq``.
        max_connection_pool_size: most connections per node. Default unbounded; at most 50 commands
            are under way at a time.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: go to redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option can't work.
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
    """Publishes every task to all workers on the master that sentinels name that listen now.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        result_backend: where results go; better set by `with_result_backend`.
        task_id_generator: makes the ids of new tasks; better set by `with_id_generator`.
        queue_name: name of the channel. Default ``taskiq``.
        min_other_sentinels: a sentinel that sees fewer others isn't believed. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option can't work.
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
