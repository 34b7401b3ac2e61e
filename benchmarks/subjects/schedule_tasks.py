"""The schedules that are measured."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from taskiq.scheduler.scheduled_task import ScheduledTask

#: s; pause between two one-offs that are added to a running scheduler
PAUSE = 1.37


def make(schedule_id: str, **when: Any) -> ScheduledTask:
    """Return a schedule of a task with some arguments."""
    return ScheduledTask(
        task_name="no_operation",
        labels={"colour": "blue"},
        args=[1, "two"],
        kwargs={"three": 4.5},
        schedule_id=schedule_id,
        **when,
    )


def once(schedule_id: str, time: datetime) -> ScheduledTask:
    """Return a one-off."""
    return make(schedule_id, time=time)


def _far(index: int, schedule_id: str) -> ScheduledTask:
    """Return a one-off that is due tomorrow or later, one each seven seconds."""
    return once(schedule_id, _tomorrow() + timedelta(seconds=7 * index))


def _one_minute(index: int, schedule_id: str) -> ScheduledTask:
    """Return a one-off that is due in the same minute as all others."""
    return once(schedule_id, _tomorrow() + timedelta(milliseconds=index % 60_000))


def _cron(index: int, schedule_id: str) -> ScheduledTask:
    """Return a cron."""
    return make(schedule_id, cron=f"{index % 60} {index // 60 % 24} * * *")


def _due(_: int, schedule_id: str) -> ScheduledTask:
    """Return a one-off that is due."""
    return once(schedule_id, datetime.now(timezone.utc) - timedelta(seconds=1))


def _tomorrow() -> datetime:
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


#: kinds of stored schedules; requests name them by their index
KINDS: tuple[Callable[[int, str], ScheduledTask], ...] = (_far, _one_minute, _cron, _due)


def stored(kind: int, number: int, name: str = "stored") -> list[ScheduledTask]:
    """Return schedules of a kind."""
    return [KINDS[kind](index, f"{name}-{index}") for index in range(number)]
