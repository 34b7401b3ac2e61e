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
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        consumer_group_name: name of the consumer group, whose workers share the messages.
            Default ``taskiq``.
        consumer_name: name of this worker in its group, unique among all workers. Default a new
            UUID.
        consumer_id: entry ID, ``0`` or ``$``, where a new group begins to read. Default None: ``0``
            if the stream has no group yet, else ``$``.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long one XREADGROUP waits for new messages. Default 2,000.
        maxlen: maximum length of the stream; drops undelivered messages, too. Default none.
        approximate: whether the stream may become a little longer than `maxlen`. Default True.
        idle_timeout: ms; when a worker dies, other workers get its messages after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: maximum number of messages per claim from other workers.
            Default 100.
        unacknowledged_lock_timeout: accepted for 1.2.4, without effect; a warning says so.
        xread_count: maximum number of messages per read, of all streams together; None for no
            limit. Default 100.
        additional_streams: further streams to listen to, each with ``>``. Default none.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        delete_acked: whether a message is deleted when every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
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
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                unknown_task_timeout=unknown_task_timeout,
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
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
            ),
        )


class RedisStreamClusterBroker(StreamBroker, BaseRedisClusterBroker):
    """Keeps the queue in a stream on a Redis Cluster, with acknowledgements.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: key of the stream. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections per node. Default unlimited, but at
            most 50 commands are executed at a time.
        consumer_group_name: name of the consumer group, whose workers share the messages.
            Default ``taskiq``.
        consumer_name: name of this worker in its group, unique among all workers. Default a new
            UUID.
        consumer_id: entry ID, ``0`` or ``$``, where a new group begins to read. Default None: ``0``
            if the stream has no group yet, else ``$``.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long one XREADGROUP waits for new messages. Default 10,000.
        maxlen: maximum length of the stream; drops undelivered messages, too. Default none.
        approximate: whether the stream may become a little longer than `maxlen`. Default True.
        additional_streams: further streams to listen to, in any hash slot, each with ``>``. Default
            none.
        idle_timeout: ms; when a worker dies, other workers get its messages after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: maximum number of messages per claim from other workers.
            Default 100.
        unacknowledged_lock_timeout: accepted for 1.2.4, without effect; a warning says so.
        xread_count: maximum number of messages per read, of all streams together; None for no
            limit. Default 100.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        delete_acked: whether a message is deleted when every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
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
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                unknown_task_timeout=unknown_task_timeout,
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
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
            ),
        )


class RedisStreamSentinelBroker(StreamBroker, BaseSentinelBroker):
    """Keeps the queue in a stream on a master that sentinels monitor, with acknowledgements.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        queue_name: key of the stream. Default ``taskiq``.
        consumer_group_name: name of the consumer group, whose workers share the messages.
            Default ``taskiq``.
        consumer_name: name of this worker in its group, unique among all workers. Default a new
            UUID.
        consumer_id: entry ID, ``0`` or ``$``, where a new group begins to read. Default None: ``0``
            if the stream has no group yet, else ``$``.
        mkstream: whether a worker creates a stream that doesn't exist. Default True.
        xread_block: ms; how long one XREADGROUP waits for new messages. Default 10,000.
        maxlen: maximum length of the stream; drops undelivered messages, too. Default none.
        approximate: whether the stream may become a little longer than `maxlen`. Default True.
        additional_streams: further streams to listen to, each with ``>``. Default none.
        idle_timeout: ms; when a worker dies, other workers get its messages after this time. A task
            may take longer. Default 15,000.
        unacknowledged_batch_size: maximum number of messages per claim from other workers.
            Default 100.
        unacknowledged_lock_timeout: accepted for 1.2.4, without effect; a warning says so.
        xread_count: maximum number of messages per read, of all streams together; None for no
            limit. Default 100.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        delete_acked: whether a message is deleted when every group has acknowledged it. Default
            True.
        max_deliveries: a message that so many workers failed to acknowledge becomes a dead letter;
            None for no limit. Default 5.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
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
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
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
                track_tasks=track_tasks,
                track_ttl=track_ttl,
                delete_acked=delete_acked,
                max_deliveries=max_deliveries,
                unknown_task_timeout=unknown_task_timeout,
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
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
            ),
        )
