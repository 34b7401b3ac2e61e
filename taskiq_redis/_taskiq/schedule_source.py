"""Blocking schedule sources."""

from abc import ABC, abstractmethod

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._taskiq.misuse import Blocking


class SyncScheduleSource(Blocking, ABC):
    """The blocking counterpart of taskiq's ``ScheduleSource``."""

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
