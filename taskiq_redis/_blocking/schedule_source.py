"""What a blocking schedule source is."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

from taskiq.scheduler.scheduled_task import ScheduledTask

if TYPE_CHECKING:
    from typing_extensions import Self


class SyncScheduleSource(ABC):
    """The blocking counterpart of taskiq's ``ScheduleSource``."""

    def startup(self) -> None:
        """Prepare for use."""

    def shutdown(self) -> None:
        """Release what is held."""

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
        """Read the schedules that a scheduler has to know of now."""

    def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule.

        Args:
            schedule: what to add.

        Raises:
            NotImplementedError: the source can't be written to.
        """
        raise NotImplementedError(f"{type(self).__name__} can't add schedules.")

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule.

        Args:
            schedule_id: its id.

        Raises:
            NotImplementedError: the source can't be written to.
        """
        raise NotImplementedError(f"{type(self).__name__} can't delete schedules.")

    def pre_send(self, task: ScheduledTask) -> None:
        """Prepare for sending a task; may raise taskiq's ``ScheduledTaskCancelledError``.

        Args:
            task: its schedule.
        """

    def post_send(self, task: ScheduledTask) -> None:
        """Note that a task was sent.

        Args:
            task: its schedule.
        """
