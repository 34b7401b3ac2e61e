"""Schedules, and helpers for the tests of schedule sources."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from tests._aio import sleep

BOTH = pytest.mark.parametrize("mechanism", ["keys", "indexed"])
NOW = datetime.now(timezone.utc)
PAST = NOW - timedelta(hours=3)
FUTURE = NOW + timedelta(days=400)


def soon() -> datetime:
    """Return a time near enough that a source has to return the schedule."""
    return datetime.now(timezone.utc) + timedelta(seconds=30)


async def until_minute_has_time_left() -> None:
    """Wait for the next minute if this one ends soon, in which a cron would fire again."""
    seconds_left = 60 - datetime.now(timezone.utc).second
    if seconds_left <= 5:
        await sleep(seconds_left)


def schedule(schedule_id: str = "id", **when: Any) -> ScheduledTask:
    """Return a schedule, a cron unless `when` says otherwise."""
    return ScheduledTask(
        task_name="task",
        labels={},
        args=[1],
        kwargs={"k": [None]},
        schedule_id=schedule_id,
        **(when or {"cron": "* * * * *"}),
    )


def ids(schedules: list[ScheduledTask]) -> list[str]:
    """Return the ids of schedules, sorted."""
    return sorted(schedule.schedule_id for schedule in schedules)
