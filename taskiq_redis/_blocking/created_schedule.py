"""A schedule that was added to a source."""

from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._blocking.schedule_source import SyncScheduleSource
from taskiq_redis._blocking.task import SyncTaskiqTask

if TYPE_CHECKING:
    from taskiq_redis._blocking.kicker import SyncKicker

T = TypeVar("T")
ReturnType = TypeVar("ReturnType")


class SyncCreatedSchedule(Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``CreatedSchedule``.

    Args:
        kicker: what made it.
        source: where it is kept.
        task: what is kept.
    """

    def __init__(
        self,
        kicker: "SyncKicker[Any, ReturnType]",
        source: SyncScheduleSource,
        task: ScheduledTask,
    ) -> None:
        self.kicker = kicker
        self.source = source
        self.task = task
        self.schedule_id = task.schedule_id

    @overload
    def kiq(self: "SyncCreatedSchedule[CoroutineType[Any, Any, T]]") -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(self: "SyncCreatedSchedule[Coroutine[Any, Any, T]]") -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(self: "SyncCreatedSchedule[ReturnType]") -> SyncTaskiqTask[ReturnType]: ...

    def kiq(self) -> Any:
        """Send the task now, besides."""
        return self.kicker.kiq(*self.task.args, **self.task.kwargs)

    def unschedule(self) -> None:
        """Delete the schedule from its source."""
        self.source.delete_schedule(self.schedule_id)

    def __str__(self) -> str:
        kept = self.task.model_dump(include={"cron", "cron_offset", "interval", "time"})
        when = ", ".join(f"{name}={value}" for name, value in kept.items() if value is not None)
        return f"SyncCreatedSchedule({self.schedule_id}, {self.task.task_name}, {when})"
