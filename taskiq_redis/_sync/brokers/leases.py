# Generated from taskiq_redis/_async/brokers/leases.py by scripts/unasync.py; edit that.

"""Renew the leases of a worker in a thread, and hand back messages that it doesn't run."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from taskiq_redis._core import lua
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.leases import LeaseTable, PoisonSlot, RenewalState, renewal_timeout
from taskiq_redis._core.process import describe_process, process_id
from taskiq_redis._core.redis_errors import Outage
from taskiq_redis._core.unknown_tasks import REFUSED_IDLE, RefusedClaims
from taskiq_redis._core.wire import StreamEntry, as_str
from taskiq_redis._runtime.blocking import Event, WorkerThread, sleep
from taskiq_redis._sync.brokers.consumer_groups import CHUNK, RETRY_TIMEOUT, Consumer
from taskiq_redis._sync.brokers.task_records import WorkerTracking
from taskiq_redis._sync.clients import with_timeout
from taskiq_redis._sync.connection import Connection
from taskiq_redis.exceptions import CommandRefusedError

RENEW = lua.load("task_records", "renew")

#: number of renewals per lease
RENEWALS = 3
#: s; interval of the checks whether the last lease has ended, after the reader was closed
LAST_LEASES_INTERVAL = 0.2
#: s; how long a worker that stops waits for the acknowledgements of tasks that have just ended,
#: such as those of threads
LAST_ACKNOWLEDGEMENTS = 1.0
#: s; interval of the checks whether these have come
LAST_ACKNOWLEDGEMENTS_INTERVAL = 0.02
#: ms; TTL of the hash of workers
WORKERS_TTL = 24 * 60 * 60 * 1000
#: s; average interval at which a worker deletes consumers that stopped
SWEEP_INTERVAL = 60.0

logger = logging.getLogger("taskiq_redis")


class LeaseKeeper:
    """Renews the leases of one reader, in a thread and on a connection of its own.

    Args:
        connection: where the streams are.
        consumer: the consumer that holds the leases.
        streams: Redis keys of the streams, in one hash slot.
        poison_slot: the worker's slot for a suspect; see `PoisonSlot`.
        describe: returns a description of a message, for log messages.
        tracking: whether it is recorded when this worker began with a task.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer,
        streams: Sequence[str],
        poison_slot: PoisonSlot,
        describe: Callable[[StreamEntry], str],
        tracking: WorkerTracking,
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._poison_slot = poison_slot
        self._describe = describe
        self._tracking = tracking
        self._renewals = {stream: RenewalState(consumer.lease) for stream in streams}
        self._refused_claims = {stream: RefusedClaims() for stream in streams}
        self._table = LeaseTable()
        #: whether the thread is done, so that another listener may use the consumer name
        self.ended = False
        self._stopped = False
        #: whether the reader was closed
        self._closed = False
        #: whether entries that are still leased are handed back
        self._cuts_short = False
        #: whether entries were pending when the reader was closed
        self._left_pending = False
        self._next_sweep = time.monotonic()
        self._outage = Outage(logger, f"Renewing leases on {', '.join(map(repr, streams))}")
        # The thread needs clients of its own, and shorter timeouts: otherwise, waiting on a lost
        # connection could take longer than the lease. It is made here, because an error, such as a
        # missing certificate, would end the thread.
        timeout = renewal_timeout(consumer.lease)
        self._own_connection = Connection(with_timeout(connection.server, timeout))
        self._thread = WorkerThread(self._run, "taskiq-redis-leases")
        self._process = process_id()
        self._identity = describe_process()

    def open(self) -> None:
        """Register the worker, so that others know its lease, and start to renew."""
        try:
            for stream in self._renewals:
                self._renew(self._connection, stream, [])
        except CommandRefusedError as error:
            self._log_refusal(error)
        self._thread.start()

    def _log_refusal(self, error: CommandRefusedError) -> None:
        """Log once that Redis refuses the scripts; messages are run without them."""
        self._outage.record_failure(error)

    @property
    def consumer_name(self) -> str:
        """The name of the consumer."""
        return self._consumer.name

    def may_claim_until(self, stream: str) -> int:
        """Return until when entries may be claimed, in ms of Unix time; 0 for not now."""
        return self._renewals[stream].may_claim_until()

    def refused_claims(self, stream: str) -> RefusedClaims:
        """Return what decides which refused entries of a stream may be claimed."""
        return self._refused_claims[stream]

    def add_fetched(self, entries: Iterable[StreamEntry]) -> None:
        """Record fetched entries, which are handed back unless `lease` is called for them."""
        self._table.add_fetched(entries)

    def lease(self, entry: StreamEntry, *, tracked: bool) -> None:
        """Begin the lease of an entry that is handed over; see `LeaseTable.lease`."""
        self._table.lease(entry, tracked=tracked)

    def drop(self, entry: StreamEntry, was_read: bool) -> None:
        """Record that nothing can acknowledge an entry any more; see `LeaseTable.drop`."""
        self._table.drop(entry, was_read)

    def is_leased(self, entry: StreamEntry) -> bool:
        """Return whether an entry has a lease."""
        return (entry.stream, entry.id) in self._table

    def release(self, stream: str, entry_id: str) -> None:
        """Forget an entry that is acknowledged, lost, or never handed over."""
        key = stream, entry_id
        self._table.release(key)
        self._poison_slot.free(key)

    def receiver_done(self, entry: StreamEntry, failed: bool, cancelled: bool = False) -> None:
        """End the lease of an entry that taskiq's receiver didn't acknowledge.

        Args:
            entry: the entry.
            failed: whether the receiver raised an exception or was cancelled: then the entry is
                handed back as a failed delivery. Otherwise, it is delivered again when its lease
                has expired, unless it is acknowledged before.
            cancelled: whether it was cancelled: then the delivery doesn't count as failed if the
                worker stops.
        """
        if self._table.end(entry, failed=failed, cancelled=cancelled) and not failed:
            # The next renewal logs it, if Redis says that it wasn't acknowledged by other means.
            self._poison_slot.free((entry.stream, entry.id))

    def confirm(self, entry: StreamEntry) -> bool:
        """Return whether this worker still holds an entry, and renew it (EVALSHA)."""
        try:
            return not self._renew(self._connection, entry.stream, [entry.id])
        except CommandRefusedError as error:
            # Without scripts, the worker isn't registered, and others claim after ten minutes only.
            self._log_refusal(error)
            return True

    def refuse(self, entry: StreamEntry, refused_for: int, *, is_new: bool) -> None:
        """Hand back an entry whose task this worker doesn't know (EVALSHA).

        Other workers can claim it at once; this one doesn't for a moment.

        Args:
            entry: the entry.
            refused_for: ms; how long ago a worker refused it first.
            is_new: whether no worker had refused it before.
        """
        self._refused_claims[entry.stream].record_refusal(is_new=is_new)
        # It is forgotten before, as another worker may claim it at once.
        self.release(entry.stream, entry.id)
        try:
            self._consumer.hand_back(
                self._connection,
                entry.stream,
                [entry.id],
                failed=False,
                idle=REFUSED_IDLE + refused_for,
            )
        except CommandRefusedError as error:
            self._log_refusal(error)
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            logger.warning(
                "%s could not be handed back; other workers claim it in %.0f s: %s",
                self._describe(entry),
                self._consumer.lease,
                error,
            )

    def hand_back(self, connection: Connection) -> None:
        """Hand back entries that were delivered and not handed over (EVALSHA).

        Other workers can claim them at once, and the delivery isn't counted as failed.
        """
        try:
            for stream in self._renewals:
                ids = self._table.not_started(stream, self._pending(connection, stream))
                self._consumer.hand_back(connection, stream, sorted(ids), failed=False)
                for entry_id in ids:
                    self.release(stream, entry_id)
        except CommandRefusedError as error:
            self._log_refusal(error)
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            logger.warning(
                "Fetched messages could not be handed back; other workers claim them in %.0f s: %s",
                self._consumer.lease,
                error,
            )

    def hand_back_entries(self, entries: Sequence[StreamEntry]) -> None:
        """Hand back entries of one stream that were not handed over (EVALSHA).

        Those that are leased meanwhile, because this worker has claimed them from itself, are not
        handed back.
        """
        waiting = [entry for entry in entries if not self.is_leased(entry)]
        if waiting:
            ids = [entry.id for entry in waiting]
            self._consumer.hand_back(self._connection, waiting[0].stream, ids, failed=False)
        for entry in waiting:
            self.release(entry.stream, entry.id)

    def _pending(self, connection: Connection, stream: str) -> list[str]:
        """Return the IDs that Redis lists as pending, also of deliveries whose reply was lost."""
        consumer = self._consumer
        if not consumer.has_own_name:
            # Other processes with this name may hold some of them.
            return []
        rows: Any = connection.call(
            lambda client: client.xpending_range(
                stream, consumer.group.name, "-", "+", CHUNK, consumername=consumer.name
            ),
            key=stream,
            retry_timeout=RETRY_TIMEOUT,
        )
        return [as_str(row["message_id"]) for row in rows]

    def close(self) -> None:
        """Hand back entries that were not handed over, and renew only until the last lease ends.

        Leases of entries that no task of taskiq's receiver runs end now, since the caller of
        `listen` has left its loop. Those entries are delivered again unless they are acknowledged
        before their leases expire.
        """
        for key in self._table.end_untracked():
            self._poison_slot.free(key)
            self._left_pending = True
        try:
            self.hand_back(self._connection)
        finally:
            # The thread hands back again, as this may have been cancelled.
            self._thread.interrupt()
        if not self._table:
            self._thread.stop()
        if self._stopped:
            # The reader was still running during `shutdown`, and has registered the worker again.
            self._leave_group(self._connection)

    def interrupt(self) -> None:
        """Stop renewing; other workers claim the leased entries when the leases expire."""
        # A forked child has no such thread, and may have inherited its locks locked.
        if self._process == process_id():
            self._stopped = True
            self._thread.interrupt()

    def stop(self) -> None:
        """Stop renewing, hand back entries that were not handed over, and wait for that."""
        self.interrupt()
        self._thread.stop()
        if self._left_pending and self._process == process_id():
            # They may be acknowledged by now.
            self._leave_group(self._connection)

    def _run(self, interrupted: Event) -> None:
        connection = self._own_connection
        try:
            pause = self._step(connection)
            while not interrupted.wait(pause):
                pause = self._step(connection)
            self._closed = True
            self.hand_back(connection)
            self._wait_for_last_leases(connection, time.monotonic() + pause)
            if self._stopped:
                self._wait_for_last_acknowledgements()
                self._cuts_short = True
            self._leave_group(connection)
        finally:
            self.ended = True
            connection.close()

    def _wait_for_last_leases(self, connection: Connection, next_step: float) -> None:
        """Renew until the last lease ends, after the reader was closed."""
        while self._table and not self._stopped:
            if self._table.has_entries_to_hand_back or time.monotonic() >= next_step:
                next_step = time.monotonic() + self._step(connection)
            sleep(min(self._interval, LAST_LEASES_INTERVAL))

    def _wait_for_last_acknowledgements(self) -> None:
        """Wait a moment for the acknowledgements of tasks that have just ended."""
        deadline = time.monotonic() + min(LAST_ACKNOWLEDGEMENTS, self._interval)
        while self._table.has_running_entries and time.monotonic() < deadline:
            sleep(LAST_ACKNOWLEDGEMENTS_INTERVAL)

    @property
    def _interval(self) -> float:
        return self._consumer.lease / RENEWALS

    def _step(self, connection: Connection) -> float:
        """Renew, hand back and sweep as far as due; return the seconds until the next step."""
        try:
            self._renew_all(connection)
            self._hand_back_ended(connection)
            if time.monotonic() >= self._next_sweep:
                self._sweep(connection, "")
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            return min(self._outage.record_failure(connection.outage(error)), self._interval)
        self._outage.record_success()
        return self._interval

    def _renew_all(self, connection: Connection) -> None:
        refusals = [self._renew_stream(connection, stream) for stream in self._renewals]
        for refusal in filter(None, refusals):
            raise refusal

    def _renew_stream(self, connection: Connection, stream: str) -> CommandRefusedError | None:
        """Renew the leases on a stream; return a refusal, so that other streams are renewed."""
        ids = self._table.leased(stream)
        try:
            for first in range(0, max(1, len(ids)), CHUNK):
                lost = self._renew(connection, stream, ids[first : first + CHUNK])
                for entry_id, owner in lost:
                    self._forget_lost(stream, entry_id, owner)
            self._check_unacked(connection, stream)
        except CommandRefusedError as error:
            # Without the script, nothing can be handed back, either.
            self._table.record_unacked(stream, (), gone=self._table.unacked(stream))
            return error
        return None

    def _check_unacked(self, connection: Connection, stream: str) -> None:
        """Log entries that are pending although their receiver is done, and forget the others.

        A subclass of the broker may acknowledge entries without this package.
        """
        ids = self._table.unacked(stream)
        for first in range(0, len(ids), CHUNK):
            chunk = ids[first : first + CHUNK]
            lost = self._renew(connection, stream, chunk, extend=False)
            gone = {entry_id for entry_id, _ in lost}
            for entry in self._table.record_unacked(stream, chunk, gone):
                logger.warning(
                    "The receiver didn't acknowledge %s, so it is delivered again within %.1f s, "
                    "unless it is acknowledged before. With `ack_type` manual, the task has to "
                    "call `ack()`.",
                    self._describe(entry),
                    self._consumer.lease,
                )

    def _renew(
        self, connection: Connection, stream: str, ids: Sequence[str], *, extend: bool = True
    ) -> list[tuple[str, str]]:
        """Register the worker and renew leases; return lost ones: ID, and new owner or ''.

        Args:
            connection: runs the script.
            stream: the stream.
            ids: IDs of the entries.
            extend: whether to extend their leases; if not, only their owners are looked up.
        """
        began, consumer = time.monotonic(), self._consumer
        run = partial(
            connection.run_script,
            RENEW,
            args=[
                consumer.group.name,
                consumer.name,
                consumer.idle_timeout,
                max(WORKERS_TTL, 10 * consumer.idle_timeout),
                int(extend),
                self._renewals[stream].started,
                self._identity,
                *ids,
            ],
            retry_timeout=min(self._interval, RETRY_TIMEOUT),
            waits_for_slot=False,
        )
        keys = [stream, workers_key(stream, consumer.group.name)]
        reply: Any = self._tracking.run(run, keys, stream)
        server_time, last_seen, lost = reply
        self._renewals[stream].record(began, int(server_time), int(last_seen))
        return [(as_str(entry_id), as_str(owner)) for entry_id, owner in lost]

    def _forget_lost(self, stream: str, entry_id: str, owner: str) -> None:
        entry = self._table.release((stream, entry_id))
        self._poison_slot.free((stream, entry_id))
        if entry is not None and owner:
            logger.warning(
                "The lease on %s expired before it was renewed, so %r has claimed it, and it may "
                "run twice. A process that is frozen for more than %.1f s can't renew its leases: "
                "raise `idle_timeout` if that is usual.",
                self._describe(entry),
                owner,
                self._consumer.lease,
            )

    def _hand_back_ended(self, connection: Connection) -> None:
        """Hand back entries that the receiver discarded, and those on which it failed.

        If the worker stops, this includes those of tasks that it cuts short.
        """
        if self._closed:
            self._hand_back_cut_short(connection)
        while (entry := self._table.pop_dropped()) is not None:
            self.receiver_done(entry, failed=False)
        while (entry := self._table.pop_discarded()) is not None:
            self._poison_slot.free((entry.stream, entry.id))
            self._consumer.hand_back(connection, entry.stream, [entry.id], failed=False)
        while (entry := self._table.pop_failed(wait=self._interval)) is not None:
            self._poison_slot.free((entry.stream, entry.id))
            logger.warning(
                "The receiver failed on %s without acknowledging it, so it is delivered again: a "
                "middleware raised an exception, or its label `ack_type` is invalid.",
                self._describe(entry),
            )
            # It is forgotten already, as this worker may claim it again at once. If Redis is down,
            # it is delivered again when its lease has expired.
            self._consumer.hand_back(connection, entry.stream, [entry.id], failed=True)

    def _hand_back_cut_short(self, connection: Connection) -> None:
        """Hand back entries of tasks that the stop cuts short; that isn't a failed delivery."""
        entries = self._table.pop_cut_short(running=self._cuts_short)
        if not entries:
            return
        for entry in entries:
            self._poison_slot.free((entry.stream, entry.id))
        logger.warning(
            "This worker stops before %d tasks are done, such as %s, so they are handed back, and "
            "run again from their beginning. If they need more time, raise `--wait-tasks-timeout`.",
            len(entries),
            self._describe(entries[0]),
        )
        for stream in self._renewals:
            ids = [entry.id for entry in entries if entry.stream == stream]
            self._consumer.hand_back(connection, stream, ids, failed=False)

    def _leave_group(self, connection: Connection) -> None:
        """Delete the consumer, unless entries are pending for it."""
        try:
            self._hand_back_ended(connection)
            for stream in self._renewals:
                self._check_unacked(connection, stream)
            self._sweep(connection, self._consumer.name)
        except CommandRefusedError as error:
            self._log_refusal(error)
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            logger.warning(
                "The consumer %r could not be deleted; another worker will do it: %s",
                self._consumer.name,
                error,
            )

    def _sweep(self, connection: Connection, leaving: str) -> None:
        """Delete consumers that stopped and have no pending entries.

        Args:
            connection: runs the script.
            leaving: name of a consumer that stops now, or ''.
        """
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311
        for stream in self._renewals:
            self._consumer.group.delete_stopped(connection, stream, leaving)
