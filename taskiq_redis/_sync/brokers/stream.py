# Generated from taskiq_redis/_async/brokers/stream.py by scripts/unasync.py; edit that.

"""Tasks in a stream: shared by the workers of a group, and kept until they are acknowledged."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from taskiq import AckableMessage

from taskiq_redis._blocking import SyncResultBackend
from taskiq_redis._core.options import StreamOptions
from taskiq_redis._core.servers import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.wire import StreamEntry, as_str
from taskiq_redis._sync.brokers.acknowledge import Acknowledger
from taskiq_redis._sync.brokers.base import (
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    LastingReader,
    Message,
    Reader,
)
from taskiq_redis._sync.brokers.groups import ConsumerGroup
from taskiq_redis._sync.brokers.producer import AddCommand, QueueBroker
from taskiq_redis._sync.brokers.stream_reader import (
    NEW,
    Consumer,
    MergedReader,
    StreamReader,
    by_slot,
)
from taskiq_redis._sync.brokers.trimming import Progress, trim

T = TypeVar("T")

#: the field of a stream entry that holds the bytes of a message
DATA = "data"

logger = logging.getLogger("taskiq_redis")


class StreamBroker(QueueBroker):
    """A broker that keeps its queue in a stream, read by a consumer group.

    Args:
        server: where Redis is.
        options: see `StreamOptions`.
        task_id_generator: makes the ids of new tasks.
        result_backend: where results go.
    """

    def __init__(
        self,
        server: Server,
        options: StreamOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self.consumer_group_name = options.consumer_group_name
        self.consumer_name = options.unique_consumer_name()
        self.consumer_id = options.consumer_id
        self.mkstream = options.mkstream
        self.block = options.xread_block
        self.maxlen = options.maxlen
        self.approximate = options.approximate
        self.idle_timeout = options.idle_timeout
        self.unacknowledged_batch_size = options.unacknowledged_batch_size
        self.unacknowledged_lock_timeout = options.unacknowledged_lock_timeout
        self.count = options.xread_count
        self.additional_streams = dict(options.additional_streams or {})
        for stream in self.additional_streams:
            self._check_queue("additional_streams", stream)
        self.delete_acked = options.delete_acked
        self._acknowledger = Acknowledger(self.connection)

    def startup(self) -> None:
        """Run taskiq's startup hooks; a worker also creates its consumer group.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses, because of a password, an ACL or a key's type.
        """
        super().startup()
        if self.is_worker_process:
            self._declare_consumer_group()

    def _declare_consumer_group(self) -> None:
        """Create the group on all streams that this worker listens to, where it doesn't exist."""
        self._declared_group()

    def _declared_group(self) -> ConsumerGroup:
        start_id = None if self.consumer_id is None else str(self.consumer_id)
        group = ConsumerGroup(self.connection, self.consumer_group_name, start_id, self.mkstream)
        for stream in self._positions():
            group.declare(stream)
        return group

    def _positions(self) -> dict[str, str]:
        others = {stream: str(position) for stream, position in self.additional_streams.items()}
        return {self.queue_name: NEW, **others}

    def add_command(self) -> AddCommand:
        """Return what adds a message to the end of a stream (XADD)."""
        if self.maxlen is None:
            return AddCommand("XADD", ("*", DATA))
        limit = "~" if self.approximate else "="
        return AddCommand("XADD", ("MAXLEN", limit, self.maxlen, "*", DATA))

    def open_reader(self) -> Reader:
        """Make what reads the streams (XREADGROUP, XAUTOCLAIM); on a cluster, one per hash slot."""
        consumer = Consumer(
            self._declared_group(),
            self.consumer_name,
            self.count,
            self.idle_timeout,
            self.unacknowledged_batch_size,
        )
        positions = self._positions()
        slots = by_slot(positions) if self.connection.sharded else [positions]
        if len(slots) == 1:
            return self._reader_of(consumer, positions)
        # Each waits out its own outages: those of one slot are none of the others'.
        readers = ((partial(self._reader_of, consumer, slot), slot) for slot in slots)
        server = self.connection.server
        return MergedReader([LastingReader(opens, server, slot) for opens, slot in readers])

    def _reader_of(self, consumer: Consumer, positions: dict[str, str]) -> StreamReader:
        wait = self.connection.wait_time(self.block / 1000)
        client = self.connection.make_client(wait)
        return StreamReader(self.connection, client, consumer, positions, wait, self._wrap)

    def _wrap(self, entry: StreamEntry) -> Message | None:
        """Turn an entry into a message; one without a task is acknowledged, not to come back."""
        data = entry.fields.get(DATA)
        if data is not None:
            # By name, as 1.2.4 did: subclasses have a generator of their own.
            acknowledge = self._ack_generator(id=entry.id, queue_name=entry.stream)
            return AckableMessage(data=data, ack=acknowledge)
        if entry.fields:
            logger.error(
                "The entry %s of the stream %r has no field %r, only %s. It is not a task: it is "
                "acknowledged, and stays in the stream.",
                entry.id,
                entry.stream,
                DATA,
                sorted(entry.fields),
            )
        self._acknowledge(entry.stream, entry.id, delete=False)
        return None

    def _ack_generator(
        self,
        id: str | bytes,  # noqa: A002 - its name in 1.2.4
        queue_name: str | bytes,
    ) -> Callable[[], None]:
        """Make what acknowledges an entry, and deletes it if no group needs it any more.

        Args:
            id: of the entry.
            queue_name: the stream that it is in.
        """
        # Subclasses with a `listen` of their own pass on what redis-py returns.
        stream, entry_id = as_str(queue_name), as_str(id)

        def acknowledge() -> None:
            self._acknowledge(stream, entry_id, self.delete_acked)

        return acknowledge

    def _acknowledge(self, stream: str, entry_id: str, delete: bool) -> None:
        group = self.consumer_group_name
        self._acknowledger.acknowledge(stream, group, [entry_id], delete)

    def trim(self, progress: Progress | None = None) -> int:
        """Delete what all groups have acknowledged, in bounded steps, and return how many it was.

        That is for streams that were filled with `delete_acked=False`, or by taskiq-redis 1.2.4,
        which deletes nothing (XINFO, XPENDING, XTRIM).

        Args:
            progress: is called after each step with the name of the stream, and the number of
                entries of it that are deleted so far. Default None.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis doesn't do it.
        """
        streams = self._positions()
        return sum([trim(self.connection, stream, progress) for stream in streams])


