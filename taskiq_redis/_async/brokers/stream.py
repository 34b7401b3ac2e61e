"""Brokers on streams, on each topology."""

from typing import Any, TypeVar

from taskiq_redis._async.brokers.base import (
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
)
from taskiq_redis._async.brokers.stream_broker import StreamBroker
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.options import StreamOptions

T = TypeVar("T")


class RedisStreamBroker(StreamBroker, BaseRedisBroker):
    """Keeps the queue in a stream on one Redis server, with acknowledgements.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        queue_name: key of the stream. Default ``taskiq``.
        max_connection_pool_size: most connections for commands at a time. Default 50.
        consumer_group_name: workers of one group share the messages. Default ``taskiq``.
        consumer_name: the name of this worker in its group. Default a new UUID.
        consumer_id: where a new group begins to read. Default None: at the beginning if the
            stream has no group yet, else at its end.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long a read waits before it is renewed. Default 2,000.
        maxlen: cap on the stream's length; drops undelivered messages too. Default none.
        approximate: whether `maxlen` may be overshot a little. Default True.
        idle_timeout: ms; when a worker has died, its messages go to others after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read, of all streams together; None for no limit. Default
            100.
        additional_streams: further streams, and ``>`` for each.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        connection_kwargs: go to redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int | None = None,
        consumer_group_name: str = "taskiq",
        consumer_name: str | None = None,
        consumer_id: str | None = None,
        mkstream: bool = True,
        xread_block: int = 2000,
        maxlen: int | None = None,
        approximate: bool = True,
        idle_timeout: int = 15_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        additional_streams: dict[str, str | int] | None = None,
        kick_timeout: float = 10,
        delete_acked: bool = True,
        max_deliveries: int | None = 5,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                consumer_group_name=consumer_group_name,
                consumer_name=consumer_name,
                consumer_id=consumer_id,
                mkstream=mkstream,
                xread_block=xread_block,
                maxlen=maxlen,
                approximate=approximate,
                idle_timeout=idle_timeout,
                unacknowledged_batch_size=unacknowledged_batch_size,
                unacknowledged_lock_timeout=unacknowledged_lock_timeout,
                xread_count=xread_count,
                additional_streams=additional_streams,
            ),
        )


class RedisStreamClusterBroker(StreamBroker, BaseRedisClusterBroker):
    """Keeps the queue in a stream on a Redis Cluster, with acknowledgements.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: key of the stream. Default ``taskiq``.
        max_connection_pool_size: most connections per node. Default unbounded; at most 50 commands
            are under way at a time.
        consumer_group_name: workers of one group share the messages. Default ``taskiq``.
        consumer_name: the name of this worker in its group. Default a new UUID.
        consumer_id: where a new group begins to read. Default None: at the beginning if the
            stream has no group yet, else at its end.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long a read waits before it is renewed. Default 10,000.
        maxlen: cap on the stream's length; drops undelivered messages too. Default none.
        approximate: whether `maxlen` may be overshot a little. Default True.
        additional_streams: further streams, in any hash slot, and ``>`` for each.
        idle_timeout: ms; when a worker has died, its messages go to others after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read, of all streams together; None for no limit. Default
            100.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        connection_kwargs: go to redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int = 2**31,
        consumer_group_name: str = "taskiq",
        consumer_name: str | None = None,
        consumer_id: str | None = None,
        mkstream: bool = True,
        xread_block: int = 10000,
        maxlen: int | None = None,
        approximate: bool = True,
        additional_streams: dict[str, str | int] | None = None,
        idle_timeout: int = 15_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        kick_timeout: float = 10,
        delete_acked: bool = True,
        max_deliveries: int | None = 5,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                consumer_group_name=consumer_group_name,
                consumer_name=consumer_name,
                consumer_id=consumer_id,
                mkstream=mkstream,
                xread_block=xread_block,
                maxlen=maxlen,
                approximate=approximate,
                idle_timeout=idle_timeout,
                unacknowledged_batch_size=unacknowledged_batch_size,
                unacknowledged_lock_timeout=unacknowledged_lock_timeout,
                xread_count=xread_count,
                additional_streams=additional_streams,
            ),
        )


class RedisStreamSentinelBroker(StreamBroker, BaseSentinelBroker):
    """Keeps the queue in a stream on the master that sentinels name, with acknowledgements.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        min_other_sentinels: a sentinel that sees fewer others isn't believed. Default 0.
        queue_name: key of the stream. Default ``taskiq``.
        consumer_group_name: workers of one group share the messages. Default ``taskiq``.
        consumer_name: the name of this worker in its group. Default a new UUID.
        consumer_id: where a new group begins to read. Default None: at the beginning if the
            stream has no group yet, else at its end.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long a read waits before it is renewed. Default 10,000.
        maxlen: cap on the stream's length; drops undelivered messages too. Default none.
        approximate: whether `maxlen` may be overshot a little. Default True.
        additional_streams: further streams, and ``>`` for each.
        idle_timeout: ms; when a worker has died, its messages go to others after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read, of all streams together; None for no limit. Default
            100.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        min_other_sentinels: int = 0,
        queue_name: str = "taskiq",
        consumer_group_name: str = "taskiq",
        consumer_name: str | None = None,
        consumer_id: str | None = None,
        mkstream: bool = True,
        xread_block: int = 10000,
        maxlen: int | None = None,
        approximate: bool = True,
        additional_streams: dict[str, str | int] | None = None,
        idle_timeout: int = 15_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        delete_acked: bool = True,
        max_deliveries: int | None = 5,
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
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                consumer_group_name=consumer_group_name,
                consumer_name=consumer_name,
                consumer_id=consumer_id,
                mkstream=mkstream,
                xread_block=xread_block,
                maxlen=maxlen,
                approximate=approximate,
                idle_timeout=idle_timeout,
                unacknowledged_batch_size=unacknowledged_batch_size,
                unacknowledged_lock_timeout=unacknowledged_lock_timeout,
                xread_count=xread_count,
                additional_streams=additional_streams,
            ),
        )
