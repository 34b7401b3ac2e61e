"""Read streams: entries claimed from other workers first, then new ones."""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot
from redis.exceptions import ClusterError, RedisError, ResponseError

from taskiq_redis._async.brokers.base import Message, Reader
from taskiq_redis._async.brokers.claims import Claimer
from taskiq_redis._async.brokers.consumer_groups import Consumer
from taskiq_redis._async.brokers.delays import Promoter
from taskiq_redis._async.brokers.leases import LeaseKeeper
from taskiq_redis._async.brokers.listeners import Fetched, ListenerState
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection
from taskiq_redis._core.leases import PoisonSlot
from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis._core.redis_errors import (
    Outage,
    error_code,
    keys_are_moving,
    translate,
    was_not_executed,
)
from taskiq_redis._core.wire import StreamEntry, read_entries
from taskiq_redis._drivers.aio import disconnect, initialize
from taskiq_redis._runtime.aio import BackgroundTask, Event, Queue, cancellable, sleep

#: the ID by which XREADGROUP returns entries that were never delivered to the group
NEW = ">"
#: error codes if the group was deleted; UNBLOCKED is that of Redis before 7.2 if the stream was
#: deleted during a blocking read
GROUP_GONE = frozenset({"NOGROUP", "UNBLOCKED"})
#: s; how long `MergedReader` waits for its readers
MERGE_WAIT = 1.0
#: s; a distant worker promotes and claims at once if the later of both is due within this time
DUE_SOON = 0.3
#: s; pause between claims after Redis has refused one
REFUSED_PAUSE = 5.0

logger = logging.getLogger("taskiq_redis")


