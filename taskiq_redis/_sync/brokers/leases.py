# Generated from taskiq_redis/_async/brokers/leases.py by scripts/unasync.py; edit that.

"""Leases: a worker shows all the time that it still works on what it was given."""

import gc
import logging
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskiq_redis._core import lua
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.messages import Acknowledge
from taskiq_redis._core.options import InventedName
from taskiq_redis._core.redis_errors import Outage
from taskiq_redis._core.wire import StreamEntry, as_str
from taskiq_redis._runtime.blocking import Event, WorkerThread, sleep
from taskiq_redis._sync.brokers.consumer_groups import ConsumerGroup
from taskiq_redis._sync.connection import Connection, connect
from taskiq_redis.exceptions import CommandRefusedError, TaskIQRedisError

RENEW = lua.load("renew")
HAND_BACK = lua.load("hand_back")
SWEEP = lua.load("sweep")

#: the consumer that holds what was handed back; every worker looks there
HANDED_BACK = "taskiq-redis:handed-back"
#: how often a lease is renewed before it would be over
RENEWALS = 3
#: most entries of one script, so that it doesn't hold up the server
CHUNK = 500
#: s; how long each command is tried, so that a worker can end though Redis is away
RETRY_TIMEOUT = 2.0
#: s; how often it is looked whether the last lease has ended, when nothing is read any more
LAST_LEASES = 0.2
#: ms; how long the hash of workers outlives the last of them
WORKERS_TTL = 24 * 60 * 60 * 1000
#: ms; a consumer that nobody has heard of for so long, and that holds nothing, is removed
GONE_AFTER = 600_000
#: s; about how often a worker looks for such consumers
SWEEP_INTERVAL = 60.0

logger = logging.getLogger("taskiq_redis")


@dataclass(frozen=True)
class Consumer:
    """Who reads, and how much.

    Args:
        group: the consumer group.
        name: the consumer's name in it.
        count: most messages per read, or None for no limit.
        idle_timeout: ms; its lease.
        claim_count: most messages that are taken over in one go.
        max_deliveries: how many failed deliveries are too many; None for no limit.
    """

    group: ConsumerGroup
    name: str
    count: int | None
    idle_timeout: int
    claim_count: int
    max_deliveries: int | None

    @property
    def lease(self) -> float:
        """How long it may hold a message without renewing the lease, in seconds."""
        return self.idle_timeout / 1000


class PoisonSlot:
    """Room for one message of a worker that may be what killed those who had it before.

    If several ran at the same time, the innocent would die with the guilty, and be blamed as well.
    """

    def __init__(self) -> None:
        self._guard = ForkSafeLock()
        self._taken = False
        self._suspect: StreamEntry | None = None

    def reserve(self) -> bool:
        """Take the room for one that may be found, and tell whether it was free."""
        with self._guard:
            was_free, self._taken = not self._taken, True
        return was_free

    def settle(self, suspect: StreamEntry | None) -> None:
        """Give the room that was reserved to the one that was found, or to nobody."""
        with self._guard:
            self._suspect, self._taken = suspect, suspect is not None

    def free(self, stream: str, entry_id: str) -> None:
        """Let another one have the room, if this entry has it."""
        with self._guard:
            suspect = self._suspect
            if suspect is not None and (suspect.stream, suspect.id) == (stream, entry_id):
                self._suspect, self._taken = None, False


@dataclass(eq=False)
class Lease:
    """A message that was handed over, and not acknowledged yet.

    Args:
        entry: the entry.
    """

    entry: StreamEntry
    #: notices when nobody can acknowledge any more
    watch: Any = None


class _Watch(weakref.ref[Acknowledge]):
    """What acknowledges, as long as anybody else has it."""

    __slots__ = ("lease",)
    lease: Lease


@dataclass
class RenewalState:
    """When the leases on a stream were renewed for the last time, by the monotonic clock."""

    renewed: float = field(default_factory=time.monotonic)
    #: the same in ms of Unix time, by the server's clock
    server_time: int = 0
    #: from when on it may be said that others don't renew theirs
    trusted_from: float = float("inf")