class SyncRedisStreamBroker(StreamBroker, BaseRedisBroker):
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
        idle_timeout: ms; unacknowledged for so long, a message goes to another worker.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read; None for no limit. Default 100.
        additional_streams: further streams, and the id to read each from, mostly ``>``.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
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
        idle_timeout: int = 600_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        additional_streams: dict[str, str | int] | None = None,
        kick_timeout: float = 10,
        delete_acked: bool = True,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                delete_acked=delete_acked,
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


class SyncRedisStreamClusterBroker(StreamBroker, BaseRedisClusterBroker):
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
        additional_streams: further streams, in any hash slot, and the id to read each from.
        idle_timeout: ms; unacknowledged for so long, a message goes to another worker.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read; None for no limit. Default 100.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
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
        idle_timeout: int = 600_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        kick_timeout: float = 10,
        delete_acked: bool = True,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            StreamOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                delete_acked=delete_acked,
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


class SyncRedisStreamSentinelBroker(StreamBroker, BaseSentinelBroker):
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
        additional_streams: further streams, and the id to read each from, mostly ``>``.
        idle_timeout: ms; unacknowledged for so long, a message goes to another worker.
        unacknowledged_batch_size: most messages taken over in one go. Default 100.
        unacknowledged_lock_timeout: without effect, and warned about.
        xread_count: most messages per read; None for no limit. Default 100.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        delete_acked: whether a message is deleted once every group has acknowledged it. Default
            True.
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
        idle_timeout: int = 600_000,
        unacknowledged_batch_size: int = 100,
        unacknowledged_lock_timeout: float | None = None,
        xread_count: int | None = 100,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        delete_acked: bool = True,
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
