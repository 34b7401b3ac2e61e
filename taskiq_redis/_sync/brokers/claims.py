# Generated from taskiq_redis/_async/brokers/claims.py by scripts/unasync.py; edit that.

"""How a worker takes over what dead ones have left behind."""

import random
import time
from collections.abc import Iterable
from typing import Any

from taskiq_redis._core import lua
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.wire import StreamEntry, as_str, fields_of
from taskiq_redis._sync.brokers.leases import (
    HANDED_BACK,
    Consumer,
    Fetched,
    LeaseKeeper,
    PoisonSlot,
)
from taskiq_redis._sync.connection import Client, evaluate

CLAIM = lua.load("claim")

#: where a scan begins
START = "-"
#: s; bounds of the time between two scans
SHORTEST_SCAN, LONGEST_SCAN = 0.1, 0.6
#: s; the same, for each worker of the group, so that all together don't scan too often
SCAN_PER_WORKER = 0.05
#: most entries that one scan looks at, so that it doesn't hold up the server
SCANNED = 100
#: ms; after which a consumer that can't renew leases, as one of 1.2.4, is taken for dead
UNREGISTERED_IDLE = 600_000
#: how many failed deliveries make a suspect of an entry
SUSPICIOUS = 2


class Claimer:
    """Takes over, now and then, what other consumers have held for too long.

    Args:
        consumer: who takes it over.
        keeper: keeps its leases, and knows whether those of others can be judged.
        streams: where to look, in one hash slot.
        poison_slot: the worker's room for a suspect.
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
        # Where each scan goes on; one that began anew would never get past many fresh entries.
        self._cursors = dict.fromkeys(streams, START)
        #: how many workers of the group there are
        self.workers = 1
        self._next_scan = time.monotonic()

    def time_left(self) -> float:
        """Return the seconds until the next scan."""
        return max(0.0, self._next_scan - time.monotonic())

    def postpone(self, pause: float) -> None:
        """Scan later, as Redis refuses it now."""
        self._next_scan = time.monotonic() + pause

    def claim(self, client: Client, limit: int) -> list[Fetched]:
        """Scan the next part of each stream (EVALSHA of XPENDING, XCLAIM).

        Args:
            client: what to scan with.
            limit: most entries to take over.
        """
        claimed: list[Fetched] = []
        for stream in tuple(self._cursors):
            # The next scan begins behind it, so that no stream keeps the others waiting.
            self._cursors[stream] = self._cursors.pop(stream)
            claimed = self._claim_from(client, stream, limit)
            if claimed:
                break
        # Where something was found there may be more, and so where a scan has not come to its end.
        if not claimed and all(cursor == START for cursor in self._cursors.values()):
            self._schedule()
        return claimed

    def _schedule(self) -> None:
        interval = min(max(self._consumer.lease / 5, SHORTEST_SCAN), LONGEST_SCAN)
        interval = max(interval, self.workers * SCAN_PER_WORKER)
        # Jittered, so that workers that were started together don't scan together.
        self._next_scan = time.monotonic() + interval * random.uniform(0.75, 1.25)  # noqa: S311

    def _claim_from(self, client: Client, stream: str, limit: int) -> list[Fetched]:
        reserved, suspect = self._poison_slot.reserve(), None
        asked = time.monotonic()
        try:
            reply = self._scan(client, stream, limit, reserved)
            self._cursors[stream], self.workers = as_str(reply[0]), max(1, int(reply[1]))
            claimed = [self._fetched(stream, asked, *entry) for entry in reply[2]]
            suspect = next((one.entry for one in claimed if self._is_suspect(one.failed)), None)
            return claimed
        finally:
            if reserved:
                self._poison_slot.settle(suspect)

    def _is_suspect(self, failed: int) -> bool:
        too_many = self._consumer.max_deliveries
        return failed >= SUSPICIOUS and (too_many is None or failed < too_many)

    def _scan(self, client: Client, stream: str, limit: int, may_be_suspect: bool) -> Any:
        consumer = self._consumer
        return evaluate(
            client,
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
                SUSPICIOUS,
                consumer.max_deliveries or 0,
                self._cursors[stream],
                SCANNED,
            ],
        )

    def _fetched(
        self,
        stream: str,
        asked: float,
        entry_id: bytes,
        failed: int,
        owner: bytes,
        fields: list[bytes],
    ) -> Fetched:
        entry = StreamEntry(stream, as_str(entry_id), fields_of(fields))
        return Fetched(entry, self._keeper, asked, failed, as_str(owner))
