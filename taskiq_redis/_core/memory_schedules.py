"""Schedules in memory, shared by the schedule sources for tests."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.schedules import (
    check_schedule,
    due_ms,
    from_ms,
    interval_ms,
    kind_of,
    next_cron,
)
from taskiq_redis._core.wire import decode_schedule, encode_schedule, serializer_for
from taskiq_redis.exceptions import InvalidOptionError


class MemorySchedules:
    """Schedules by their ID; threads may share them."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._schedules: dict[str, ScheduledTask] = {}
        self._paused: set[str] = set()
        self._fired: dict[str, datetime] = {}
        self._serializer = serializer_for(None, None)

    def add(self, schedules: Sequence[ScheduledTask]) -> None:
        """Add schedules, or replace those with their IDs; all are checked before.

        Args:
            schedules: the schedules.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with one of them.
            ScheduleEncodeError: one of them can't be serialized.
        """
        added: dict[str, ScheduledTask] = {}
        for schedule in schedules:
            check_schedule(schedule)
            # As a source on Redis would return it.
            data = encode_schedule(self._serializer, schedule)
            added[schedule.schedule_id] = decode_schedule(
                self._serializer, schedule.schedule_id, data, None
            )
        with self._lock:
            for schedule_id in added:
                self._paused.discard(schedule_id)
                self._fired.pop(schedule_id, None)
            self._schedules.update(added)

    def delete(self, schedule_id: str) -> bool:
        """Delete a schedule, and return whether there was one.

        Args:
            schedule_id: ID of the schedule.
        """
        with self._lock:
            self._paused.discard(schedule_id)
            self._fired.pop(schedule_id, None)
            return self._schedules.pop(schedule_id, None) is not None

    def pause(self, schedule_id: str) -> bool:
        """Pause a schedule, and return whether there is one.

        Args:
            schedule_id: ID of the schedule.
        """
        with self._lock:
            if schedule_id not in self._schedules:
                return False
            self._paused.add(schedule_id)
            return True

    def resume(self, schedule_id: str) -> bool:
        """Resume a schedule, and return whether it was paused.

        Args:
            schedule_id: ID of the schedule.
        """
        with self._lock:
            was_paused = schedule_id in self._paused
            self._paused.discard(schedule_id)
            return was_paused

    def clear(self, confirmed: bool) -> int:
        """Delete all schedules, and return their number.

        Args:
            confirmed: the argument `all` of the caller, which has to be True.

        Raises:
            InvalidOptionError: it isn't.
        """
        if not confirmed:
            raise InvalidOptionError(
                option="all",
                problem="it is unclear which schedules to delete",
                advice="Give `all=True` to delete all of them, or call `delete_schedule`.",
            )
        with self._lock:
            number = len(self._schedules)
            self._schedules.clear()
            self._paused.clear()
            self._fired.clear()
            return number

    def get(self, schedule_id: str) -> ScheduledTask | None:
        """Return a schedule, or None.

        Args:
            schedule_id: ID of the schedule.
        """
        with self._lock:
            schedule = self._schedules.get(schedule_id)
        return None if schedule is None else schedule.model_copy(deep=True)

    def all(self) -> list[ScheduledTask]:
        """Return all schedules."""
        with self._lock:
            return [schedule.model_copy(deep=True) for schedule in self._schedules.values()]

    def active(self) -> list[ScheduledTask]:
        """Return the schedules that aren't paused."""
        return [schedule for schedule in self.all() if schedule.schedule_id not in self._paused]

    def __len__(self) -> int:
        return len(self._schedules)

    def next_run(self, schedule: ScheduledTask) -> datetime | None:
        """Return when a schedule is due next, in UTC; None if it is paused, deleted or never due.

        Args:
            schedule: the schedule.
        """
        with self._lock:
            known = self._schedules.get(schedule.schedule_id)
            if known is None or schedule.schedule_id in self._paused:
                return None
            last = self._fired.get(schedule.schedule_id)
        kind = kind_of(known)
        if kind == "once":
            return from_ms(due_ms(known))
        now = datetime.now(timezone.utc)
        if kind == "interval":
            return now if last is None else last + timedelta(milliseconds=interval_ms(known))
        before = now - timedelta(minutes=1)
        return next_cron(known, before if last is None else max(last, before))

    def before_send(self, task: ScheduledTask) -> None:
        """Check that a schedule may be sent.

        Args:
            task: the schedule. Its name, arguments and labels become those that are stored now.

        Raises:
            ScheduledTaskCancelledError: it was deleted or paused.
        """
        with self._lock:
            stored = self._schedules.get(task.schedule_id)
            if stored is None or task.schedule_id in self._paused:
                raise ScheduledTaskCancelledError
        for field in ("task_name", "labels", "args", "kwargs", "task_id"):
            setattr(task, field, getattr(stored, field))

    def after_send(self, task: ScheduledTask) -> None:
        """Record that a schedule was sent; delete a one-off, unless it was replaced meanwhile.

        Args:
            task: the schedule.
        """
        with self._lock:
            stored = self._schedules.get(task.schedule_id)
            if stored is None:
                return
            if kind_of(task) == "once" and due_ms(stored) == due_ms(task):
                self.delete(task.schedule_id)
            else:
                self._fired[task.schedule_id] = datetime.now(timezone.utc)
