# Generated from taskiq_redis/_async/brokers/stream_reader.py by scripts/unasync.py; edit that.

"""How a worker reads its streams: what is new, what others left behind, and what is due."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from redis.crc import key_slot
from redis.exceptions import ResponseError

from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis._core.redis_errors import Outage, error_code, translate, was_not_executed
from taskiq_redis._core.wire import StreamEntry, read_entries
from taskiq_redis._runtime.blocking import BackgroundTask, Event, Queue, cancellable
from taskiq_redis._sync.brokers.base import Message, Reader
from taskiq_redis._sync.brokers.claims import Claimer
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis._sync.brokers.leases import (
    Consumer,
    Fetched,
    LeaseKeeper,
    ListenerState,
    PoisonSlot,
)
from taskiq_redis._sync.connection import Client, Connection

#: the id that stands for what was never delivered to the group
NEW = ">"
#: what Redis says of a group that is gone; before 7.2 also to whoever waits at a stream that goes
VANISHED = frozenset({"NOGROUP", "UNBLOCKED"})
#: s; how long `MergedReader` waits for its readers before it returns with nothing
MERGE_WAIT = 1.0
#: s; the pause after Redis has refused to let a worker take over anything
REFUSED_PAUSE = 5.0

logger = logging.getLogger("taskiq_redis")


class SlotReader(Reader[Fetched]):
    """Fetches from streams of one hash slot.

    Args:
        connection: where the streams are.
        client: a client of its own, as XREADGROUP blocks it.
        consumer: who reads.
        keeper: its leases.
        poison_slot: the worker's room for a suspect.
        streams: what to read, in one hash slot.
        promoters: move what is due into the streams.
        wait: s; how long one read waits for something new.
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
        wait: float,
    ) -> None:
        self._connection = connection
        self._client = client
        self._consumer = consumer
        self._keeper = keeper
        # The next to be read from comes first, so that none keeps the others waiting.
        self._streams = deque(streams)
        self._wait = wait
        self._batch = PrefetchSize(consumer.count)
        self._claimer = Claimer(consumer, keeper, streams, poison_slot)
        self._promoters = promoters
        names = ", ".join(map(repr, streams))
        self._refusal = Outage(logger, f"Taking over what is left behind on {names}")

    def fetch(self) -> list[Fetched]:
        """Return what others left behind, or else wait for what is new."""
        asked = self._batch.size
        try:
            fetched = cancellable(lambda: self._fetch(asked))
        except ResponseError as error:
            if error_code(error) not in VANISHED or not self._declare_groups():
                raise
            return []
        self._batch.note(asked, len(fetched))
        self._keeper.note_fetched(fetched)
        return fetched

    def _fetch(self, limit: int) -> list[Fetched]:
        for promoter in self._promoters:
            promoter.promote(self._client, self._claimer.workers)
        claimed, refusal = self._claim(limit)
        # If the stream itself is the trouble, this raises, and that is enough to be told.
        fetched = claimed or self._read(limit)
        if refusal is not None:
            # That nothing is taken over is no reason to run nothing.
            told = translate(refusal, str(self._connection.server), *self._streams)
            self._refusal.failed(told)
        return fetched

    def _claim(self, limit: int) -> tuple[list[Fetched], ResponseError | None]:
        """Take over what is left behind, or return why Redis refuses that."""
        if self._claimer.time_left() > 0:
            return [], None
        try:
            claimed = self._claimer.claim(self._client, limit)
        except ResponseError as error:
            if error_code(error) in VANISHED or was_not_executed(error):
                raise
            self._claimer.postpone(REFUSED_PAUSE)
            return [], error
        self._refusal.succeeded()
        return claimed, None

    def _read(self, limit: int) -> list[Fetched]:
        if len(self._streams) > 1:
            # COUNT is for each stream, so what waits already is read from one after the other.
            for stream in tuple(self._streams):
                entries = self._read_from([stream], limit, None)
                if entries:
                    return entries
        due = min(promoter.time_left() for promoter in self._promoters)
        wait = min(self._wait, due, self._claimer.time_left())
        return self._read_from(self._streams, limit, wait)

    def _read_from(self, streams: Collection[str], limit: int, wait: float | None) -> list[Fetched]:
        count = max(1, limit // len(streams))
        # The reply may lie there for long, while something blocks the process.
        asked = time.monotonic()
        reply = self._client.xreadgroup(
            self._consumer.group.name,
            self._consumer.name,
            dict.fromkeys(streams, NEW),
            count=count,
            # 0 would block for ever.
            block=None if wait is None else max(1, round(wait * 1000)),
        )
        entries = read_entries(reply)
        self._advance(entries)
        return [Fetched(entry, self._keeper, asked) for entry in entries]

    def _advance(self, entries: Sequence[StreamEntry]) -> None:
        """Note what was read."""
        self._consumer.group.last_ids.update((entry.stream, entry.id) for entry in entries)
        if entries:
            self._streams.remove(entries[-1].stream)
            self._streams.append(entries[-1].stream)

    def _declare_groups(self) -> bool:
        declared = [self._consumer.group.declare(stream) for stream in self._streams]
        return all(declared)

    def close(self) -> None:
        """Hand back what was not handed over, and close the client."""
        try:
            self._keeper.close()
        finally:
            self._connection.close_client(self._client)


class StreamReader(Reader[Message]):
    """Hands over what was fetched, one by one: from then on, its lease is kept.

    Args:
        source: fetches it.
        wrap: turns it into a message, or None if it is not to be run.
        stopping: set when nothing may be handed over any more.
        half_lease: s; after which it is asked whether what was fetched is still this worker's.
        listener_state: the listener that it is for.
    """

    def __init__(
        self,
        source: Reader[Fetched],
        wrap: Callable[[Fetched], Message | None],
        stopping: Event,
        half_lease: float,
        listener_state: ListenerState,
    ) -> None:
        self._source = source
        self._wrap = wrap
        self._stopping = stopping
        self._half_lease = half_lease
        self._listener_state = listener_state
        self._fetched: deque[Fetched] = deque()

    def fetch(self) -> list[Message]:
        """Return the next message, and wait a bounded time for it."""
        if not self._fetched:
            self._fetched.extend(self._source.fetch())
        while self._fetched and not self._stopping.is_set():
            # Gone from here when it is handed over, even if this is cancelled in between.
            message = self._message(self._fetched[0])
            self._fetched.popleft()
            if message is not None:
                return [message]
        return []

    def _message(self, fetched: Fetched) -> Message | None:
        entry, keeper = fetched.entry, fetched.keeper
        if keeper.has_lease(entry):
            # It was taken over from this very worker, which has handed it over meanwhile.
            return None
        waited = time.monotonic() - fetched.at
        doubtful = waited > self._half_lease or fetched.owner == keeper.consumer_name
        if doubtful and not keeper.confirm(entry):
            fetched.let_go()
            return None
        return self._wrap(fetched)

    def close(self) -> None:
        """Close the source, which hands back what was not handed over."""
        try:
            self._source.close()
        finally:
            self._listener_state.reads = False


class MergedReader(Reader[Fetched]):
    """Reads several hash slots of a cluster at once, each by a reader in the background.

    Args:
        readers: one per slot.
    """

    def __init__(self, readers: Sequence[Reader[Fetched]]) -> None:
        self._channel: Queue[list[Fetched] | Exception] = Queue(1)
        #: set while somebody wants messages: what nobody can start is left to other workers
        self._wanted = Event()
        self._backgrounds = [self._start(reader) for reader in readers]

    def _start(self, reader: Reader[Fetched]) -> BackgroundTask:
        def read(stopping: Event) -> None:
            try:
                while not stopping.is_set():
                    if self._wanted.wait(MERGE_WAIT):
                        fetched = self._fetch_from(reader)
                        if fetched:
                            self._channel.put(fetched)
            finally:
                reader.close()

        background = BackgroundTask(read, "taskiq-redis-reader")
        background.start()
        return background

    def _fetch_from(self, reader: Reader[Fetched]) -> list[Fetched] | Exception:
        try:
            return reader.fetch()
        except Exception as error:  # noqa: BLE001 - raised by `fetch`, where somebody hears of it
            return error

    def fetch(self) -> list[Fetched]:
        """Return what the first of the readers got."""
        self._wanted.set()
        fetched = self._channel.get(MERGE_WAIT)
        if fetched is not None:
            self._wanted = Event()
        if isinstance(fetched, Exception):
            raise fetched
        return fetched or []

    def close(self) -> None:
        """Stop the readers, each of which closes itself."""
        self._channel.close()
        for background in self._backgrounds:
            background.interrupt()
        for background in self._backgrounds:
            background.stop()


def by_slot(streams: Iterable[str]) -> list[list[str]]:
    """Split streams into groups that share a hash slot."""
    groups: dict[int, list[str]] = {}
    for stream in streams:
        groups.setdefault(key_slot(stream.encode()), []).append(stream)
    return list(groups.values())
