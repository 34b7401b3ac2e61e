"""The blocking schedule source of this version."""

import os
from typing import Any

from redis import Redis
from schedule_tasks import stored
from subject import Subject, run

from taskiq_redis import SyncListRedisScheduleSource


class Schedules:
    """A source that is written, and listed."""

    def __init__(self, subject: Subject) -> None:
        url = f"{subject.url}/{os.environ['DATABASE']}"
        self._client = Redis.from_url(url)
        self._source: Any = SyncListRedisScheduleSource(url)
        self._filled = (-1, -1)
        #: what `add` adds and `delete` deletes
        self._added: list[Any] = []
        subject.can("add", self.add, self.fill)
        subject.can("delete", self.delete)

    def fill(self, _number: int, kind: int, number: int) -> None:
        """Store schedules of a kind, unless they are stored already."""
        if self._filled == (kind, number):
            return
        self._client.flushdb()
        if hasattr(self._source, "add_schedules"):
            self._source.add_schedules(stored(kind, number))
        else:
            for schedule in stored(kind, number):
                self._source.add_schedule(schedule)
        self._filled = (kind, number)

    def add(self, number: int, kind: int, _: int) -> None:
        """Add schedules of the kind that is stored, one after another."""
        self._added = stored(kind, number, "added")
        for schedule in self._added:
            self._source.add_schedule(schedule)

    def delete(self, *_: int) -> None:
        """Delete what `add` has added."""
        for schedule in self._added:
            self._source.delete_schedule(schedule.schedule_id)


if __name__ == "__main__":
    run(Schedules)
