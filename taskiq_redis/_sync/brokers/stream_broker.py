# Generated from taskiq_redis/_async/brokers/stream_broker.py by scripts/unasync.py; edit that.

"""A broker on a stream: the workers of a group share the messages, and acknowledge them."""

import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from taskiq import AckableMessage, TaskiqMessage

from taskiq_redis._core.addresses import Server
from taskiq_redis._core.dead_letters import DATA_FIELD
from taskiq_redis._core.leases import PoisonSlot
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.messages import (
    WorkerMessage,
    is_task_calling,
    is_task_cancelled,
    is_task_unknown,
)
from taskiq_redis._core.options import StreamOptions
from taskiq_redis._core.unknown_tasks import why_unknown
from taskiq_redis._core.wire import as_str
from taskiq_redis._drivers.blocking import disconnect
from taskiq_redis._sync.brokers.acks import Acknowledger
from taskiq_redis._sync.brokers.base import BaseBroker, Message, Reader, ReconnectingReader
from taskiq_redis._sync.brokers.consumer_groups import Consumer, ConsumerGroup
from taskiq_redis._sync.brokers.control import purge_stream
from taskiq_redis._sync.brokers.dead_entries import DeadEntries, origin_of
from taskiq_redis._sync.brokers.dead_letter_store import NewDeadLetter
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis._sync.brokers.inspectable_broker import InspectableStreamBroker
from taskiq_redis._sync.brokers.leases import LeaseKeeper
from taskiq_redis._sync.brokers.listeners import Fetched, ListenerState
from taskiq_redis._sync.brokers.stream_delivery import StreamDelivery
from taskiq_redis._sync.brokers.stream_reader import (
    MergedReader,
    SlotReader,
    StreamReader,
    group_by_slot,
)
from taskiq_redis._sync.brokers.trimming import Progress, trim
from taskiq_redis._sync.loop_local import LoopLocal
from taskiq_redis._taskiq.failed_tasks import current_run
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import SignatureError, UndeclaredTaskError

T = TypeVar("T")


