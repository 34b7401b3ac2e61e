"""Brokers on pub/sub: every worker that listens gets each task."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from taskiq import BrokerMessage
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers.base import (
    BaseBroker,
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
)
from taskiq_redis._async.connection import Connection, execute
from taskiq_redis._async.subscription import Subscription
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.delays import DELAYED_LABEL
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.wire import as_bytes
from taskiq_redis._drivers.aio import disconnect
from taskiq_redis._runtime.aio import cancellable
from taskiq_redis.exceptions import InvalidOptionError

T = TypeVar("T")

#: s; how long one read waits, and so how soon a listener notices that it has to stop
LISTEN_WAIT = 1.0
#: s; timeout for the reply to PING, which is sent to a silent server
PONG_WAIT = 10.0


class ChannelReader(Reader[Message]):
    """Receives messages that are published to a channel.

    Args:
        connection: where the channel is.
        channel: its name.
    """

    def __init__(self, connection: Connection, channel: str) -> None:
        self._connection = connection
        self._channel = channel
        self._subscription: Subscription | None = None

    async def fetch(self) -> list[Message]:
        """Wait for a message; after a fault, subscribe again on a new connection."""
        try:
            reply = await cancellable(self._receive)
        except Exception:
            await self.close()
            raise
        return [as_bytes(reply["data"])] if reply and reply["type"] == "message" else []

    async def _receive(self) -> Any:
        subscription = await self._subscribed()
        return await subscription.receive(LISTEN_WAIT)

    async def _subscribed(self) -> Subscription:
        if self._subscription is None:
            client = await self._connection.make_subscriber(self._channel)
            wanted = frozenset({self._channel})
            self._subscription = Subscription(client, lambda: wanted, PONG_WAIT)
            await self._subscription.update()
        return self._subscription

    async def close(self) -> None:
        """End the subscription by closing its connection."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await disconnect(subscription.client)


class ChannelBroker(BaseBroker):
    """A broker that publishes.

    A task goes to every worker that listens at that moment. It isn't kept, and so it is lost for
    a worker that is away or reconnecting.
    """

    async def kick(self, message: BrokerMessage) -> None:
        """Publish a message (PUBLISH); it isn't published again if the reply is lost.

        Args:
            message: the message as taskiq's formatter made it.

        Raises:
            InvalidOptionError: the task ID or the channel's name can't be sent, or the message has
                a delay.
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
        channel, data = self._queue_of(message), message.message
        await self._connection.call(
            # RedisCluster has no method for it before redis-py 8.
            lambda client: execute(client, "PUBLISH", channel, data),
            key=channel,
            size=len(data),
            repeatable=False,
            retry_timeout=self.kick_timeout,
        )

    async def _kick_to(
        self,
        queue_name: str,  # noqa: ARG002 - `kick` finds it as well
        messages: Sequence[BrokerMessage],
    ) -> None:
        for message in messages:
            await self.kick(message)

    async def _open_reader(self) -> Reader[Message]:
        """Make the reader of the channel (SUBSCRIBE)."""
        return ChannelReader(self._connection, self.queue_name)


class PubSubBroker(ChannelBroker, BaseRedisBroker):
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
        result_backend: AsyncResultBackend[T] | None = None,
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


class PubSubClusterBroker(ChannelBroker, BaseRedisClusterBroker):
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


class PubSubSentinelBroker(ChannelBroker, BaseSentinelBroker):
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
        result_backend: AsyncResultBackend[T] | None = None,
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
