# Generated from tests/_async/migrations.py by scripts/unasync.py; edit that.

"""Sources and schedules for the tests of migration."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from tests._sync.schedules import FUTURE, PAST
from tests._sync.support import opened
from tests.servers import Topology

OLD_KINDS = pytest.mark.parametrize("old", ["keys", "indexed"])
DELETE_OR_KEEP = pytest.mark.parametrize("delete", [True, False], ids=["delete", "keep"])
ON_ONE = pytest.mark.parametrize("topology", ["single"], indirect=True)


def schedule(schedule_id: str = "id", **when: Any) -> ScheduledTask:
    """Return a schedule, a cron unless `when` says otherwise."""
    return ScheduledTask(
        task_name="task",
        labels={},
        args=[schedule_id],
        kwargs={},
        schedule_id=schedule_id,
        **(when or {"cron": "* * * * *"}),
    )


SCHEDULES = [
    schedule("cron"),
    schedule("interval", interval=5),
    schedule("past", time=PAST),
    schedule("paused", time=PAST),
    schedule("future", time=FUTURE),
]
ALL = sorted(task.schedule_id for task in SCHEDULES)


class Foreign(SyncScheduleSource):
    """A schedule source of another package.

    Args:
        schedules: what it returns.
        on_read: called at each read.
    """

    def __init__(
        self,
        schedules: list[ScheduledTask],
        on_read: Callable[[], None] | None = None,
    ) -> None:
        self.schedules = {task.schedule_id: task for task in schedules}
        self.calls: list[str] = []
        self._on_read = on_read

    def startup(self) -> None:
        self.calls.append("startup")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def get_schedules(self) -> list[ScheduledTask]:
        found = list(self.schedules.values())
        if self._on_read is not None:
            self._on_read()
        return found

    def delete_schedule(self, schedule_id: str) -> None:
        self.schedules.pop(schedule_id, None)


class AnotherForeign(Foreign):
    """A schedule source of a third package."""


def ids_in(source: Any) -> list[str]:
    """Return the IDs of all schedules of a source, sorted; fail if one is there twice."""
    schedules = source.get_all_schedules()
    assert source.count() == len(schedules)
    return sorted(task.schedule_id for task in schedules)


def read_ids(source: Any) -> list[str]:
    """Return the IDs of the schedules that a scheduler gets, sorted."""
    return sorted(task.schedule_id for task in source.get_schedules())


def migrate(
    topology: Topology, prefix: str, source: SyncScheduleSource, delete: bool = True
) -> None:
    """Start a new process that migrates from a source."""
    with opened(topology, "indexed", prefix=prefix) as target:
        target.with_migrate_from(source, delete_schedules=delete).startup()


def send_past(source: Any, sent: list[str]) -> None:
    """Send the one-off schedule that is due, as a scheduler does."""
    for task in source.get_schedules():
        if task.schedule_id == "past":
            with suppress(ScheduledTaskCancelledError):
                source.pre_send(task)
                sent.append(task.schedule_id)
                source.post_send(task)
