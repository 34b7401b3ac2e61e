"""Blocking schedule sources."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._taskiq.misuse import Blocking

if TYPE_CHECKING:
    from typing_extensions import Self


class SyncScheduleSource(Blocking, ABC):
    """The blocking counterpart of taskiq's ``ScheduleSource``."""

    def startup(self) -> None:
        """Connect; optional, for the first use connects too."""
        self._check_caller()

    def shutdown(self) -> None:
        """Release connections and other resources."""

    def __enter__(self) -> "Self":
        self.startup()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @abstractmethod
    def get_schedules(self) -> list[ScheduledTask]:
        """Return the schedules that a scheduler needs to know now."""

    def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule.

        Args:
            schedule: schedule to add.

        Raises:
            NotImplementedError: the source is read-only.
        """
        raise NotImplementedError(f"{type(self).__name__} can't add schedules.")

    def delete_schedule(self, schedule_id: str) -> bool | None:
        """Delete a schedule, and return whether there was one, if the source can tell.

        Args:
            schedule_id: id of the schedule.

        Raises:
            NotImplementedError: the source is read-only.
        """
        raise NotImplementedError(f"{type(self).__name__} can't delete schedules.")

    def pre_send(self, task: ScheduledTask) -> None:
        """Run before a scheduled task is sent.

        To keep it from being sent, raise taskiq's ``ScheduledTaskCancelledError``.

        Args:
            task: schedule of the task.
        """

    def post_send(self, task: ScheduledTask) -> None:
        """Run after a scheduled task was sent.

        Args:
            task: schedule of the task.
        """
