"""Decorated tasks: functions that were declared as tasks of a broker."""

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from types import CoroutineType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from taskiq import AsyncTaskiqDecoratedTask, AsyncTaskiqTask
from taskiq.scheduler.scheduled_task import CronSpec

from taskiq_redis._core.calls import Call
from taskiq_redis._core.delays import record_declared_delay
from taskiq_redis._core.labels import make_queue_plain
from taskiq_redis._taskiq.async_kicker import TaskKicker
from taskiq_redis._taskiq.kicker import SyncCreatedSchedule, SyncKicker
from taskiq_redis._taskiq.protocols import SyncSender
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis._taskiq.task import SyncTaskiqTask

T = TypeVar("T")
Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class DecoratedTask(AsyncTaskiqDecoratedTask[Params, ReturnType]):
    """A task of an async broker of this package.

    Args:
        args: positional arguments of taskiq's task.
        kwargs: keyword arguments of taskiq's task.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # taskiq's scheduler sends the labels as they are.
        make_queue_plain(self.labels)
        record_declared_delay(self.task_name, self.labels)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: positional arguments of the task.
            kwargs: keyword arguments of the task.
        """
        return Call(*args, **kwargs)

    @overload
    async def kiq_many(
        self: "DecoratedTask[Params, CoroutineType[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[T]]: ...

    @overload
    async def kiq_many(
        self: "DecoratedTask[Params, Coroutine[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[T]]: ...

    @overload
    async def kiq_many(
        self: "DecoratedTask[Params, ReturnType]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[ReturnType]]: ...

    async def kiq_many(self, calls: Iterable[Call[Params]]) -> Any:
        """Send the task many times, in as few round trips as possible.

        Args:
            calls: results of `call`, one for each time.

        Raises:
            SendTaskError: the broker can't send all of them; see the cause.
        """
        return await self.kicker().kiq_many(calls)

    def kicker(self) -> TaskKicker[Params, ReturnType]:
        """Return a kicker, to change labels, ids, the broker or the delay before sending."""
        return TaskKicker(self.task_name, self.broker, self.labels.copy(), self.return_type)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_name})"


class SyncTaskiqDecoratedTask(Generic[Params, ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncTaskiqDecoratedTask``.

    Calling it calls the function.

    Args:
        broker: blocking broker that sends it.
        task_name: name of the task, by which workers find it.
        original_func: the function.
        labels: labels of the task.
        return_type: type to parse its return value into; None leaves the value as it is.
    """

    def __init__(
        self,
        broker: SyncSender,
        task_name: str,
        original_func: Callable[Params, ReturnType],
        labels: dict[str, Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.broker: SyncSender = broker
        self.task_name: str = task_name
        self.original_func: Callable[Params, ReturnType] = original_func
        self.labels: dict[str, Any] = labels
        self.return_type: type[ReturnType] | None = return_type
        make_queue_plain(labels)
        record_declared_delay(task_name, labels)

    # Without a docstring, so that editors show the docstring of the function.
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
            args: positional arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            SendTaskError: the broker can't send it; see the cause.
        """
        return self.kicker().kiq(*args, **kwargs)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: positional arguments of the task.
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
            calls: results of `call`, one for each time.

        Raises:
            SendTaskError: the broker can't send all of them; see the cause.
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
        """Return a kicker, to change labels, ids, the broker or the delay before sending."""
        return SyncKicker(self.task_name, self.broker, self.labels.copy(), self.return_type)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_name})"
