"""Tasks in a stream: shared by the workers of a group, and kept until they are acknowledged."""

import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from taskiq import AckableMessage, TaskiqMessage, TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers import dead_letters
from taskiq_redis._async.brokers.acks import Acknowledgement, Acknowledger
from taskiq_redis._async.brokers.base import (
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
    ReconnectingReader,
)
from taskiq_redis._async.brokers.consumer_groups import ConsumerGroup
from taskiq_redis._async.brokers.delays import AddCommand, Promoter
from taskiq_redis._async.brokers.leases import (
    Consumer,
    Fetched,
    LeaseKeeper,
    ListenerState,
    PoisonSlot,
)
from taskiq_redis._async.brokers.producer import QueueBroker
from taskiq_redis._async.brokers.stream_reader import (
    MergedReader,
    SlotReader,
    StreamReader,
    by_slot,
)
from taskiq_redis._async.brokers.trimming import Progress, trim
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.dead_letters import DATA, DeadLetter
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.messages import WorkerMessage, forget_context
from taskiq_redis._core.options import InventedName, StreamOptions
from taskiq_redis._core.wire import StreamEntry, as_str
from taskiq_redis._runtime.aio import on_task_done
from taskiq_redis.exceptions import CommandRefusedError, DeadLetterError

T = TypeVar("T")

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
        result_backend: AsyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self.consumer_group_name: str = options.consumer_group_name
        self.consumer_name: str = options.unique_consumer_name()
        self.consumer_id: str | int | None = options.consumer_id
        self.mkstream: bool = options.mkstream
        self.block: int = options.xread_block
        self.maxlen: int | None = options.maxlen
        self.approximate: bool = options.approximate
        self.idle_timeout: int = options.idle_timeout
        self.unacknowledged_batch_size: int = options.unacknowledged_batch_size
        self.unacknowledged_lock_timeout: float | None = options.unacknowledged_lock_timeout
        self.count: int | None = options.xread_count
        self.additional_streams: dict[str, str | int] = dict(options.additional_streams or {})
        for stream in self.additional_streams:
            self._check_queue("additional_streams", stream)
        self.delete_acked: bool = options.delete_acked
        self.max_deliveries: int | None = options.max_deliveries
        self._acknowledger = Acknowledger(self.connection)
        self._poison_slot = PoisonSlot()
        #: those of one event loop
        self._listener_states: LoopLocal[list[ListenerState]] = LoopLocal(list)
        self._naming = ForkSafeLock()
        #: who has the consumer's name itself
        self._named: ListenerState | None = None
        self._process = os.getpid()

    async def startup(self) -> None:
        """Run taskiq's startup hooks; a worker also creates its consumer group.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses, because of a password, an ACL or a key's type.
        """
        await super().startup()
        if self.is_worker_process:
            await self._declare_consumer_group()

    async def _declare_consumer_group(self) -> None:
        """Create the group on all streams that this worker listens to, where it doesn't exist."""
        await self._declared_group()

    async def _declared_group(self) -> ConsumerGroup:
        start_id = None if self.consumer_id is None else str(self.consumer_id)
        group = ConsumerGroup(self.connection, self.consumer_group_name, start_id, self.mkstream)
        for stream in self._streams():
            await group.declare(stream)
        return group

    def _streams(self) -> list[str]:
        return list(dict.fromkeys([self.queue_name, *self.additional_streams]))

    def add_command(self) -> AddCommand:
        """Return what adds a message to the end of a stream (XADD)."""
        if self.maxlen is None:
            return AddCommand("XADD", ("*", DATA))
        limit = "~" if self.approximate else "="
        return AddCommand("XADD", ("MAXLEN", limit, self.maxlen, "*", DATA))

    async def open_reader(self) -> Reader[Message]:
        """Make what reads the streams (XREADGROUP, EVALSHA); on a cluster, one per hash slot."""
        listener_state = self._new_listener_state()
        try:
            return await self._open_reader(listener_state)
        except BaseException:
            listener_state.reads = False
            raise

    async def _open_reader(self, listener_state: ListenerState) -> Reader[Message]:
        consumer = Consumer(
            await self._declared_group(),
            listener_state.consumer_name,
            self.count,
            self.idle_timeout,
            self.unacknowledged_batch_size,
            self.max_deliveries,
        )
        streams = self._streams()
        slots = by_slot(streams) if self.connection.sharded else [streams]
        opens = [partial(self._reader_of, listener_state, consumer, slot) for slot in slots]
        # Each waits out its own outages: those of one slot are none of the others'.
        server = self.connection.server
        source = (
            await opens[0]()
            if len(opens) == 1
            else MergedReader(
                [
                    ReconnectingReader(each, server, slot)
                    for each, slot in zip(opens, slots, strict=True)
                ]
            )
        )
        wrap = partial(self._wrap, consumer)
        return StreamReader(source, wrap, self._stopping.get(), consumer.lease / 2, listener_state)

    def _new_listener_state(self) -> ListenerState:
        """Note a new listener; its consumer has a name that no other listener here has.

        What is held under a name tells who works on it.
        """
        with self._naming:
            free = os.getpid() == self._process and (self._named is None or self._named.over)
            other = InventedName(f"{self.consumer_name}:{uuid.uuid4()}")
            listener_state = ListenerState(self.consumer_name if free else other)
            if free:
                self._named = listener_state
        listener_states = self._listener_states.get()
        listener_states[:] = [*(each for each in listener_states if not each.over), listener_state]
        return listener_state

    async def _reader_of(
        self, listener_state: ListenerState, consumer: Consumer, streams: Sequence[str]
    ) -> SlotReader:
        wait = self.connection.wait_time(self.block / 1000)
        client = self.connection.make_client(wait)
        keeper = LeaseKeeper(self.connection, consumer, streams, self._poison_slot, self._describe)
        try:
            await keeper.open()
        except BaseException:
            await self.connection.close_client(client)
            raise
        listener_state.keepers.append(keeper)
        promoters = [Promoter(self.connection, stream, self.add_command) for stream in streams]
        return SlotReader(
            self.connection,
            client,
            consumer,
            keeper,
            self._poison_slot,
            streams,
            promoters,
            wait,
        )

    async def shutdown(self) -> None:
        """End the listeners, hand back what was not started, and close the connections.

        What is still being worked on goes to other workers when its lease is over.
        """
        stopping = self._stopping.pop()
        if stopping is not None:
            stopping.set()
        listener_states = self._listener_states.pop() or []
        keepers = [
            keeper for listener_state in listener_states for keeper in listener_state.keepers
        ]
        for keeper in keepers:
            keeper.interrupt()
        try:
            for keeper in keepers:
                await keeper.stop()
        finally:
            await super().shutdown()

    async def _wrap(self, consumer: Consumer, fetched: Fetched) -> Message | None:
        """Turn an entry into a message and begin its lease, unless it is not to be run."""
        entry = fetched.entry
        data = entry.fields.get(DATA)
        too_many = consumer.max_deliveries
        if data is None or (too_many is not None and fetched.failed >= too_many):
            await self._put_away(consumer, fetched)
            fetched.let_go()
            return None
        # By name, as 1.2.4 did: subclasses have a generator of their own.
        acknowledge = self._ack_generator(id=entry.id, queue_name=entry.stream)
        fetched.keeper.begin(entry, acknowledge)
        if not self.is_worker_process:
            return AckableMessage(data=data, ack=acknowledge)
        ended = partial(self._task_ended, fetched.keeper, entry)
        return WorkerMessage(data, acknowledge, partial(on_task_done, ended))

    def _task_ended(self, keeper: LeaseKeeper, entry: StreamEntry, failed: bool) -> None:
        """Take note that taskiq's receiver is through with a message, acknowledged or not.

        Args:
            keeper: keeps its lease.
            entry: the entry.
            failed: whether the receiver itself has failed, which a task can't bring about.
        """
        acknowledge = keeper.done_with(entry, failed=failed)
        if acknowledge is not None:
            forget_context(self.custom_dependency_context, acknowledge)

    async def _put_away(self, consumer: Consumer, fetched: Fetched) -> None:
        """Move what is not to be run to the dead letters; what was deleted is acknowledged."""
        entry = fetched.entry
        try:
            if not entry.fields:
                group = self.consumer_group_name
                acknowledge = self._acknowledger.acknowledge
                await acknowledge(entry.stream, group, entry.id, delete=False)
            elif DATA not in entry.fields:
                await self._bury(consumer, fetched, f"it has no field {DATA!r}")
            else:
                await self._tell_who_waits(fetched)
                await self._bury(consumer, fetched, f"{fetched.failed} deliveries have failed")
        except CommandRefusedError as error:
            # It comes again; meanwhile it must not keep what is behind it waiting.
            logger.warning("It was not possible to put away %s: %s", self._describe(entry), error)

    async def _bury(self, consumer: Consumer, fetched: Fetched, reason: str) -> None:
        entry = fetched.entry
        moved = await dead_letters.bury(
            self.connection,
            entry,
            consumer.group.name,
            consumer.name,
            reason=reason,
            failed=fetched.failed,
            last_owner=fetched.owner,
            delete=self.delete_acked,
        )
        if moved:
            logger.error(
                "A dead letter is added to those of the queue %r: %s, which is not run, as %s. See "
                "`dead_letters()`, `requeue()` and `purge()` of the broker.",
                entry.stream,
                self._describe(entry),
                reason,
            )

    async def _tell_who_waits(self, fetched: Fetched) -> None:
        """Store an error result for a task that is not run any more."""
        entry = fetched.entry
        task = self._task_of(entry)
        if task is None:
            return
        error = DeadLetterError(
            deliveries=fetched.failed,
            consumer=fetched.owner,
            entry_id=entry.id,
            queue_name=entry.stream,
        )
        result = TaskiqResult[Any](
            is_err=True, return_value=None, execution_time=0, labels=task.labels, error=error
        )
        try:
            if not await self.result_backend.is_result_ready(task.task_id):
                await self.result_backend.set_result(task.task_id, result)
        except Exception:
            # That can have any reason, in a result backend that isn't ours.
            logger.exception("No error result could be stored for %s.", self._describe(entry))

    def _task_of(self, entry: StreamEntry) -> TaskiqMessage | None:
        """Read what an entry holds, which may be anything."""
        try:
            return self.formatter.loads(entry.fields.get(DATA, b""))
        except Exception:  # noqa: BLE001 - a formatter may raise anything
            return None

    def _describe(self, entry: StreamEntry) -> str:
        """Name a message, for the log."""
        task = self._task_of(entry)
        if task is None:
            return f"the entry {entry.id!r} of the stream {entry.stream!r}"
        return f"the task {task.task_name!r} with the id {task.task_id!r}"

    def _ack_generator(
        self,
        id: str | bytes,  # noqa: A002 - its name in 1.2.4
        queue_name: str | bytes,
    ) -> Callable[[], Awaitable[None]]:
        """Make what acknowledges an entry, and deletes it if no group needs it any more.

        Args:
            id: of the entry.
            queue_name: the stream that it is in.
        """
        # Subclasses with a `listen` of their own pass on what redis-py returns.
        stream, entry_id = as_str(queue_name), as_str(id)
        group, listener_states = self.consumer_group_name, self._listener_states.get()
        return Acknowledgement(
            partial(self._acknowledger.acknowledge, stream, group, entry_id, self.delete_acked),
            partial(_end_leases, listener_states, stream, entry_id),
        )

    async def trim(self, progress: Progress | None = None) -> int:
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
        streams = self._streams()
        return sum([await trim(self.connection, stream, progress) for stream in streams])

    async def dead_letters(
        self, limit: int = 100, queue_name: str | None = None
    ) -> list[DeadLetter]:
        """Return the oldest messages that are not run any more (XRANGE).

        Args:
            limit: at most so many. Default 100.
            queue_name: of which queue. Default this broker's own.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis doesn't do it.
        """
        return await dead_letters.read(self.connection, queue_name or self.queue_name, limit)

    async def requeue(self, *ids: str, queue_name: str | None = None) -> int:
        """Send dead letters once more, as new messages, and return how many there were (EVALSHA).

        Every group of the stream gets them.

        Args:
            ids: of the dead letters. Default all that there are.
            queue_name: of which queue. Default this broker's own.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis doesn't do it.
        """
        return await dead_letters.requeue(self.connection, queue_name or self.queue_name, ids)

    async def purge(self, *ids: str, queue_name: str | None = None) -> int:
        """Delete dead letters, and return how many there were (EVALSHA).

        Args:
            ids: of the dead letters. Default all that there are.
            queue_name: of which queue. Default this broker's own.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis doesn't do it.
        """
        return await dead_letters.purge(self.connection, queue_name or self.queue_name, ids)


def _end_leases(listener_states: Sequence[ListenerState], stream: str, entry_id: str) -> None:
    for listener_state in tuple(listener_states):
        for keeper in tuple(listener_state.keepers):
            keeper.end(stream, entry_id)


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