class SlotReader(Reader[Fetched]):
    """Fetches entries of streams in one hash slot.

    Args:
        connection: where the streams are.
        client: a client of its own, since XREADGROUP blocks it.
        consumer: the consumer that reads.
        keeper: keeps its leases.
        poison_slot: the worker's slot for a suspect; see `PoisonSlot`.
        streams: Redis keys of the streams.
        promoters: move due messages into the streams.
        block: s; how long one read waits for new entries.
    """

    def __init__(
        self,
        connection: Connection,
        client: Client,
        consumer: Consumer,
        keeper: LeaseKeeper,
        poison_slot: PoisonSlot,
        streams: Sequence[str],
        promoters: Sequence[Promoter],
        block: float,
    ) -> None:
        self._connection = connection
        self._client = client
        self._consumer = consumer
        self._keeper = keeper
        # Rotated, so that no stream starves the others: the first one is read next.
        self._streams = deque(streams)
        self._block = block
        self._prefetch = PrefetchSize(consumer.count)
        self._claimer = Claimer(consumer, keeper, streams, poison_slot)
        self._promoters = promoters
        #: streams that are paused
        self._paused: frozenset[str] = frozenset()
        names = ", ".join(map(repr, streams))
        self._refusal = Outage(logger, f"Claiming entries of dead workers on {names}")

    async def fetch(self) -> list[Fetched]:
        """Return claimed entries, or else wait for new ones."""
        count = self._prefetch.next_size()
        try:
            fetched = await cancellable(self._fetch, count)
        except ResponseError as error:
            if error_code(error) not in GROUP_GONE or not await self._declare_groups():
                raise
            return []
        self._prefetch.record(count, len(fetched))
        self._keeper.add_fetched(each.entry for each in fetched)
        return fetched

    async def _fetch(self, limit: int) -> list[Fetched]:
        if isinstance(self._client, RedisCluster):
            await initialize(self._client)
        # The promoters may have been asked before a prefetched message was handed over.
        self._record_pauses()
        together = self._promoter_to_join()
        if together is None:
            await self._promote()
        claimed, refusal = await self._claim(limit, together)
        # If Redis refuses this as well, its error is logged, and the refusal of the claim is not.
        fetched = claimed or await self._read(limit)
        if refusal is not None:
            # New entries are run even if claiming is refused.
            server = str(self._connection.server)
            self._refusal.record_failure(translate(refusal, server, *self._streams))
        return fetched

    async def _promote(self) -> None:
        for promoter in self._promoters:
            if promoter.time_left() == 0:
                began = time.monotonic()
                await promoter.promote(self._client, self._claimer.workers)
                self._prefetch.record_round_trip(time.monotonic() - began)
                self._record_pauses()

    def _record_pauses(self) -> None:
        self._paused = frozenset(each.queue_name for each in self._promoters if each.paused)

    def _promoter_to_join(self) -> Promoter | None:
        """Return the promoter if it is worth sharing a round trip with the claim."""
        if not self._prefetch.is_distant or self._paused or len(self._streams) > 1:
            return None
        (promoter,) = self._promoters
        times = (promoter.time_left(), self._claimer.time_left())
        return promoter if min(times) == 0 and max(times) < DUE_SOON else None

    async def _claim(
        self, limit: int, promoter: Promoter | None
    ) -> tuple[list[Fetched], RedisError | None]:
        """Claim entries, or return the error if Redis refuses that."""
        if promoter is None and (self._claimer.time_left() > 0 or self._all_paused):
            return [], None
        began = time.monotonic()
        try:
            claimed = await self._claimer.claim(self._client, limit, promoter, self._paused)
        except (ResponseError, ClusterError) as error:
            not_now = was_not_executed(error) and not keys_are_moving(error)
            if error_code(error) in GROUP_GONE or not_now:
                raise
            self._claimer.postpone(REFUSED_PAUSE)
            return [], error
        # The streams are scanned one after the other.
        scanned = len(self._streams) - len(self._paused)
        self._prefetch.record_round_trip((time.monotonic() - began) / scanned)
        if promoter is not None:
            self._record_pauses()
        self._refusal.record_success()
        return claimed, None

    @property
    def _all_paused(self) -> bool:
        return len(self._paused) == len(self._streams)

    async def _read(self, limit: int) -> list[Fetched]:
        streams = tuple(self._streams)
        if self._paused:
            streams = tuple(stream for stream in streams if stream not in self._paused)
        if len(streams) > 1:
            # COUNT applies per stream, so waiting entries are read from one stream at a time.
            for stream in streams:
                entries = await self._read_from([stream], limit, None)
                if entries:
                    return entries
        block = min(self._block, *(promoter.time_left() for promoter in self._promoters))
        if not streams:
            await sleep(block)
            return []
        # Redis notices the end of a short block only every 100 ms, which would slow down a scan.
        pause = self._claimer.time_left()
        is_scanning = pause == 0 and self._claimer.is_scanning
        return await self._read_from(streams, limit, None if is_scanning else min(block, pause))

    async def _read_from(
        self, streams: Collection[str], limit: int, block: float | None
    ) -> list[Fetched]:
        count = max(1, limit // len(streams))
        # Taken before the read: its reply waits while a task blocks the event loop.
        began = time.monotonic()
        reply = await read_group(
            self._client,
            self._consumer.group.name,
            self._consumer.name,
            dict.fromkeys(streams, NEW),
            count=count,
            # 0 would block for ever.
            block=None if block is None else max(1, round(block * 1000)),
        )
        entries = read_entries(reply)
        self._advance(entries)
        return [Fetched(entry, self._keeper, began) for entry in entries]

    def _advance(self, entries: Sequence[StreamEntry]) -> None:
        """Record the last IDs, and let other streams come first in the next read."""
        self._consumer.group.last_ids.update((entry.stream, entry.id) for entry in entries)
        if entries:
            self._streams.remove(entries[-1].stream)
            self._streams.append(entries[-1].stream)

    async def _declare_groups(self) -> bool:
        declared = [await self._consumer.group.declare(stream) for stream in self._streams]
        return all(declared)

    async def close(self) -> None:
        """Hand back entries that were not handed over, and close the client."""
        try:
            await self._keeper.close()
        finally:
            await disconnect(self._client)


class StreamReader(Reader[Message]):
    """Hands over fetched entries one by one; the lease of each begins then.

    Args:
        source: fetches entries.
        promoters: by stream; notice when it is paused.
        wrap: returns an entry as a message, or None if it must not be run.
        stopping: set when no entry may be handed over any more.
        half_lease: s; time since the delivery after which the ownership of an entry is checked.
        listener_state: the listener.
    """

    def __init__(
        self,
        source: Reader[Fetched],
        promoters: Mapping[str, Promoter],
        wrap: Callable[[Fetched], Awaitable[Message | None]],
        stopping: Event,
        half_lease: float,
        listener_state: ListenerState,
    ) -> None:
        self._source = source
        self._promoters = promoters
        self._wrap = wrap
        self._stopping = stopping
        self._half_lease = half_lease
        self._listener_state = listener_state
        self._fetched: deque[Fetched] = deque()

    async def fetch(self) -> list[Message]:
        """Wait a bounded time for a message, and return it."""
        if not self._fetched:
            self._fetched.extend(await self._source.fetch())
        if self._fetched:
            promoter = self._promoters[self._fetched[0].entry.stream]
            if promoter.may_be_paused and await promoter.is_paused():
                await self._hand_back(promoter.queue_name)
                return []
        while self._fetched and not self._stopping.is_set():
            # Removed afterwards, so that a cancellation doesn't lose it.
            message = await self._message(self._fetched[0])
            self._fetched.popleft()
            if message is not None:
                return [message]
        return []

    async def _hand_back(self, stream: str) -> None:
        """Hand back the prefetched entries of a paused stream."""
        # If the reply is lost, their ownership is checked before they are handed over.
        paused = [
            fetched._replace(delivered_at=float("-inf"))
            for fetched in self._fetched
            if fetched.entry.stream == stream
        ]
        others = [fetched for fetched in self._fetched if fetched.entry.stream != stream]
        self._fetched = deque([*paused, *others])
        keeper = paused[0].keeper
        await keeper.hand_back_entries([fetched.entry for fetched in paused])
        self._fetched = deque(others)

    async def _message(self, fetched: Fetched) -> Message | None:
        entry, keeper = fetched.entry, fetched.keeper
        if keeper.is_leased(entry):
            # This worker had prefetched it, claimed it from itself, and handed it over already.
            return None
        waited = time.monotonic() - fetched.delivered_at
        may_be_lost = waited > self._half_lease or fetched.former_owner == keeper.consumer_name
        if may_be_lost and not await keeper.confirm(entry):
            fetched.release()
            return None
        return await self._wrap(fetched)

    async def close(self) -> None:
        """Close the source, which hands back entries that were not handed over."""
        try:
            await self._source.close()
        finally:
            self._listener_state.is_reading = False


class MergedReader(Reader[Fetched]):
    """Reads from several hash slots of a cluster, with a background task for each.

    Args:
        readers: one per slot.
    """

    def __init__(self, readers: Sequence[Reader[Fetched]]) -> None:
        self._queue: Queue[list[Fetched] | Exception] = Queue(1)
        #: set while the listener waits for messages; only then, more are fetched from Redis
        self._wanted = Event()
        self._backgrounds = [self._start(reader) for reader in readers]

    def _start(self, reader: Reader[Fetched]) -> BackgroundTask:
        async def read(stopping: Event) -> None:
            try:
                while not stopping.is_set():
                    if await self._wanted.wait(MERGE_WAIT):
                        fetched = await self._fetch_from(reader)
                        if fetched:
                            await self._queue.put(fetched)
            finally:
                await reader.close()

        background = BackgroundTask(read, "taskiq-redis-reader")
        background.start()
        return background

    async def _fetch_from(self, reader: Reader[Fetched]) -> list[Fetched] | Exception:
        try:
            return await reader.fetch()
        except Exception as error:  # noqa: BLE001 - raised by `fetch`
            return error

    async def fetch(self) -> list[Fetched]:
        """Return the entries of the first reader that has some, or raise its error."""
        self._wanted.set()
        fetched = await self._queue.get(MERGE_WAIT)
        if fetched is not None:
            self._wanted = Event()
        if isinstance(fetched, Exception):
            raise fetched
        return fetched or []

    async def close(self) -> None:
        """Stop the background tasks, which close the readers."""
        self._queue.close()
        for background in self._backgrounds:
            background.interrupt()
        for background in self._backgrounds:
            await background.stop()


async def read_group(
    client: Client,
    group: str,
    consumer: str,
    streams: dict[Any, Any],
    count: int,
    block: int | None,
) -> Any:
    """Read entries of streams for a consumer, and return the reply (XREADGROUP).

    Args:
        client: runs the command.
        group: the consumer group.
        consumer: name of the consumer in the group.
        streams: Redis keys in one slot, each with the ID after which to read.
        count: maximum number of entries per stream.
        block: ms; how long to wait for entries; None not to wait.
    """
    if isinstance(client, Redis):
        return await client.xreadgroup(group, consumer, streams, count=count, block=block)
    # A cluster client asks a node twice for the keys of each XREADGROUP (COMMAND GETKEYS), unless
    # it is told the node of the keys. It follows MOVED and ASK all the same.
    cluster: Any = client
    await initialize(cluster)
    return await cluster.execute_command(
        *("XREADGROUP", "GROUP", group, consumer, "COUNT", count),
        *(() if block is None else ("BLOCK", block)),
        *("STREAMS", *streams, *streams.values()),
        target_nodes=cluster.get_node_from_key(next(iter(streams))),
    )


def group_by_slot(streams: Iterable[str]) -> list[list[str]]:
    """Group streams by their hash slot."""
    groups: dict[int, list[str]] = {}
    for stream in streams:
        groups.setdefault(key_slot(stream.encode()), []).append(stream)
    return list(groups.values())
