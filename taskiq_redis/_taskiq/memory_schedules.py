"""Schedule sources in memory, for tests."""

# `delete_schedule` returns a bool, and None in taskiq.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime

from taskiq import ScheduleSource
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.memory_schedules import MemorySchedules
from taskiq_redis._core.schedulers import SchedulerStats
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource


class InMemoryScheduleSource(ScheduleSource):
    """A schedule source for tests: it keeps schedules in memory, as those of Redis do there."""

    def __init__(self) -> None:
        self._schedules = MemorySchedules()

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its ID.

        Args:
            schedule: the schedule. A time without a time zone is in UTC.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with it.
            ScheduleEncodeError: it can't be serialized.
        """
        self._schedules.add([schedule])

    async def add_schedules(self, schedules: Sequence[ScheduledTask]) -> None:
        """Add schedules, or replace those with their IDs; all are checked before.

        Args:
            schedules: the schedules.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with one of them.
            ScheduleEncodeError: one of them can't be serialized.
        """
        self._schedules.add(schedules)

    async def delete_schedule(self, schedule_id: str) -> bool:  # type: ignore[override]
        """Delete a schedule, and return whether there was one.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.delete(schedule_id)

    async def pause_schedule(self, schedule_id: str) -> bool:
        """Keep a schedule without sending it, until it is resumed or replaced.

        Args:
            schedule_id: ID of the schedule.

        Returns:
            Whether there is such a schedule.
        """
        return self._schedules.pause(schedule_id)

    async def resume_schedule(self, schedule_id: str) -> bool:
        """Send a schedule again that was paused, and return whether it was.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.resume(schedule_id)

    async def clear(self, *, all: bool = False) -> int:  # noqa: A002 - as in the sources on Redis
        """Delete all schedules, and return their number.

        Args:
            all: has to be True, so that nothing is deleted by accident.

        Raises:
            InvalidOptionError: `all` isn't True.
        """
        return self._schedules.clear(all)

    async def get_schedule(self, schedule_id: str) -> ScheduledTask | None:
        """Return a schedule, or None.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.get(schedule_id)

    async def iter_schedules(self) -> AsyncIterator[ScheduledTask]:
        """Yield all schedules, regardless of their due times."""
        for schedule in self._schedules.all():
            yield schedule

    async def get_all_schedules(self) -> list[ScheduledTask]:
        """Return all schedules, regardless of their due times."""
        return self._schedules.all()

    async def get_schedules(self) -> list[ScheduledTask]:
        """Return the schedules for taskiq's scheduler: all that aren't paused."""
        return self._schedules.active()

    async def count(self) -> int:
        """Return the number of schedules."""
        return len(self._schedules)

    async def next_run(self, schedule: ScheduledTask) -> datetime | None:
        """Return when a schedule is due next, in UTC.

        Args:
            schedule: a schedule of this source.

        Returns:
            The time. None if the schedule is paused, was deleted, or is never due.
        """
        return self._schedules.next_run(schedule)

    async def schedulers(self) -> list[SchedulerStats]:
        """Return no schedulers: they register themselves with sources on Redis only."""
        return []

    async def pre_send(self, task: ScheduledTask) -> None:
        """Check that a schedule may be sent.

        Args:
            task: the schedule that is to be sent. Its name, arguments and labels become those that
                are stored now.

        Raises:
            ScheduledTaskCancelledError: it was deleted or paused.
        """
        self._schedules.before_send(task)

    async def post_send(self, task: ScheduledTask) -> None:
        """Record that a schedule was sent. A one-off is deleted, unless it was replaced meanwhile.

        Args:
            task: the schedule that was sent.
        """
        self._schedules.after_send(task)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self._schedules)} schedules>"


class SyncInMemoryScheduleSource(SyncScheduleSource):
    """The blocking counterpart of `InMemoryScheduleSource`.

    Args:
        source: an async source to share the schedules of. Default none.
    """

    def __init__(self, source: InMemoryScheduleSource | None = None) -> None:
        self._schedules = MemorySchedules() if source is None else source._schedules

    def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its ID.

        Args:
            schedule: the schedule. A time without a time zone is in UTC.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with it.
            ScheduleEncodeError: it can't be serialized.
        """
        self._schedules.add([schedule])

    def add_schedules(self, schedules: Sequence[ScheduledTask]) -> None:
        """Add schedules, or replace those with their IDs; all are checked before.

        Args:
            schedules: the schedules.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with one of them.
            ScheduleEncodeError: one of them can't be serialized.
        """
        self._schedules.add(schedules)

    def delete_schedule(self, schedule_id: str) -> bool:
        """Delete a schedule, and return whether there was one.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.delete(schedule_id)

    def pause_schedule(self, schedule_id: str) -> bool:
        """Keep a schedule without sending it, until it is resumed or replaced.

        Args:
            schedule_id: ID of the schedule.

        Returns:
            Whether there is such a schedule.
        """
        return self._schedules.pause(schedule_id)

    def resume_schedule(self, schedule_id: str) -> bool:
        """Send a schedule again that was paused, and return whether it was.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.resume(schedule_id)

    def clear(self, *, all: bool = False) -> int:  # noqa: A002 - as in the sources on Redis
        """Delete all schedules, and return their number.

        Args:
            all: has to be True, so that nothing is deleted by accident.

        Raises:
            InvalidOptionError: `all` isn't True.
        """
        return self._schedules.clear(all)

    def get_schedule(self, schedule_id: str) -> ScheduledTask | None:
        """Return a schedule, or None.

        Args:
            schedule_id: ID of the schedule.
        """
        return self._schedules.get(schedule_id)

    def iter_schedules(self) -> Iterator[ScheduledTask]:
        """Yield all schedules, regardless of their due times."""
        yield from self._schedules.all()

    def get_all_schedules(self) -> list[ScheduledTask]:
        """Return all schedules, regardless of their due times."""
        return self._schedules.all()

    def get_schedules(self) -> list[ScheduledTask]:
        """Return the schedules for a scheduler: all that aren't paused."""
        return self._schedules.active()

    def count(self) -> int:
        """Return the number of schedules."""
        return len(self._schedules)

    def next_run(self, schedule: ScheduledTask) -> datetime | None:
        """Return when a schedule is due next, in UTC.

        Args:
            schedule: a schedule of this source.

        Returns:
            The time. None if the schedule is paused, was deleted, or is never due.
        """
        return self._schedules.next_run(schedule)

    def schedulers(self) -> list[SchedulerStats]:
        """Return no schedulers: they register themselves with sources on Redis only."""
        return []

    def pre_send(self, task: ScheduledTask) -> None:
        """Check that a schedule may be sent.

        Args:
            task: the schedule that is to be sent. Its name, arguments and labels become those that
                are stored now.

        Raises:
            ScheduledTaskCancelledError: it was deleted or paused.
        """
        self._schedules.before_send(task)

    def post_send(self, task: ScheduledTask) -> None:
        """Record that a schedule was sent. A one-off is deleted, unless it was replaced meanwhile.

        Args:
            task: the schedule that was sent.
        """
        self._schedules.after_send(task)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self._schedules)} schedules>"
