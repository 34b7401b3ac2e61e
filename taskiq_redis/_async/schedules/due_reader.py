"""Read the schedules that are due soon, at the cost of those that changed."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.connection import Connection
from taskiq_redis._async.schedules.schedulers import SchedulerRegistration
from taskiq_redis._core import lua
from taskiq_redis._core.keys import ScheduleKeys, minute_of
from taskiq_redis._core.schedule_polls import PollReply, parse_poll
from taskiq_redis._core.schedules import aware, due_ms, minute_ms
from taskiq_redis._core.wire import as_str
from taskiq_redis._runtime.aio import Semaphore

logger = logging.getLogger("taskiq_redis")

#: s; everything is read again after this time, whatever the version: taskiq-redis 1.2.4 doesn't
#: raise it, and a failover may set it back
COMPLETE_READ = 60.0
#: minutes before the current one whose lists are looked at; clocks may differ
LATENESS = timedelta(minutes=2)
#: minutes that are over for so long may be deleted when their schedules were sent
RETENTION = timedelta(minutes=2)
#: maximum number of lists that one command prunes
PRUNED = 500

POLL = lua.load("schedule_index", "scheduler_registration", "poll_schedules")
PRUNE = lua.load("schedule_index", "prune_lists")
FORGET = lua.load("schedule_index", "forget_schedules")
RESCORE = lua.load("schedule_index", "rescore_schedules")


class DueReader:
    """Keeps the crons, the intervals and the next one-offs of an indexed source in memory.

    Args:
        connection: connection of the source.
        keys: keys of the source.
        read_raw: reads the bytes of keys.
        decode: decodes a schedule, given its key, ID and bytes; None if it is unreadable.
        registration: registration of the scheduler, written with the reads.
    """

    def __init__(
        self,
        connection: Connection,
        keys: ScheduleKeys,
        read_raw: Callable[..., Any],
        decode: Callable[[str, str, bytes], ScheduledTask | None],
        registration: SchedulerRegistration,
    ) -> None:
        self._registration = registration
        self._connection = connection
        self._keys = keys
        self._read_raw = read_raw
        self._decode = decode
        #: by ID, the bytes of a schedule and what they mean; none if they are unreadable
        self._known: dict[str, tuple[bytes, ScheduledTask | None]] = {}
        #: IDs of the crons and intervals
        self._recurring: dict[str, None] = {}
        self._version = ""
        self._complete_at = 0.0
        self._pruned_at: datetime | None = None
        self._logged: set[str] = set()
        #: one read at a time
        self._reading = Semaphore(1)

    def get(self, schedule_id: str) -> ScheduledTask | None:
        """Return the schedule that was read last with an ID, or None."""
        known = self._known.get(schedule_id)
        return None if known is None else known[1]

    def reads_everything_next(self) -> bool:
        """Return whether it is time to read everything again, whatever the version."""
        return time.monotonic() - self._complete_at > COMPLETE_READ

    async def read(
        self, now: datetime, minutes: Sequence[datetime], begin: int, end: int, **options: Any
    ) -> list[ScheduledTask]:
        """Read all crons and intervals, and the one-offs that are due in a range of times.

        Args:
            now: the time.
            minutes: minutes whose lists may have IDs that aren't in the index.
            begin: Unix time in ms.
            end: the same.
            options: of `Connection.run_script`.
        """
        async with self._reading:
            if self.reads_everything_next():
                self._version = ""
            reply = await self._poll(now, minutes, begin, end, **options)
            await self._update(reply)
            await self._prune(now, reply)
            due = (each for each, score in reply.due.items() if begin <= score <= end)
            wanted = (self.get(schedule_id) for schedule_id in (*self._recurring, *due))
            return [schedule for schedule in wanted if schedule is not None]

    async def _poll(
        self, now: datetime, minutes: Sequence[datetime], begin: int, end: int, **options: Any
    ) -> PollReply:
        lists, pairs = self._lists(minutes)
        times = [self._version, max(1, begin), end, minute_ms(now - RETENTION)]
        keys = [*self._keys.index, self._keys.cron, self._keys.interval, *lists]

        async def poll(key: Sequence[str], registers: Sequence[Any]) -> PollReply:
            arguments = [*times, *registers, 0, "", 0, "", *pairs]
            patterns = self._keys.patterns
            return parse_poll(
                await self._connection.run_script(
                    POLL, [*keys, *key], arguments, key=patterns, **options
                )
            )

        reply = await self._registration.write_with(poll)
        for key in reply.no_lists:
            if key not in self._logged:
                self._logged.add(key)
                logger.error(
                    "What taskiq-redis 1.2.4 may have added to the key %r is skipped: it isn't a "
                    "list. The key is used for something else: choose another prefix, or delete "
                    "the key.",
                    key,
                )
        return reply

    def _lists(self, minutes: Sequence[datetime]) -> tuple[list[str], list[Any]]:
        return list_arguments(self._keys, [minute_of(minute) for minute in minutes])

    async def _update(self, reply: PollReply) -> None:
        """Read what changed, and correct the index where it differs from the schedules."""
        if reply.complete:
            self._recurring = dict.fromkeys(reply.read)
            self._known = {
                schedule_id: known
                for schedule_id, known in self._known.items()
                if schedule_id in reply.read or schedule_id in reply.due
            }
            wanted = dict.fromkeys((*reply.read, *reply.due))
        else:
            for schedule_id, score in reply.read.items():
                if score == "0":
                    self._recurring[schedule_id] = None
                else:
                    self._recurring.pop(schedule_id, None)
                    if schedule_id not in reply.due:
                        self._known.pop(schedule_id, None)
            new = (each for each in reply.due if each in reply.read or each not in self._known)
            changed = (each for each in reply.read if each in self._recurring)
            wanted = dict.fromkeys((*changed, *new))
            self._drop_sent(reply)
        await self._read(wanted, reply)
        self._version = reply.version
        if reply.complete:
            self._complete_at = time.monotonic()

    def _drop_sent(self, reply: PollReply) -> None:
        """Forget one-offs that are out of the range."""
        if len(self._known) > len(self._recurring) + len(reply.due):
            self._known = {
                schedule_id: known
                for schedule_id, known in self._known.items()
                if schedule_id in self._recurring or schedule_id in reply.due
            }

    async def _read(self, wanted: Iterable[str], reply: PollReply) -> None:
        keys = {self._keys.data(schedule_id): schedule_id for schedule_id in wanted}
        found: dict[str, bytes] = await self._read_raw(list(keys))
        gone: list[str] = []
        moved: list[tuple[str, int, int]] = []
        for key, schedule_id in keys.items():
            raw = found.get(key)
            if raw is None:
                gone.append(schedule_id)
                self._known.pop(schedule_id, None)
                self._recurring.pop(schedule_id, None)
                continue
            if self._known.get(schedule_id, (None,))[0] != raw:
                decoded = self._decode(key, schedule_id, raw)
                # Unreadable bytes may be long.
                self._known[schedule_id] = raw if decoded is not None else b"", decoded
            schedule = self.get(schedule_id)
            score = 0 if schedule_id in self._recurring else reply.due[schedule_id]
            if schedule is not None and due_ms(schedule) != score:
                moved.append((schedule_id, score, due_ms(schedule)))
        await self.forget(gone)
        await self._move(moved, reply)

    async def forget(self, gone: Sequence[str]) -> None:
        """Remove schedules from the index whose bytes are gone, and log those of another type.

        Args:
            gone: their IDs.
        """
        if not gone:
            return
        keys = [self._keys.data(schedule_id) for schedule_id in gone]
        others, left = await self._connection.run_script(
            FORGET, [*self._keys.index, *keys], list(gone), key=self._keys.patterns
        )
        if not left:
            await self.prune_all()
        for schedule_id in map(as_str, others):
            key = self._keys.data(schedule_id)
            if key not in self._logged:
                self._logged.add(key)
                logger.error(
                    "The schedule in the key %r is skipped: the key has another type. It is used "
                    "for something else: choose another prefix, or delete the key.",
                    key,
                )

    async def _move(self, moved: Sequence[tuple[str, int, int]], reply: PollReply) -> None:
        """Correct the index: that of 1.2.4 has only minutes, and may have the wrong list."""
        if not moved:
            return
        keys = [self._keys.data(schedule_id) for schedule_id, _, _ in moved]
        arguments: list[Any] = [each for move in moved for each in move]
        await self._connection.run_script(
            RESCORE, [*self._keys.index, *keys], arguments, key=self._keys.patterns
        )
        for schedule_id, _, score in moved:
            self._recurring.pop(schedule_id, None)
            reply.due.pop(schedule_id, None)
            if score == 0:
                self._recurring[schedule_id] = None
            else:
                reply.due[schedule_id] = score

    async def _prune(self, now: datetime, reply: PollReply) -> None:
        """Delete what is of no use in the lists for 1.2.4, once a minute at most."""
        minute = now.replace(second=0, microsecond=0)
        if reply.crowded or (reply.over and minute != self._pruned_at):
            self._pruned_at = minute
            await self.prune(reply.over)

    async def prune_all(self) -> None:
        """Delete unused entries of all lists for 1.2.4 (ZRANGE, EVALSHA)."""
        start = 0
        while True:
            minutes = await self._minutes(start, start + PRUNED - 1)
            # Deleting minutes moves later ones up in the sorted set, so skip only those in use.
            start += await self.prune(minutes)
            if len(minutes) < PRUNED:
                return

    async def _minutes(self, first: int, last: int) -> list[str]:
        key = self._keys.minutes
        minutes: Any = await self._connection.call(
            lambda client: client.zrange(key, first, last), key=key
        )
        return [as_str(minute) for minute in minutes]

    async def prune(self, minutes: Sequence[str]) -> int:
        """Delete unused entries of the lists for 1.2.4 (EVALSHA).

        Args:
            minutes: the minutes whose lists to look at, besides those of crons and intervals.

        Returns:
            How many of the lists are still used.
        """
        lists = [self._keys.minute(minute) for minute in minutes]
        used: int = await self._connection.run_script(
            PRUNE,
            [*self._keys.index, self._keys.cron, self._keys.interval, *lists],
            list(minutes),
            key=self._keys.patterns,
        )
        return used


def list_arguments(keys: ScheduleKeys, minutes: Sequence[str]) -> tuple[list[str], list[Any]]:
    """Return the keys of the lists of minutes, and for each one the score and name of its minute.

    Args:
        keys: keys of the source.
        minutes: the minutes, such as 2030-01-02T03:04.
    """
    starts = [max(1, minute_ms(aware(datetime.fromisoformat(minute)))) for minute in minutes]
    arguments = [each for pair in zip(starts, minutes, strict=True) for each in pair]
    return [keys.minute(minute) for minute in minutes], arguments
