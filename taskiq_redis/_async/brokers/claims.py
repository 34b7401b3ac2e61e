"""Claim entries whose worker has died, or that were handed back."""

import random
import time
from collections.abc import Collection, Iterable

from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK, HANDED_BACK_IDLE, Consumer
from taskiq_redis._async.brokers.delays import Promoter
from taskiq_redis._async.brokers.leases import LeaseKeeper
from taskiq_redis._async.brokers.listeners import Fetched
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import evaluate
from taskiq_redis._async.pipelines import ScriptCall, evaluate_together
from taskiq_redis._core import lua
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.leases import PoisonSlot
from taskiq_redis._core.unknown_tasks import REFUSED_IDLE, START
from taskiq_redis._core.wire import StreamEntry, as_str, fields_of

CLAIM = lua.load("claim")

#: s; limits for the interval between two scans
SHORTEST_SCAN, LONGEST_SCAN = 0.1, 0.6
#: s; minimum interval per worker of the group, which bounds the total rate of scans
SCAN_PER_WORKER = 0.05
#: if a scan has several parts, the interval is this multiple of the time that they took, up to a
#: maximum in s, so that many pending entries don't keep the worker busy
PAUSE_FACTOR, LONGEST_PAUSE = 4, 3.0
#: maximum number of entries per scan, which blocks the server while it runs
SCAN_LIMIT = 100
#: ms; idle time after which an unregistered consumer, such as a worker on 1.2.4, counts as dead
UNREGISTERED_IDLE = 600_000
#: number of failed deliveries after which an entry is a suspect; see `PoisonSlot`
SUSPECT_AFTER = 2


class Claimer:
    """Claims, at intervals, entries whose leases have expired, or that were handed back.

    Args:
        consumer: the consumer that claims them.
        keeper: keeps its leases, and decides when it may claim from other workers.
        streams: Redis keys of the streams, in one hash slot.
        poison_slot: the worker's slot for a suspect; see `PoisonSlot`.
    """

    def __init__(
        self,
        consumer: Consumer,
        keeper: LeaseKeeper,
        streams: Iterable[str],
        poison_slot: PoisonSlot,
    ) -> None:
        self._consumer = consumer
        self._keeper = keeper
        self._poison_slot = poison_slot
        # A scan continues where the last one ended, or it would never get past many fresh entries.
        self._cursors = dict.fromkeys(streams, START)
        #: number of workers of the group
        self.workers = 1
        self._next_scan = time.monotonic()
        #: s; how long the parts of this scan took after the first one
        self._took = 0.0

    def time_left(self) -> float:
        """Return the seconds until the next scan."""
        return max(0.0, self._next_scan - time.monotonic())

    @property
    def is_scanning(self) -> bool:
        """Whether the last scan ended before the last entry."""
        return any(cursor != START for cursor in self._cursors.values())

    def postpone(self, pause: float) -> None:
        """Scan later, since Redis refuses the script now."""
        self._next_scan = time.monotonic() + pause

    async def claim(
        self,
        client: Client,
        limit: int,
        promoter: Promoter | None = None,
        paused: Collection[str] = (),
    ) -> list[Fetched]:
        """Scan the next part of each stream (EVALSHA of XPENDING, XCLAIM).

        Args:
            client: runs the script.
            limit: maximum number of entries to claim.
            promoter: moves due messages in the same round trip.
            paused: streams that are not scanned.
        """
        claimed: list[Fetched] = []
        for stream in tuple(self._cursors):
            if stream in paused:
                # Otherwise, a scan that a pause interrupts would never seem to be complete.
                self._cursors[stream] = START
                continue
            # The next scan starts with the stream after it, so that no stream starves the others.
            self._cursors[stream] = self._cursors.pop(stream)
            claimed = await self._claim_from(client, stream, limit, promoter)
            if claimed:
                break
        # If entries were claimed, or a scan isn't complete, there may be more: scan again at once.
        if not (claimed or self.is_scanning):
            self._schedule_scan()
        return claimed

    def _schedule_scan(self) -> None:
        interval = min(max(self._consumer.lease / 5, SHORTEST_SCAN), LONGEST_SCAN)
        pause = min(PAUSE_FACTOR * self._took, LONGEST_PAUSE)
        interval = max(interval, self.workers * SCAN_PER_WORKER, pause)
        self._took = 0.0
        # Jitter, so that workers that were started together don't scan together.
        self._next_scan = time.monotonic() + interval * random.uniform(0.75, 1.25)  # noqa: S311

    async def _claim_from(
        self, client: Client, stream: str, limit: int, promoter: Promoter | None
    ) -> list[Fetched]:
        reserved, suspect = self._poison_slot.reserve(), None
        asked, refused_claims = time.monotonic(), self._keeper.refused_claims(stream)
        refused_limit, refused_after = refused_claims.next_claim(self._cursors[stream])
        try:
            scan = self._scan(stream, limit, reserved, refused_limit, refused_after)
            if promoter is None:
                reply = await evaluate(*scan, client)
            else:
                reply, promoted = await evaluate_together(client, scan, promoter.call())
                promoter.record(promoted, self.workers)
            if isinstance(reply, Exception):
                raise reply
            if self._cursors[stream] != START:
                self._took += time.monotonic() - asked
            self._cursors[stream], self.workers = as_str(reply[0]), max(1, int(reply[1]))
            claimed = [self._make_fetched(stream, asked, *entry) for entry in reply[2]]
            refused = [one.entry.id for one in claimed if one.refused_for is not None]
            refused_claims.record_scan(refused_limit, refused, self._cursors[stream])
            suspect = next((one.entry for one in claimed if self._is_suspect(one.failures)), None)
            return claimed
        finally:
            if reserved:
                self._poison_slot.assign(suspect)

    def _is_suspect(self, failed: int) -> bool:
        too_many = self._consumer.max_deliveries
        return failed >= SUSPECT_AFTER and (too_many is None or failed < too_many)

    def _scan(
        self,
        stream: str,
        limit: int,
        may_be_suspect: bool,
        refused_limit: int,
        refused_after: str,
    ) -> ScriptCall:
        consumer = self._consumer
        return ScriptCall(
            CLAIM,
            [stream, workers_key(stream, consumer.group.name)],
            [
                consumer.group.name,
                consumer.name,
                consumer.idle_timeout,
                max(consumer.idle_timeout, UNREGISTERED_IDLE),
                HANDED_BACK,
                self._keeper.may_claim_until(stream),
                min(limit, consumer.claim_count),
                int(may_be_suspect),
                SUSPECT_AFTER,
                consumer.max_deliveries or 0,
                self._cursors[stream],
                SCAN_LIMIT,
                HANDED_BACK_IDLE,
                REFUSED_IDLE,
                refused_limit,
                refused_after,
            ],
        )

    def _make_fetched(
        self,
        stream: str,
        asked: float,
        entry_id: bytes,
        failed: int,
        owner: bytes,
        fields: list[bytes],
        refused_for: int,
    ) -> Fetched:
        entry = StreamEntry(stream, as_str(entry_id), fields_of(fields))
        refused = None if refused_for < 0 else refused_for
        return Fetched(entry, self._keeper, asked, failed, as_str(owner), refused)
