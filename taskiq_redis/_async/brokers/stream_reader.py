"""How a worker reads its streams: what is new, and what others left behind."""

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from taskiq_redis._async.brokers.base import Message, Reader
from taskiq_redis._async.brokers.groups import ConsumerGroup
from taskiq_redis._async.connection import Client, Connection
from taskiq_redis._core.failures import error_code
from taskiq_redis._core.wire import StreamEntry, claimed_entries, read_entries
from taskiq_redis._runtime.aio import Background, Channel, Event, cancellable

#: the id that stands for what was never delivered to the group
NEW = ">"
#: the cursor of a scan that begins, or that came to its end
START = "0-0"
#: s; bounds of the time between two scans for what others left behind
SHORTEST_SCAN, LONGEST_SCAN = 0.1, 5.0
#: s; how long `MergedReader` waits for its readers before it returns with nothing
MERGE_WAIT = 1.0


@dataclass(frozen=True)
class Consumer:
    """Who reads, and how much.

    Args:
        group: the consumer group.
        name: the consumer's name in it.
        count: most messages per read and stream, or None for no limit.
        idle_timeout: ms; what a consumer has held for so long is taken from it.
        claim_count: most messages that are taken over in one go.
    """

    group: ConsumerGroup
    name: str
    count: int | None
    idle_timeout: int
    claim_count: int


class Reclaimer:
    """Takes over, now and then, what other consumers have held for too long.

    Args:
        consumer: who takes it over.
        streams: where to look.
    """

    def __init__(self, consumer: Consumer, streams: Iterable[str]) -> None:
        self._consumer = consumer
        # Where each scan goes on; starting again at 0-0 would never get past many fresh entries.
        self._cursors = dict.fromkeys(streams, START)
        self._interval = min(max(consumer.idle_timeout / 5000, SHORTEST_SCAN), LONGEST_SCAN)
        self._next_scan = self._schedule()

    def _schedule(self) -> float:
        # Jittered, so that workers that were started together don't scan together.
        return time.monotonic() + self._interval * random.uniform(0.75, 1.25)  # noqa: S311

    def time_left(self) -> float:
        """Return the seconds until the next scan."""
        return max(0.0, self._next_scan - time.monotonic())

    async def claim(self, client: Client) -> list[StreamEntry]:
        """Scan the next part of each stream (XAUTOCLAIM)."""
        entries: list[StreamEntry] = []
        for stream, cursor in self._cursors.items():
            reply = await client.xautoclaim(
                stream,
                self._consumer.group.name,
                self._consumer.name,
                self._consumer.idle_timeout,
                start_id=cursor,
                count=self._consumer.claim_count,
            )
            self._cursors[stream], claimed = claimed_entries(stream, reply)
            entries += claimed
        # Where something was found there may be more, and so where a scan has not come to its end.
        if not entries and all(cursor == START for cursor in self._cursors.values()):
            self._next_scan = self._schedule()
        return entries


class StreamReader(Reader):
    """Reads streams of one hash slot.

    Args:
        connection: where the streams are.
        client: a client of its own, as XREADGROUP blocks it.
        consumer: who reads.
        positions: by stream, the id to read from.
        wait: s; how long one read waits for something new.
        wrap: turns an entry into a message, or None if it holds no task.
    """

    def __init__(
        self,
        connection: Connection,
        client: Client,
        consumer: Consumer,
        positions: dict[str, str],
        wait: float,
        wrap: Callable[[StreamEntry], Awaitable[Message | None]],
    ) -> None:
        self._connection = connection
        self._client = client
        self._consumer = consumer
        self._positions = positions
        self._wait = wait
        self._wrap = wrap
        self._reclaimer = Reclaimer(consumer, positions)

    async def fetch(self) -> list[Message]:
        """Return what others left behind, or else wait for what is new."""
        try:
            entries = await cancellable(self._fetch)
        except ResponseError as error:
            if error_code(error) != "NOGROUP" or not await self._declare_groups():
                raise
            return []
        messages = [await self._wrap(entry) for entry in entries]
        return [message for message in messages if message is not None]

    async def _fetch(self) -> list[StreamEntry]:
        if self._reclaimer.time_left() == 0:
            claimed = await self._reclaimer.claim(self._client)
            if claimed:
                return claimed
        return await self._read()

    async def _read(self) -> list[StreamEntry]:
        block = min(self._wait, self._reclaimer.time_left())
        streams: dict[Any, Any] = dict(self._positions)
        reply = await self._client.xreadgroup(
            self._consumer.group.name,
            self._consumer.name,
            streams,
            count=self._consumer.count,
            # 0 would block for ever.
            block=max(1, round(block * 1000)),
        )
        entries = read_entries(reply)
        self._advance(entries)
        return entries

    def _advance(self, entries: Sequence[StreamEntry]) -> None:
        """Note what was read; a stream that was read from an id goes on to what is new."""
        last = {entry.stream: entry.id for entry in entries}
        for stream, position in self._positions.items():
            if position == NEW:
                continue
            self._positions[stream] = last.pop(stream, NEW)
        self._consumer.group.last_ids.update(last)

    async def _declare_groups(self) -> bool:
        declared = [await self._consumer.group.declare(stream) for stream in self._positions]
        return all(declared)

    async def close(self) -> None:
        """Close the client."""
        await self._connection.close_client(self._client)


class MergedReader(Reader):
    """Reads several hash slots of a cluster at once, each by a reader in the background.

    Args:
        readers: one per slot.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._channel: Channel[list[Message] | Exception] = Channel(1)
        self._backgrounds = [self._start(reader) for reader in readers]

    def _start(self, reader: Reader) -> Background:
        async def read(stopping: Event) -> None:
            try:
                while not stopping.is_set():
                    messages = await self._fetch_from(reader)
                    if messages:
                        await self._channel.put(messages)
            finally:
                await reader.close()

        background = Background(read, "taskiq-redis-reader")
        background.start()
        return background

    async def _fetch_from(self, reader: Reader) -> list[Message] | Exception:
        try:
            return await reader.fetch()
        except Exception as error:  # noqa: BLE001 - raised by `fetch`, where somebody hears of it
            return error

    async def fetch(self) -> list[Message]:
        """Return what the first of the readers got."""
        messages = await self._channel.get(MERGE_WAIT)
        if isinstance(messages, Exception):
            raise messages
        return messages or []

    async def close(self) -> None:
        """Stop the readers, each of which closes itself."""
        self._channel.close()
        for background in self._backgrounds:
            background.interrupt()
        for background in self._backgrounds:
            await background.stop()


def by_slot(positions: dict[str, str]) -> list[dict[str, str]]:
    """Split streams into groups that share a hash slot."""
    groups: dict[int, dict[str, str]] = {}
    for stream, position in positions.items():
        groups.setdefault(key_slot(stream.encode()), {})[stream] = position
    return list(groups.values())
