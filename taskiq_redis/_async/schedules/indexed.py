"""Schedule sources with an index of the due times."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from taskiq import ScheduleSource
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.clients import Client
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.schedules.base import BaseScheduleSource
from taskiq_redis._async.schedules.due_reader import (
    LATENESS,
    RESCORE,
    DueReader,
    list_arguments,
)
from taskiq_redis._async.schedules.managed import BATCH, Encoded
from taskiq_redis._async.schedules.migration import Migration
from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.keys import ScheduleKeys, minute_of
from taskiq_redis._core.options import ScheduleOptions, check_hash_tag
from taskiq_redis._core.schedules import aware, due_ms, kind_of, minute_ms
from taskiq_redis._core.wire import as_str
from taskiq_redis._runtime.aio import Refresher
from taskiq_redis._taskiq.misuse import check_kind
from taskiq_redis.exceptions import InvalidScheduleError, ScheduleDecodeError, TaskIQRedisError

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

#: minimum time ahead that is read; twice the default interval of taskiq's scheduler
LOOKAHEAD = timedelta(minutes=2)
#: one-offs that are due so soon are shown as due at the beginning of their second, when taskiq's
#: scheduler looks at them; `pre_send` waits for the rest
ROUNDED = timedelta(seconds=2)
#: after so long without a read, all minutes that 1.2.4 may have written are indexed again
LONGEST_GAP = timedelta(hours=1)
#: how far back lists are looked at once a minute: 1.2.4 may add schedules that are overdue
LONGEST_OVERDUE = timedelta(days=1)
#: s; how long reading again is retried. What was read before is used meanwhile.
READ_TIMEOUT = 2.0
#: number of keys per SCAN, and of schedules per page
PAGE = 1000

PUT = lua.load("schedule_index", "schedule_put", "put_schedules")
DROP = lua.load("schedule_index", "drop_schedules")
INDEX_LISTS = lua.load("schedule_index", "index_lists")


class IndexedSource(BaseScheduleSource):
    """A schedule source that reads only the schedules that are due soon.

    A sorted set has the IDs of all schedules with their due times. They are also in lists, where
    taskiq-redis 1.2.4 looks for them: of crons, of intervals, and of the one-offs of each minute.

    Args:
        server: address and connection options of Redis.
        options: see `ScheduleOptions`.
    """

    _indexed = True

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        super().__init__(server, options)
        if self._connection.sharded:
            check_hash_tag("prefix", options.prefix)
        self._migration: Migration | None = None
        #: whether the lists of all minutes that 1.2.4 wrote are in the index
        self._complete = False
        self._first_read: datetime | None = None
        self._last_read: datetime | None = None
        self._readers = LoopLocal(
            lambda: DueReader(
                self._connection,
                self._keys,
                self._read_raw,
                self._try_decode,
                self._registration,
            )
        )
        self._refresher = LoopLocal(
            lambda: Refresher(self._refresh, "Refresh of schedules"), Refresher.stop
        )

    @property
    def _reader(self) -> DueReader:
        return self._readers.get()

    @property
    def _keys(self) -> ScheduleKeys:
        return ScheduleKeys(self.prefix)

    def _data_key(self, schedule_id: str) -> str:
        return self._keys.data(schedule_id)

    def with_migrate_from(self, source: ScheduleSource, delete_schedules: bool = True) -> Self:
        """Move the schedules of another source into this one at `startup`.

        One process at a time does this, and continues after a crash where it was. Without
        `delete_schedules`, it is done once.

        Args:
            source: source to read from.
            delete_schedules: whether to delete them from that source. Default True.

        Raises:
            TypeError: that source has no methods of the kind that this one calls; see `to_sync`.
        """
        check_kind(source, ScheduleSource, self)
        self._migration = Migration(self, source, delete_schedules)
        return self

    async def startup(self) -> None:
        """Index what 1.2.4 wrote, and migrate from the source of `with_migrate_from`.

        Raises:
            InvalidOptionError: the schedules would be migrated into their own source.
            ServerUnavailableError: Redis can't be reached.
        """
        await super().startup()
        await self._index_all()
        if self._migration is not None:
            await self._migration.run()

    async def shutdown(self) -> None:
        """Close the connections; using the source again opens new ones."""
        refresher = self._refresher.pop()
        if refresher is not None:
            await refresher.stop()
        await super().shutdown()

    # --- Writing

    async def _put(self, schedules: Sequence[Encoded]) -> None:
        keys, arguments = self._put_arguments(schedules)
        taken = await self._run(PUT, keys, [0, *arguments])
        if taken:
            await self._check_taken([as_str(schedule_id) for schedule_id in taken])
            await self._run(PUT, keys, [1, *arguments])

    async def _run(self, script: lua.Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script with the keys of the index and further ones."""
        return await self._connection.run_script(
            script, [*self._keys.index, *keys], list(args), key=self._keys.patterns
        )

    def _put_arguments(self, schedules: Sequence[Encoded]) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments for ``schedule_put.lua``."""
        keys: list[str] = []
        arguments: list[Any] = []
        for schedule, data in schedules:
            keys += [self._data_key(schedule.schedule_id), self._list(schedule)]
            arguments += [schedule.schedule_id, data, due_ms(schedule), self._minute(schedule)]
        return keys, arguments

    async def _check_taken(self, schedule_ids: Sequence[str]) -> None:
        """Check that the keys of schedules don't hold those of another source."""
        keys = {self._data_key(schedule_id): schedule_id for schedule_id in schedule_ids}
        for key, raw in (await self._read_raw(list(keys))).items():
            with suppress(ScheduleDecodeError):
                other = self._decode_value(key, raw).schedule_id
                if other != keys[key]:
                    reason = f"the key {key!r} holds the schedule {other!r} of another source"
                    raise InvalidScheduleError(schedule_id=keys[key], field="ID", reason=reason)

    def _minute(self, schedule: ScheduledTask) -> str:
        """Return the minute of a one-off schedule, or an empty string for any other."""
        if kind_of(schedule) != "once" or schedule.time is None:
            return ""
        return minute_of(schedule.time)

    def _list(self, schedule: ScheduledTask) -> str:
        """Return the key of the list where 1.2.4 looks for a schedule."""
        kind = kind_of(schedule)
        if kind == "once":
            return self._keys.minute(self._minute(schedule))
        return self._keys.cron if kind == "cron" else self._keys.interval

    async def _delete(self, schedule_ids: Sequence[str]) -> int:
        keys = [self._data_key(schedule_id) for schedule_id in schedule_ids]
        deleted, left = await self._run(DROP, keys, schedule_ids)
        if not left:
            await self._reader.prune_all()
        return int(deleted)

    async def _forget(self, schedule_ids: Sequence[str]) -> None:
        await self._reader.forget(schedule_ids)

    async def _pause(self, schedule_id: str) -> bool:
        return await self._rescore(schedule_id, "", "inf")

    async def _resume(self, schedule_id: str) -> bool:
        schedule = await self.get_schedule(schedule_id)
        return schedule is not None and await self._rescore(schedule_id, "inf", due_ms(schedule))

    async def _rescore(self, schedule_id: str, old: str, new: str | int) -> bool:
        """Change the due time of a schedule in the index, and return whether it was there."""
        key = self._data_key(schedule_id)
        return bool(await self._run(RESCORE, [key], [schedule_id, old, new]))

    async def _is_paused(self, schedule_id: str) -> bool:
        key = self._keys.due
        score = await self._connection.call(lambda client: client.zscore(key, schedule_id), key=key)
        return score is not None and float(score) == float("inf")

    async def _paused(self) -> set[str]:
        key = self._keys.due
        paused: Any = await self._connection.call(
            lambda client: client.zrangebyscore(key, "inf", "inf"), key=key
        )
        return {as_str(schedule_id) for schedule_id in paused}

    # --- Reading

    async def _index_all(self) -> None:
        """Add what 1.2.4 wrote to the index (SCAN, EVALSHA)."""
        minutes = await self._connection.call(self._scan_minutes)
        for start in range(0, len(minutes) or 1, BATCH):
            lists, arguments = list_arguments(self._keys, minutes[start : start + BATCH])
            both = [self._keys.cron, self._keys.interval]
            await self._run(INDEX_LISTS, [*both, *lists], [0, "", 0, "", *arguments])
        self._complete = True

    async def _scan_minutes(self, client: Client) -> list[str]:
        keys = client.scan_iter(match=self._keys.any_minute, count=PAGE, _type="list")
        minutes = [self._keys.parse_minute(as_str(key)) async for key in keys]
        return [minute for minute in minutes if minute is not None]

    async def _own_ids(self) -> list[str]:
        schedule_ids: list[str] = []
        async for page in self._pages():
            schedule_ids += page
        return schedule_ids

    async def _pages(self) -> AsyncIterator[list[str]]:
        """Read the IDs of all schedules, page by page (ZSCAN)."""
        await self._index_all()
        cursor = 0
        seen: set[str] = set()
        while True:
            cursor, found = await self._scan_index(cursor)
            # ZSCAN may return an element twice.
            page = [schedule_id for schedule_id in found if schedule_id not in seen]
            seen.update(page)
            if page:
                yield page
            if not cursor:
                return

    async def _scan_index(self, cursor: int) -> tuple[int, list[str]]:
        key = self._keys.due
        reply: Any = await self._connection.call(
            lambda client: client.zscan(key, cursor, count=PAGE), key=key
        )
        following, found = reply
        return int(following), [as_str(schedule_id) for schedule_id, _ in found]

    async def count(self) -> int:
        """Return the number of schedules (ZCARD).

        What a process with 1.2.4 adds or deletes counts when a scheduler notices it.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        if not self._complete:
            await self._index_all()
        key = self._keys.due
        return int(await self._connection.call(lambda client: client.zcard(key), key=key))

    def _read_last(self, schedule_id: str) -> ScheduledTask | None:
        return self._reader.get(schedule_id)

    async def get_schedules(self) -> list[ScheduledTask]:
        """Read crons and intervals, and the one-offs that are due before the next read.

        taskiq's scheduler needs no `--update-interval`: the list is kept up to date once a second
        as long as it is in use. While Redis can't be read, it is what it was before. Unreadable
        schedules are logged and left out (EVALSHA, MGET).

        Raises:
            ServerUnavailableError: Redis can't be reached, and nothing has been read before.
        """
        schedules = self._rounded(await super().get_schedules())
        return self._refresher.get().publish(schedules)

    async def _refresh(self) -> list[ScheduledTask] | None:
        """Read again what `get_schedules` returned; None if Redis can't be read."""
        try:
            self._last = await self._read_due()
        except TaskIQRedisError:
            return None
        return self._rounded(self._without_ended(self._last))

    def _rounded(self, schedules: list[ScheduledTask]) -> list[ScheduledTask]:
        """Let one-offs that are due soon be due at the beginning of their second."""
        now = datetime.now(timezone.utc)
        return [_round(schedule, now) for schedule in schedules]

    async def _read_due(self) -> list[ScheduledTask]:
        now = datetime.now(timezone.utc)
        gap = now - (self._last_read or now)
        if not self._complete or gap > LONGEST_GAP:
            await self._index_all()
        gap = min(max(gap, timedelta()), LONGEST_GAP)
        self._first_read = self._first_read or now.replace(second=0, microsecond=0)
        begin = minute_ms(self._first_read) if self.skip_past_schedules else 1
        end = now + max(LOOKAHEAD, 2 * gap)
        options = {} if self._last is None else {"retry_timeout": READ_TIMEOUT}
        # 1.2.4 may have added schedules since, without adding them to the index.
        late = gap + LATENESS
        if self._last_read is not None and self._reader.reads_everything_next():
            late = LONGEST_OVERDUE
        minutes = _minutes_between(now - late, end)
        schedules = await self._reader.read(
            now, minutes, begin, int(end.timestamp() * 1000), **options
        )
        self._last_read = now
        return schedules


def _round(schedule: ScheduledTask, now: datetime) -> ScheduledTask:
    if schedule.time is None or not schedule.time.microsecond or kind_of(schedule) != "once":
        return schedule
    if not now < aware(schedule.time) < now + ROUNDED:
        return schedule
    return schedule.model_copy(update={"time": schedule.time.replace(microsecond=0)})


def _minutes_between(begin: datetime, end: datetime) -> list[datetime]:
    """Return times in the minutes from `begin` to one after `end`."""
    count = int((end - begin).total_seconds() // 60) + 1
    return [begin + timedelta(minutes=minute) for minute in range(count + 1)]