class LeaseKeeper:
    """Renews the leases of one reader, in a thread of its own, on a connection of its own.

    Args:
        connection: where the streams are.
        consumer: who holds the leases.
        streams: of one hash slot.
        poison_slot: the worker's room for a suspect.
        describe: names a message, for the log.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer,
        streams: Sequence[str],
        poison_slot: PoisonSlot,
        describe: Callable[[StreamEntry], str],
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._poison_slot = poison_slot
        self._describe = describe
        self._renewals = {stream: RenewalState() for stream in streams}
        self._guard = ForkSafeLock()
        self._leases: dict[tuple[str, str], Lease] = {}
        #: stream and id of what was fetched, and not handed over yet
        self._waiting: set[tuple[str, str]] = set()
        # Filled while garbage is collected, which may be at any moment: nothing may wait there.
        self._dropped: deque[Lease] = deque()
        #: whether nothing is done any more in the name of the consumer
        self.ended = False
        self._stopped = False
        self._look_for_garbage = False
        self._next_sweep = time.monotonic()
        self._outage = Outage(logger, f"Renewing leases on {', '.join(map(repr, streams))}")
        self._thread = WorkerThread(self._keep, "taskiq-redis-leases")

    def open(self) -> None:
        """Register the worker, so that others know its lease, and begin to renew."""
        try:
            for stream in self._renewals:
                self._renew(self._connection, stream, [])
        except CommandRefusedError as error:
            self._refused(error)
        self._thread.start()

    def _refused(self, error: CommandRefusedError) -> None:
        """Say once that this user may not do it: messages can be run all the same."""
        self._outage.failed(error)

    def may_claim_until(self, stream: str) -> int:
        """Tell until when what others have not renewed may be taken from them; 0 for not now.

        Not just after the start or an outage, which must not look like everybody's death. Nor when
        the server, which was frozen meanwhile, hears of it much later: so this is by its own clock,
        in ms of Unix time.
        """
        now, renewal = time.monotonic(), self._renewals[stream]
        silent = now - renewal.renewed > self._consumer.lease / 2
        if silent or now < renewal.trusted_from:
            return 0
        return renewal.server_time + self._consumer.idle_timeout // 2

    def begin(self, entry: StreamEntry, acknowledge: Acknowledge) -> None:
        """Begin a lease, which lasts until `end`, or until nobody can acknowledge any more."""
        lease = Lease(entry)
        with self._guard:
            self._leases[entry.stream, entry.id] = lease
            self._waiting.discard((entry.stream, entry.id))
        # Not everything that can be called can be watched.
        with suppress(TypeError):
            watch = lease.watch = _Watch(acknowledge, self._note_dropped)
            watch.lease = lease

    def _note_dropped(self, watch: _Watch) -> None:
        self._dropped.append(watch.lease)

    def done_with(self, entry: StreamEntry, *, failed: bool) -> Acknowledge | None:
        """Take note that the receiver is through with an entry.

        If it has failed, it won't acknowledge any more. If not, a task may have kept what does
        that; the next step finds out whether somebody has.

        Args:
            entry: the entry.
            failed: whether it has failed.

        Returns:
            what acknowledges the entry, if that is left undone.
        """
        lease = self._leases.get((entry.stream, entry.id))
        if lease is None:
            return None
        if failed:
            self._dropped.append(lease)
        self._look_for_garbage = True
        watch = lease.watch
        return None if watch is None else watch()

    def end(self, stream: str, entry_id: str) -> None:
        """End a lease, if there is one: the message is acknowledged."""
        with self._guard:
            lease = self._leases.pop((stream, entry_id), None)
        if lease is None:
            return
        # They know each other, and would wait for the garbage collector.
        lease.watch = None
        self.let_go(stream, entry_id)

    def let_go(self, stream: str, entry_id: str) -> None:
        """Take note that an entry is not, or not any more, run by this worker."""
        with self._guard:
            self._waiting.discard((stream, entry_id))
        self._poison_slot.free(stream, entry_id)

    @property
    def consumer_name(self) -> str:
        """In whose name entries are held."""
        return self._consumer.name

    def note_fetched(self, fetched: Sequence[Any]) -> None:
        """Take note of what is to be handed back if it isn't handed over."""
        with self._guard:
            self._waiting.update((one.entry.stream, one.entry.id) for one in fetched)

    def has_lease(self, entry: StreamEntry) -> bool:
        """Tell whether an entry was handed over and is not done."""
        return (entry.stream, entry.id) in self._leases

    def confirm(self, entry: StreamEntry) -> bool:
        """Tell whether an entry is still this worker's, and renew that (EVALSHA)."""
        try:
            return not self._renew(self._connection, entry.stream, [entry.id])
        except CommandRefusedError as error:
            # Who may not run scripts is not registered: others leave it alone for ten minutes.
            self._refused(error)
            return True

    def hand_back(self, connection: Connection) -> None:
        """Let others have at once what was delivered, but not handed over (EVALSHA).

        It counts as if it had never been delivered.
        """
        try:
            for stream in self._renewals:
                pending = self._pending(connection, stream)
                with self._guard:
                    waiting = {entry_id for of, entry_id in self._waiting if of == stream}
                    worked_on = {entry_id for of, entry_id in self._leases if of == stream}
                ids = waiting.union(pending) - worked_on
                self._give_back(connection, stream, sorted(ids), failed=False)
                for entry_id in ids:
                    self.let_go(stream, entry_id)
        except CommandRefusedError as error:
            self._refused(error)
        except TaskIQRedisError as error:
            logger.warning(
                "What was fetched and not started, others can start in %.0f s only: %s",
                self._consumer.lease,
                error,
            )

    def _pending(self, connection: Connection, stream: str) -> list[str]:
        """Return what this worker holds, also what was on its way when its reader was stopped.

        Under a name that the user chose, others may hold something, too.
        """
        consumer = self._consumer
        if not isinstance(consumer.name, InventedName):
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
        """Hand back what was not handed over, and go on only until the last lease has ended."""
        try:
            self.hand_back(self._connection)
        finally:
            # It does that once more, in case that this was cancelled.
            self._thread.interrupt()
        if not self._leases:
            self._thread.stop()
        if self._stopped:
            # The shutdown didn't wait for the reader, which has come back into Redis since.
            self._leave(self._connection)

    def interrupt(self) -> None:
        """Stop renewing; what is still held goes to others when the lease is over."""
        self._stopped = True
        self._thread.interrupt()

    def stop(self) -> None:
        """Stop renewing, hand back what was not handed over, and wait until that is done."""
        self.interrupt()
        self._thread.stop()

    def _keep(self, interrupted: Event) -> None:
        # A client of this thread, which needs no other.
        connection = connect(self._connection.server)
        try:
            pause = self._step(connection)
            while not interrupted.wait(pause):
                pause = self._step(connection)
            self.hand_back(connection)
            self._outlast_leases(connection, time.monotonic() + pause)
            self._leave(connection)
        finally:
            self.ended = True
            connection.close()

    def _outlast_leases(self, connection: Connection, next_step: float) -> None:
        """Go on while there are leases, though nothing new comes."""
        while self._leases and not self._stopped:
            if self._dropped or time.monotonic() >= next_step:
                next_step = time.monotonic() + self._step(connection)
            sleep(min(self._interval, LAST_LEASES))

    @property
    def _interval(self) -> float:
        return self._consumer.lease / RENEWALS

    def _step(self, connection: Connection) -> float:
        """Do what is due, and return the seconds until the next step."""
        try:
            self._renew_all(connection)
            if self._look_for_garbage:
                # An exception and its frames keep each other, and what is in them.
                self._look_for_garbage = False
                gc.collect()
            self._return_dropped(connection)
            if time.monotonic() >= self._next_sweep:
                self._sweep(connection, "")
        except TaskIQRedisError as error:
            return min(self._outage.failed(error), self._interval)
        self._outage.succeeded()
        return self._interval

    def _renew_all(self, connection: Connection) -> None:
        refusals = [self._renew_stream(connection, stream) for stream in self._renewals]
        for refusal in filter(None, refusals):
            raise refusal

    def _renew_stream(self, connection: Connection, stream: str) -> CommandRefusedError | None:
        """Renew the leases on a stream; what Redis refuses is no reason to neglect the others."""
        with self._guard:
            ids = [entry_id for of, entry_id in self._leases if of == stream]
        try:
            for first in range(0, max(1, len(ids)), CHUNK):
                lost = self._renew(connection, stream, ids[first : first + CHUNK])
                for entry_id, owner in lost:
                    self._lose(stream, entry_id, owner)
        except CommandRefusedError as error:
            return error
        return None

    def _renew(
        self, connection: Connection, stream: str, ids: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Renew leases, and return the ids of those that are over, with the new owner, if any."""
        began, renewal = time.monotonic(), self._renewals[stream]
        lease = self._consumer.idle_timeout
        reply: Any = connection.run_script(
            RENEW,
            [stream, workers_key(stream, self._consumer.group.name)],
            [
                self._consumer.group.name,
                self._consumer.name,
                lease,
                max(WORKERS_TTL, 10 * lease),
                *ids,
            ],
            retry_timeout=min(self._interval, RETRY_TIMEOUT),
        )
        now, seen, lost = reply
        # A server that was a replica until now may know less of all workers than they do.
        gap = max(began - renewal.renewed, (now - seen) / 1000)
        if renewal.trusted_from == float("inf") or gap > self._consumer.lease / 2:
            renewal.trusted_from = time.monotonic() + self._consumer.lease / 2
        renewal.renewed, renewal.server_time = began, int(now)
        return [(as_str(entry_id), as_str(owner)) for entry_id, owner in lost]

    def _lose(self, stream: str, entry_id: str, owner: str) -> None:
        lease = self._leases.get((stream, entry_id))
        if lease is None:
            return
        if owner:
            logger.warning(
                "The lease on %s was over before it was renewed, so %r has taken it over, and it "
                "may run twice. A process that is frozen for more than %.1f s can't keep its "
                "leases: raise `idle_timeout` if that is usual.",
                self._describe(lease.entry),
                owner,
                self._consumer.lease,
            )
        self.end(stream, entry_id)

    def _return_dropped(self, connection: Connection) -> None:
        """Hand back what nobody can acknowledge any more."""
        while self._dropped:
            lease = self._dropped.popleft()
            entry = lease.entry
            if self._leases.get((entry.stream, entry.id)) is not lease:
                continue
            logger.warning(
                "Nobody can acknowledge %s any more, so it is delivered again: a middleware has "
                "failed, its label `ack_type` is wrong, or it didn't acknowledge by itself "
                "although it said that it would.",
                self._describe(entry),
            )
            # Before it is given back, as this very worker may get it again at once. Should Redis be
            # away, it is delivered again when the lease is over.
            self.end(entry.stream, entry.id)
            self._give_back(connection, entry.stream, [entry.id], failed=True)

    def _give_back(
        self, connection: Connection, stream: str, ids: Sequence[str], *, failed: bool
    ) -> None:
        consumer = self._consumer
        for first in range(0, len(ids), CHUNK):
            connection.run_script(
                HAND_BACK,
                [stream],
                [
                    consumer.group.name,
                    consumer.name,
                    HANDED_BACK,
                    int(failed),
                    *ids[first : first + CHUNK],
                ],
                # If the reply is lost, this worker may have it again: that one is not to be taken.
                repeatable=not failed,
                retry_timeout=RETRY_TIMEOUT,
            )

    def _leave(self, connection: Connection) -> None:
        """Disappear without a trace, unless something is still held."""
        try:
            self._return_dropped(connection)
            self._sweep(connection, self._consumer.name)
        except CommandRefusedError as error:
            self._refused(error)
        except TaskIQRedisError as error:
            logger.warning(
                "The consumer %r could not be removed, which another worker will do: %s",
                self._consumer.name,
                error,
            )

    def _sweep(self, connection: Connection, leaving: str) -> None:
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311
        for stream in self._renewals:
            connection.run_script(
                SWEEP,
                [stream, workers_key(stream, self._consumer.group.name)],
                [self._consumer.group.name, leaving, GONE_AFTER],
                retry_timeout=RETRY_TIMEOUT,
            )


class Fetched(NamedTuple):
    """An entry that was delivered to this worker, and not handed over yet.

    Args:
        entry: the entry.
        keeper: keeps its lease when it is handed over.
        at: when it was delivered, by the monotonic clock.
        failed: how many deliveries of it have failed.
        owner: who held it before; '' for nobody.
    """

    entry: StreamEntry
    keeper: LeaseKeeper
    at: float
    failed: int = 0
    owner: str = ""

    def let_go(self) -> None:
        """Take note that it is not handed over."""
        self.keeper.let_go(self.entry.stream, self.entry.id)


@dataclass(eq=False)
class ListenerState:
    """One listener of a broker, from before it opens until nothing is done in its name any more.

    Args:
        consumer_name: the name of its consumer.
    """

    consumer_name: str
    #: one for each hash slot, as soon as that is read
    keepers: list[LeaseKeeper] = field(default_factory=list)
    #: whether it reads, or is about to
    reads: bool = True

    @property
    def over(self) -> bool:
        """Whether another one may have the name."""
        return not self.reads and all(keeper.ended for keeper in self.keepers)