class StreamBroker(InspectableStreamBroker):
    """A broker that keeps its queue in a stream, read by a consumer group.

    Args:
        server: address and connection options of Redis.
        options: see `StreamOptions`.
        task_id_generator: returns the ID of a new task.
        result_backend: where results are stored.
    """

    def __init__(
        self,
        server: Server,
        options: StreamOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        #: a consumer name that no other process has
        self._unique_name = str(uuid.uuid4())
        self.consumer_group_name: str = options.consumer_group_name
        self.consumer_name: str = options.consumer_name or self._unique_name
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
        self._acknowledger = Acknowledger(self._connection)
        self._dead_entries = self._dead_letters = DeadEntries(
            self._connection,
            self._letter_limits,
            self._acknowledger,
            self._read_task,
            lambda: self.result_backend,
            self._tracking,
        )
        self._poison_slot = PoisonSlot()
        self._listener_states: LoopLocal[list[ListenerState]] = LoopLocal(
            list, _stop_keepers, _interrupt_keepers
        )
        self._name_lock = ForkSafeLock()
        #: the listener that uses `consumer_name` without a suffix
        self._named: ListenerState | None = None
        self._process = os.getpid()

    def _tracked_group(self) -> str:
        """Return the group whose workers `status` looks at."""
        return self.consumer_group_name

    def startup(self) -> None:
        """Run taskiq's startup hooks, and connect; a worker also creates its consumer group.

        Raises:
            ServerUnavailableError: Redis can't be reached, and this is a worker.
            CommandRefusedError: Redis refuses it, because of a password, an ACL or a key's type.
        """
        super().startup()
        if self.is_worker_process:
            self._declare_consumer_group()

    def _declare_consumer_group(self) -> None:
        """Create the group on each stream that this worker listens to, unless it exists."""
        self._declared_group()

    def _declared_group(self) -> ConsumerGroup:
        start_id = None if self.consumer_id is None else str(self.consumer_id)
        group = ConsumerGroup(self._connection, self.consumer_group_name, start_id, self.mkstream)
        for stream in self._streams():
            group.declare(stream)
        return group

    def _streams(self) -> list[str]:
        return list(dict.fromkeys([self.queue_name, *self.additional_streams]))

    def _add_command(self) -> tuple[str | int, ...]:
        if self.maxlen is None:
            return ("XADD", "*", DATA_FIELD)
        limit = "~" if self.approximate else "="
        return ("XADD", "MAXLEN", limit, self.maxlen, "*", DATA_FIELD)

    def _open_reader(self) -> Reader[Message]:
        """Make the reader of the streams (XREADGROUP, EVALSHA); on a cluster, one per hash slot."""
        state = self._new_listener_state()
        try:
            return self._open_stream_reader(state)
        except BaseException:
            state.is_reading = False
            raise

    def _open_stream_reader(self, state: ListenerState) -> Reader[Message]:
        consumer = Consumer(
            self._declared_group(),
            state.consumer_name,
            # Other processes may use a name that the user chose.
            state.consumer_name.startswith(self._unique_name) or state is not self._named,
            self.count,
            self.idle_timeout,
            self.unacknowledged_batch_size,
            self.max_deliveries,
        )
        streams = self._streams()
        slots = group_by_slot(streams) if self._connection.sharded else [streams]
        promoters = {
            stream: Promoter(self._connection, stream, self._add_command, self._tracking)
            for stream in streams
        }
        opens = [
            partial(self._open_slot_reader, state, consumer, [promoters[stream] for stream in slot])
            for slot in slots
        ]
        # Each reconnects independently: an outage of one slot doesn't stop the others.
        source = (
            opens[0]()
            if len(opens) == 1
            else MergedReader(
                [
                    ReconnectingReader(each, self._connection, slot)
                    for each, slot in zip(opens, slots, strict=True)
                ]
            )
        )
        wrap = partial(self._wrap, consumer)
        return StreamReader(
            source, promoters, wrap, self._stopping.get(), consumer.lease / 2, state
        )

    def _new_listener_state(self) -> ListenerState:
        """Record a new listener, with a consumer name that no other listener of this broker has."""
        with self._name_lock:
            free = os.getpid() == self._process and (self._named is None or self._named.has_ended)
            name = self.consumer_name if free else f"{self.consumer_name}:{uuid.uuid4()}"
            state = ListenerState(name)
            if free:
                self._named = state
        states = self._listener_states.get()
        states[:] = [*(each for each in states if not each.has_ended), state]
        return state

    def _open_slot_reader(
        self, state: ListenerState, consumer: Consumer, promoters: Sequence[Promoter]
    ) -> SlotReader:
        streams = [promoter.queue_name for promoter in promoters]
        block = self._connection.block_time(self.block / 1000)
        client = self._connection.make_client(block)
        keeper = LeaseKeeper(
            self._connection,
            consumer,
            streams,
            self._poison_slot,
            self._dead_entries.describe,
            self._tracking,
        )
        try:
            keeper.open()
        except BaseException:
            disconnect(client)
            raise
        state.keepers.append(keeper)
        return SlotReader(
            self._connection,
            client,
            consumer,
            keeper,
            self._poison_slot,
            streams,
            promoters,
            block,
        )

    def shutdown(self) -> None:
        """End the listeners, hand back messages that are not done, and close the connections.

        Other workers run them at once. This doesn't count as a failed delivery, even if a worker's
        tasks were cut short. In code of your own that iterates over `listen`, a message that you
        have received goes to another worker when its lease expires.
        """
        stopping = self._stopping.pop()
        if stopping is not None:
            stopping.set()
        try:
            _stop_keepers(self._listener_states.pop() or [])
        finally:
            super().shutdown()

    def _wrap(self, consumer: Consumer, fetched: Fetched) -> Message | None:
        """Return an entry as a message and begin its lease; None if it must not be run."""
        entry = fetched.entry
        data = entry.fields.get(DATA_FIELD)
        too_many = consumer.max_deliveries
        if data is None or (too_many is not None and fetched.failures >= too_many):
            self._dead_entries.add(consumer, fetched, delete=self.delete_acked)
            fetched.release()
            return None
        try:
            data = self._verify_value("message", entry.stream, data)
        except SignatureError as error:
            self._dead_entries.add(
                consumer, fetched, delete=self.delete_acked, reason=error.problem
            )
            fetched.release()
            return None
        if not self.is_worker_process:
            acknowledge = self._ack_generator(id=entry.id, queue_name=entry.stream)
            fetched.keeper.lease(entry, tracked=False)
            return AckableMessage(data=data, ack=acknowledge)
        replaced = None
        # A subclass or an instance may override it; its name and parameters are those of 1.2.4.
        # Called before there is a delivery: if it raises, the entry is wrapped again, and the first
        # delivery would end that lease.
        if getattr(self._ack_generator, "__func__", None) is not OWN_ACK_GENERATOR:
            replaced = self._ack_generator(id=entry.id, queue_name=entry.stream)
        delivery = StreamDelivery(
            consumer,
            fetched,
            data,
            self._acknowledger,
            self.delete_acked,
            self._finish,
            self.keep_failed,
            replaced,
        )
        fetched.keeper.lease(entry, tracked=True)
        return WorkerMessage(data, delivery.acknowledge, delivery)

    def _outcome_of_unknown_tasks(self) -> str:
        # An overridden `listen` that reads the stream itself acknowledges by `_ack_generator`.
        if type(self).listen is not BaseBroker.listen and not self._listener_states.get():
            return BaseBroker._outcome_of_unknown_tasks(self)
        return super()._outcome_of_unknown_tasks()

    def _finish(self, delivery: StreamDelivery) -> None:
        """Acknowledge a message, or move it to the dead letters if its task won't run again.

        Either taskiq can't parse it, or its task has failed for good, and `keep_failed` is on. If
        this worker doesn't know the task, hand the message back.
        """
        consumer, fetched, data = delivery.consumer, delivery.fetched, delivery.data
        if is_task_unknown.get() and (task := self._pop_unknown_task(data)) is not None:
            self._refuse(consumer, fetched, task)
            return
        if is_task_cancelled.get() and not fetched.keeper.is_leased(fetched.entry):
            # The message was handed back before the end of the program cancelled its task.
            return
        run = current_run() if self.keep_failed else None
        signed = fetched.entry.fields[DATA_FIELD]
        if run is not None and self._dead_entries.move_failed(
            run, consumer, fetched, signed, self.delete_acked
        ):
            return
        # If taskiq's receiver can't parse a message, it calls this while it handles the exception.
        # A task with `ack_type` manual may do so, too, but its message was parsed.
        is_handling = sys.exc_info()[0] is not None and not is_task_calling()
        problem = self._problem_of(data) if is_handling else None
        if problem is None:
            delivery.acknowledge_entry()
            if run is not None:
                letter = NewDeadLetter(fetched.entry.stream, signed)
                run.keep = partial(
                    self._dead_entries.keep_failed, letter, origin_of(consumer, fetched)
                )
            return
        reason = f"it can't be parsed ({problem})"
        self._dead_entries.add(consumer, fetched, delete=self.delete_acked, reason=reason)
        fetched.release()

    def _refuse(self, consumer: Consumer, fetched: Fetched, task: TaskiqMessage) -> None:
        """Hand back a message whose task is unknown here, or move it to the dead letters."""
        entry, timeout = fetched.entry, self.unknown_task_timeout
        refused_for = 0
        if fetched.refused_for is not None:
            held = time.monotonic() - fetched.delivered_at
            refused_for = fetched.refused_for + round(held * 1000)
        if refused_for < timeout * 1000:
            is_new = fetched.refused_for is None
            fetched.keeper.refuse(entry, refused_for, is_new=is_new)
            return
        error = UndeclaredTaskError(
            deliveries=fetched.failures,
            consumer=consumer.name,
            entry_id=entry.id,
            queue_name=entry.stream,
            task_name=task.task_name,
            timeout=timeout,
        )
        reason = why_unknown(task.task_name, timeout, entry.stream)
        self._dead_entries.add(
            consumer, fetched, delete=self.delete_acked, reason=reason, error=error
        )
        fetched.release()

    def _ack_generator(
        self,
        id: str | bytes,  # noqa: A002 - its name in 1.2.4
        queue_name: str | bytes,
    ) -> Callable[[], None]:
        """Return a function that acknowledges an entry, and deletes it if no group needs it.

        Args:
            id: ID of the entry.
            queue_name: its stream.
        """
        # Subclasses that override `listen` pass what redis-py returns.
        stream, entry_id = as_str(queue_name), as_str(id)
        group, states = self.consumer_group_name, self._listener_states.get()

        def acknowledge() -> None:
            self._acknowledger.acknowledge(stream, group, entry_id, self.delete_acked)
            for state in tuple(states):
                for keeper in tuple(state.keepers):
                    keeper.release(stream, entry_id)

        return acknowledge

    def _purge_waiting(self, queue_name: str) -> int:
        return purge_stream(self._connection, queue_name, self._tracking)

    def trim(self, progress: Progress | None = None) -> int:
        """Delete the entries that all groups have acknowledged, and return their number.

        Use it for streams that were filled with `delete_acked=False`, or by taskiq-redis 1.2.4,
        which deletes nothing (XINFO, XPENDING, XTRIM in steps of bounded length).

        Args:
            progress: called after each step with the name of the stream and the number of its
                entries that are deleted so far. Default None.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        streams = self._streams()
        return sum([trim(self._connection, stream, progress) for stream in streams])


#: the function of the method, also if other code replaces that in the class
OWN_ACK_GENERATOR = StreamBroker._ack_generator


def _interrupt_keepers(states: Sequence[ListenerState]) -> None:
    for state in states:
        for keeper in state.keepers:
            keeper.interrupt()


def _stop_keepers(states: Sequence[ListenerState]) -> None:
    # All are interrupted first, so that their threads end at the same time.
    _interrupt_keepers(states)
    for state in states:
        for keeper in state.keepers:
            keeper.stop()
