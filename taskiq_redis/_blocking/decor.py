"""A function that was declared to be a task."""

from collections.abc import Callable, Coroutine, Iterable
from copy import copy
from datetime import datetime, timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from taskiq.scheduler.scheduled_task import CronSpec

from taskiq_redis._blocking.created_schedule import SyncCreatedSchedule
from taskiq_redis._blocking.kicker import SyncKicker
from taskiq_redis._blocking.schedule_source import SyncScheduleSource
from taskiq_redis._blocking.task import SyncTaskiqTask
from taskiq_redis._core.calls import Call
from taskiq_redis._core.delays import note_declared

if TYPE_CHECKING:
    from taskiq_redis._blocking.broker import SyncBroker

T = TypeVar("T")
Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class SyncTaskiqDecoratedTask(Generic[Params, ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncTaskiqDecoratedTask``.

    It can be called as the function that it was made of.

    Args:
        broker: what sends it.
        task_name: its name, which the workers know it by.
        original_func: the function.
        labels: its labels.
        return_type: what its return value is parsed into.
    """

    def __init__(
        self,
        broker: "SyncBroker",
        task_name: str,
        original_func: Callable[Params, ReturnType],
        labels: dict[str, Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.broker = broker
        self.task_name = task_name
        self.original_func = original_func
        self.labels = labels
        self.return_type = return_type
        note_declared(task_name, labels)

    # No docstring, so that editors show the one of the function.
    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> ReturnType:
        return self.original_func(*args, **kwargs)

    @overload
    def kiq(
        self: "SyncTaskiqDecoratedTask[Params, CoroutineType[Any, Any, T]]",
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(
        self: "SyncTaskiqDecoratedTask[Params, Coroutine[Any, Any, T]]",
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(
        self: "SyncTaskiqDecoratedTask[Params, ReturnType]",
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncTaskiqTask[ReturnType]: ...

    def kiq(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task.

        Args:
            args: arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            SendTaskError: the broker couldn't send it; the cause says why.
        """
        return self.kicker().kiq(*args, **kwargs)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: arguments of the task.
            kwargs: keyword arguments of the task.
        """
        return Call(*args, **kwargs)

    @overload
    def kiq_many(
        self: "SyncTaskiqDecoratedTask[Params, CoroutineType[Any, Any, T]]",
        calls: Iterable[Call[Params]],
    ) -> list[SyncTaskiqTask[T]]: ...

    @overload
    def kiq_many(
        self: "SyncTaskiqDecoratedTask[Params, Coroutine[Any, Any, T]]",
        calls: Iterable[Call[Params]],
    ) -> list[SyncTaskiqTask[T]]: ...

    @overload
    def kiq_many(
        self: "SyncTaskiqDecoratedTask[Params, ReturnType]", calls: Iterable[Call[Params]]
    ) -> list[SyncTaskiqTask[ReturnType]]: ...

    def kiq_many(self, calls: Iterable[Call[Params]]) -> Any:
        """Send the task many times, in as few round trips as possible.

        Args:
            calls: what `call` returned, one for each time.

        Raises:
            SendTaskError: the broker couldn't send all of them; the cause says why.
        """
        return self.kicker().kiq_many(calls)

    def schedule_by_cron(
        self,
        source: SyncScheduleSource,
        cron: str | CronSpec,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task by a cron expression; see `SyncKicker.schedule_by_cron`."""
        return self.kicker().schedule_by_cron(source, cron, *args, **kwargs)

    def schedule_by_interval(
        self,
        source: SyncScheduleSource,
        interval: int | timedelta,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task at an interval; see `SyncKicker.schedule_by_interval`."""
        return self.kicker().schedule_by_interval(source, interval, *args, **kwargs)

    def schedule_by_time(
        self,
        source: SyncScheduleSource,
        time: datetime,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task once; see `SyncKicker.schedule_by_time`."""
        return self.kicker().schedule_by_time(source, time, *args, **kwargs)

    def kicker(self) -> SyncKicker[Params, ReturnType]:
        """Return what sends the task, to change labels, ids or the broker before."""
        return SyncKicker(self.task_name, self.broker, copy(self.labels), self.return_type)

    def __repr__(self) -> str:
        return f"SyncTaskiqDecoratedTask({self.task_name})"
