"""Schedule sources of taskiq-redis, this version or 1.2.4: the same program for both."""

import asyncio
import os
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from redis.asyncio import Redis
from schedule_tasks import PAUSE, once, stored
from subject import Subject, run

from taskiq_redis import ListRedisScheduleSource, RedisScheduleSource

#: schedules that 1.2.4 adds at once
TOGETHER = 50


class Schedules:
    """A source that is read and written."""

    def __init__(self, subject: Subject) -> None:
        self._url = f"{subject.url}/{os.environ['DATABASE']}"
        self._client = Redis.from_url(self._url)
        self._source: Any = ListRedisScheduleSource(self._url, socket_timeout=None)
        self._filled = (-1, -1)
        #: what `add` adds and `delete` deletes
        self._added: list[Any] = []
        self._changes = 0
        subject.can("poll", self.poll, self.fill)
        subject.can("change", self.poll, self.change)
        subject.can("add", self.add, self.fill)
        subject.can("delete", self.delete)
        subject.can("migrate", self.migrate, self.fill_other)
        subject.can("late", self.add_ahead, self.empty)

    async def empty(self, *_: int) -> None:
        """Delete everything."""
        await self._client.flushdb()
        self._filled = (-1, -1)

    async def fill(self, _number: int, kind: int, number: int) -> None:
        """Store schedules of a kind, unless they are stored already."""
        if self._filled != (kind, number):
            await self.empty()
            await add_all(self._source, stored(kind, number))
            self._filled = (kind, number)

    async def poll(self, number: int, *_: int) -> None:
        """Read what is due."""
        for _ in range(number):
            await self._source.get_schedules()

    async def change(self, _: int, kind: int, number: int) -> None:
        """Replace one schedule."""
        await self.fill(1, kind, number)
        self._changes += 1
        (changed,) = stored(kind, 1)
        changed.args.append(self._changes)
        await self._source.add_schedule(changed)

    async def add(self, number: int, kind: int, _: int) -> None:
        """Add schedules of the kind that is stored, one after another."""
        self._added = stored(kind, number, "added")
        for schedule in self._added:
            await self._source.add_schedule(schedule)

    async def delete(self, *_: int) -> None:
        """Delete what `add` has added."""
        for schedule in self._added:
            await self._source.delete_schedule(schedule.schedule_id)

    async def fill_other(self, _: int, kind: int, number: int) -> None:
        """Store schedules with one key each."""
        await self.empty()
        other = RedisScheduleSource(self._url, prefix="other", socket_timeout=None)
        await add_all(other, stored(kind, number))
        await other.shutdown()

    async def migrate(self, *_: int) -> None:
        """Move schedules from the source with one key each."""
        other = RedisScheduleSource(self._url, prefix="other", socket_timeout=None)
        source = ListRedisScheduleSource(self._url, socket_timeout=None)
        source = source.with_migrate_from(other)
        await source.startup()
        await source.shutdown()

    async def add_ahead(self, number: int, ms: int) -> None:
        """Add one-offs that are due some time ahead; their IDs hold the Unix time."""
        for index in range(number):
            due = datetime.now(timezone.utc) + timedelta(milliseconds=ms)
            await self._source.add_schedule(once(f"{ms}:{index}:{due.timestamp()}", due))
            # So that they are due at any part of a second, and added at any time of a minute.
            await asyncio.sleep(PAUSE)


async def add_all(source: Any, schedules: Sequence[Any]) -> None:
    """Add many schedules."""
    if hasattr(source, "add_schedules"):
        await source.add_schedules(schedules)
        return
    for begin in range(0, len(schedules), TOGETHER):
        await asyncio.gather(*map(source.add_schedule, schedules[begin : begin + TOGETHER]))


if __name__ == "__main__":
    # 1.2.4 recommends to migrate.
    warnings.simplefilter("ignore", DeprecationWarning)
    run(Schedules)
