"""Schedule sources with lists of IDs: of crons, of intervals, and of each minute's one-offs."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from taskiq import ScheduleSource
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.clients import Client
from taskiq_redis._async.schedules.base import BaseScheduleSource, logger
from taskiq_redis._async.schedules.compat import CompatNames
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.keys import ScheduleKeys, minute_of, minute_to_unix
from taskiq_redis._core.options import ScheduleOptions, check_hash_tag
from taskiq_redis._core.wire import as_bytes, as_str, encode_schedule

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

#: minimum time ahead that is read; twice the interval of taskiq's scheduler
LOOKAHEAD = timedelta(minutes=2)
#: how far back minutes are read without the index, which 1.2.4 doesn't write; clocks may differ
LATENESS = timedelta(minutes=2)
#: after so long without a read, all minutes that 1.2.4 may have written are indexed again
LONGEST_GAP = timedelta(hours=1)
#: number of keys per SCAN
SCAN_COUNT = 1000

PUT_SCHEDULE = lua.load("put_schedule")
DROP_SCHEDULE = lua.load("drop_schedule")
READ_LISTS = lua.load("read_lists")
FORGET_MINUTES = lua.load("forget_minutes")


class IndexedSource(BaseScheduleSource):
    """A schedule source that reads only the schedules that are due soon.

    There are lists of the IDs of all cron schedules, of all interval schedules, and of the one-off
    schedules of each minute. An ID in a list that doesn't fit its schedule, which 1.2.4 may leave
    behind, is ignored.

    Args:
        server: address and connection options of Redis.
        options: see `ScheduleOptions`.
    """

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        super().__init__(server, options)
        if self._connection.sharded:
            check_hash_tag("prefix", options.prefix)
        self._previous: ScheduleSource | None = None
        self._delete_previous = True
        self._indexed = False
        self._first_read: datetime | None = None
        self._last_read: datetime | None = None

    @property
    def _keys(self) -> ScheduleKeys:
        return ScheduleKeys(self.prefix)

    def with_migrate_from(self, source: ScheduleSource, delete_schedules: bool = True) -> Self:
        """Move the schedules of another source into this one at `startup`.

        Args:
            source: source to read from.
            delete_schedules: whether to delete them from that source. Default True.
        """
        self._previous = source
        self._delete_previous = delete_schedules
        return self

    async def startup(self) -> None:
        """Index minutes that 1.2.4 wrote, and migrate from the source of `with_migrate_from`.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        await super().startup()
        await self._index()
        if self._previous is not None:
            await self._migrate(self._previous)

    async def _migrate(self, source: ScheduleSource) -> None:
        await source.startup()
        try:
            if isinstance(source, BaseScheduleSource):
                schedules = await source.get_all_schedules()
            else:
                schedules = await source.get_schedules()
            for schedule in schedules:
                await self.add_schedule(schedule)
                if self._delete_previous:
                    await source.delete_schedule(schedule.schedule_id)
        finally:
            await source.shutdown()

    async def _index(self) -> None:
        """Add the minutes that 1.2.4 wrote to the sorted set (SCAN, ZADD)."""
        minutes = await self._connection.call(self._scan_minutes)
        if minutes:
            scores = {minute: minute_to_unix(minute) or 0 for minute in minutes}
            await self._connection.call(
                lambda client: client.zadd(self._keys.due, dict(scores)), key=self._keys.due
            )
        self._indexed = True

    async def _scan_minutes(self, client: Client) -> list[str]:
        keys = client.scan_iter(match=self._keys.any_minute, count=SCAN_COUNT, _type="list")
        minutes = [self._keys.parse_minute(as_str(key)) async for key in keys]
        return [minute for minute in minutes if minute is not None]

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its ID (GET, EVALSHA).

        Args:
            schedule: the schedule.

        Raises:
            ScheduleEncodeError: it can't be serialized.
            ServerUnavailableError: Redis can't be reached.
        """
        data = encode_schedule(self.serializer, schedule)
        key = self._keys.data(schedule.schedule_id)
        minute = self._minute(schedule)
        done = False
        while not done:
            old_data, old = await self._current(key)
            old_list = self._list(old or schedule)
            done = await self._connection.run_script(
                PUT_SCHEDULE,
                [key, self._keys.due, self._list(schedule), old_list],
                [
                    schedule.schedule_id,
                    data,
                    old_data,
                    minute,
                    minute_to_unix(minute) or 0,
                    self._minute(old) if old else "",
                ],
            ) or await self._holds(key, data)

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule if it exists (GET, EVALSHA).

        Args:
            schedule_id: ID of the schedule.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        await self._delete(schedule_id)

    async def _delete_sent(self, sent: ScheduledTask) -> None:
        await self._delete(sent.schedule_id, sent)

    async def _delete(self, schedule_id: str, only: ScheduledTask | None = None) -> None:
        """Delete the schedule with an ID, unless it is due at another time than `only`."""
        key = self._keys.data(schedule_id)
        done = False
        while not done:
            data, schedule = await self._current(key)
            if only is not None and schedule is not None and schedule.time != only.time:
                return
            lists = [self._list(schedule)] if schedule else [self._keys.cron, self._keys.interval]
            done = await self._connection.run_script(
                DROP_SCHEDULE,
                [key, self._keys.due, *lists],
                [schedule_id, data, self._minute(schedule) if schedule else ""],
            )

    async def _current(self, key: str) -> tuple[bytes, ScheduledTask | None]:
        """Read the bytes of a key, and the schedule in them, or None if they aren't one."""
        (raw,) = await self._get([key])
        if raw is None:
            return b"", None
        return as_bytes(raw), self._decode(key, raw)

    async def _holds(self, key: str, data: bytes) -> bool:
        """Return whether a key holds these bytes: they may be stored though the reply was lost."""
        (raw,) = await self._get([key])
        return raw is not None and as_bytes(raw) == data

    def _minute(self, schedule: ScheduledTask) -> str:
        """Return the minute of a one-off schedule, or an empty string for any other."""
        one_off = schedule.cron is None and schedule.interval is None and schedule.time is not None
        return minute_of(schedule.time) if one_off and schedule.time is not None else ""

    def _list(self, schedule: ScheduledTask) -> str:
        """Return the key of the list that the ID of a schedule belongs to."""
        if schedule.cron is not None:
            return self._keys.cron
        if schedule.interval is not None:
            return self._keys.interval
        return self._keys.minute(self._minute(schedule))

    async def get_schedules(self) -> list[ScheduledTask]:
        """Read cron and interval schedules, and the one-offs that are due before the next read.

        Unreadable schedules are logged and left out (ZRANGE, EVALSHA of LRANGE, MGET).

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        now = datetime.now(timezone.utc)
        gap = now - (self._last_read or now)
        if not self._indexed or gap > LONGEST_GAP:
            await self._index()
        gap = min(max(gap, timedelta()), LONGEST_GAP)
        self._first_read = self._first_read or now
        begin = self._first_read if self.skip_past_schedules else None
        end = now + max(LOOKAHEAD, 2 * gap)
        known = await self._known_minutes(begin, end)
        # 1.2.4 may have added schedules since, without adding their minutes to the sorted set.
        since = now - gap - LATENESS
        recent = _minutes_between(max(since, begin or since), end)
        schedules = await self._read_schedules(known, recent)
        self._last_read = now
        return self._without_sent(schedules)

    async def get_all_schedules(self) -> list[ScheduledTask]:
        """Read all schedules, regardless of their due times."""
        if not self._indexed:
            await self._index()
        return await self._read_schedules(await self._known_minutes(None, None))

    async def _known_minutes(self, begin: datetime | None, end: datetime | None) -> list[str]:
        lowest = "-inf" if begin is None else str(minute_to_unix(minute_of(begin)))
        highest = "+inf" if end is None else str(minute_to_unix(minute_of(end)))

        async def between(client: Client) -> Any:
            return await client.zrange(self._keys.due, lowest, highest, byscore=True)

        minutes = await self._connection.call(between, key=self._keys.due)
        return [as_str(minute) for minute in minutes]

    async def _read_schedules(
        self, known: Sequence[str], others: Sequence[str] = ()
    ) -> list[ScheduledTask]:
        """Read cron and interval schedules, and the one-offs of minutes in or outside the set."""
        minutes = {self._keys.minute(minute): minute for minute in (*known, *others)}
        lists = [self._keys.cron, self._keys.interval, *minutes]
        ids = dict(zip(lists, await self._read_lists(lists), strict=True))
        await self._forget([minute for minute in known if not ids[self._keys.minute(minute)]])
        places = {(self._keys.data(id_), list_): None for list_ in lists for id_ in ids[list_]}
        found = await self._read(list(dict.fromkeys(key for key, _ in places)))
        return [task for key, task in found.items() if (key, self._list(task)) in places]

    async def _read_lists(self, keys: Sequence[str]) -> list[list[str]]:
        lists = await self._connection.run_script(READ_LISTS, list(keys), [])
        for key, elements in zip(keys, lists, strict=True):
            if elements is None:
                # Raising an error would keep all other schedules from being sent.
                logger.error(
                    "The schedules in the key %r are skipped: it isn't a list. The key is used for "
                    "something else: choose another prefix, or delete the key.",
                    key,
                )
        return [[as_str(element) for element in elements or ()] for elements in lists]

    async def _forget(self, minutes: Sequence[str]) -> None:
        if minutes:
            lists = [self._keys.minute(minute) for minute in minutes]
            await self._connection.run_script(
                FORGET_MINUTES, [self._keys.due, *lists], list(minutes)
            )


def _minutes_between(begin: datetime, end: datetime) -> list[str]:
    """Return the minutes from `begin` to one after `end`."""
    count = int((end - begin).total_seconds() // 60) + 1
    return [minute_of(begin + timedelta(minutes=minute)) for minute in range(count + 1)]


class ListRedisScheduleSource(OnSingleNode, IndexedSource, CompatNames):
    """Keeps schedules indexed by when they are due, on one Redis server.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "schedule",
        max_connection_pool_size: int | None = None,
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
            ),
        )


class ListRedisClusterScheduleSource(OnCluster, IndexedSource):
    """Keeps schedules indexed by when they are due, in one hash slot of a Redis Cluster.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        prefix: prefix of all keys, followed by a colon. Its hash tag in braces chooses the hash
            slot. Default ``{schedule}``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid, such as a prefix without braces.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "{schedule}",
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, connection_kwargs=connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
            ),
        )


class ListRedisSentinelScheduleSource(OnSentinel, IndexedSource):
    """Keeps schedules indexed by when they are due, on a master that sentinels monitor.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        prefix: str = "schedule",
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
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
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
            ),
        )
