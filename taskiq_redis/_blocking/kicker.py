"""Sends one task, or schedules it."""

from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from taskiq import AsyncBroker, TaskiqMessage
from taskiq.abc.middleware import TaskiqMiddleware
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.scheduler.scheduled_task import CronSpec, ScheduledTask

from taskiq_redis._blocking.created_schedule import SyncCreatedSchedule
from taskiq_redis._blocking.portal import resolve
from taskiq_redis._blocking.schedule_source import SyncScheduleSource
from taskiq_redis._blocking.task import SyncTaskiqTask
from taskiq_redis._core.calls import Call, check_ids
from taskiq_redis._core.delays import delay_labels

if TYPE_CHECKING:
    from typing_extensions import Self

    from taskiq_redis._blocking.broker import SyncBroker

T = TypeVar("T")
Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class SyncKicker(Generic[Params, ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncKicker``; for one thread, and one task.

    Args:
        task_name: name of the task.
        broker: what to send it with.
        labels: its labels; they are changed by `with_labels`.
        return_type: what its return value is parsed into.
    """

    def __init__(
        self,
        task_name: str,
        broker: "SyncBroker",
        labels: dict[str, Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.task_name = task_name
        self.broker = broker
        self.labels = labels
        self.custom_task_id: str | None = None
        self.custom_schedule_id: str | None = None
        self.return_type = return_type

    def with_labels(self, **labels: str | float) -> "Self":
        """Set labels.

        Args:
            labels: added to those that the task has, or in place of them.
        """
        self.labels.update(labels)
        return self

    def with_delay(self, seconds: float) -> "Self":
        """Send the task now, and let it come into its queue later; not by publishing.

        Args:
            seconds: for how long it waits in Redis (ZADD), by the server's clock.

        Raises:
            InvalidOptionError: it isn't a number, or negative.
        """
        self.labels.update(delay_labels(seconds))
        return self

    def with_task_id(self, task_id: str | None) -> "Self":
        """Choose the id of the task.

        Args:
            task_id: its id; None for one that the broker makes. It has to be unique.
        """
        self.custom_task_id = task_id
        return self

    def with_schedule_id(self, schedule_id: str) -> "Self":
        """Choose the id of the schedule.

        Args:
            schedule_id: its id. A schedule that has it already is replaced.
        """
        self.custom_schedule_id = schedule_id
        return self

    def with_broker(self, broker: "SyncBroker") -> "Self":
        """Choose the broker.

        Args:
            broker: what to send the task with.

        Raises:
            TypeError: the broker is an async one.
        """
        given: object = broker
        if isinstance(given, AsyncBroker):
            raise TypeError(
                f"{type(given).__name__} is an async broker. Give its twin: to_sync(broker)."
            )
        self.broker = broker
        return self

    @overload
    def kiq(
        self: "SyncKicker[Params, CoroutineType[Any, Any, T]]",
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(
        self: "SyncKicker[Params, Coroutine[Any, Any, T]]",
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(
        self: "SyncKicker[Params, ReturnType]", *args: Params.args, **kwargs: Params.kwargs
    ) -> SyncTaskiqTask[ReturnType]: ...

    def kiq(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task.

        Args:
            args: arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            SendTaskError: the broker couldn't send it; the cause says why.
        """
        message = self._prepare_message(*args, **kwargs)
        for middleware in self.broker.middlewares:
            if type(middleware).pre_send is not TaskiqMiddleware.pre_send:
                message = resolve(middleware.pre_send(message))
        try:
            self.broker.kick(self.broker.formatter.dumps(message))
        except Exception as error:
            raise SendTaskError from error
        for middleware in reversed(self.broker.middlewares):
            if type(middleware).post_send is not TaskiqMiddleware.post_send:
                resolve(middleware.post_send(message))
        return SyncTaskiqTask(message.task_id, self.broker.result_backend, self.return_type)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: arguments of the task.
            kwargs: keyword arguments of the task.
        """
        return Call(*args, **kwargs)

    @overload
    def kiq_many(
        self: "SyncKicker[Params, CoroutineType[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[SyncTaskiqTask[T]]: ...

    @overload
    def kiq_many(
        self: "SyncKicker[Params, Coroutine[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[SyncTaskiqTask[T]]: ...

    @overload
    def kiq_many(
        self: "SyncKicker[Params, ReturnType]", calls: Iterable[Call[Params]]
    ) -> list[SyncTaskiqTask[ReturnType]]: ...

    def kiq_many(self, calls: Iterable[Call[Params]]) -> Any:
        """Send the task many times, in as few round trips as possible.

        Args:
            calls: what `call` returned, one for each time.

        Raises:
            SendTaskError: the broker couldn't send all of them; the cause says why.
        """
        broker = self.broker
        messages = [self._prepare_message(*call.args, **call.kwargs) for call in calls]
        check_ids(self.custom_task_id, len(messages))
        for middleware in broker.middlewares:
            if type(middleware).pre_send is not TaskiqMiddleware.pre_send:
                messages = [resolve(middleware.pre_send(message)) for message in messages]
        formatted = [broker.formatter.dumps(message) for message in messages]
        try:
            broker.kick_many(formatted)
        except Exception as error:
            raise SendTaskError from error
        for middleware in reversed(broker.middlewares):
            if type(middleware).post_send is not TaskiqMiddleware.post_send:
                for message in messages:
                    resolve(middleware.post_send(message))
        return [
            SyncTaskiqTask[Any](message.task_id, broker.result_backend, self.return_type)
            for message in messages
        ]

    def schedule_by_cron(
        self,
        source: SyncScheduleSource,
        cron: str | CronSpec,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task by a cron expression.

        Args:
            source: where to keep the schedule.
            cron: such as ``*/5 * * * *``; in UTC, unless a `CronSpec` has an offset.
            args: arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            TypeError: the source is an async one; nothing was scheduled.
        """
        offset = cron.offset if isinstance(cron, CronSpec) else None
        text = cron.to_cron() if isinstance(cron, CronSpec) else cron
        return self._schedule(source, args, kwargs, cron=text, cron_offset=offset)

    def schedule_by_interval(
        self,
        source: SyncScheduleSource,
        interval: int | timedelta,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task at an interval.

        Args:
            source: where to keep the schedule.
            interval: whole seconds, or a timedelta of whole seconds.
            args: arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            TypeError: the source is an async one; nothing was scheduled.
        """
        return self._schedule(source, args, kwargs, interval=interval)

    def schedule_by_time(
        self,
        source: SyncScheduleSource,
        time: datetime,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> SyncCreatedSchedule[ReturnType]:
        """Schedule the task once.

        Args:
            source: where to keep the schedule.
            time: when to send the task; without a zone it is UTC.
            args: arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            TypeError: the source is an async one; nothing was scheduled.
        """
        return self._schedule(source, args, kwargs, time=time)

    def _schedule(
        self,
        source: SyncScheduleSource,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        **when: Any,
    ) -> SyncCreatedSchedule[ReturnType]:
        if not isinstance(source, SyncScheduleSource):
            raise TypeError(
                f"{type(source).__name__} is not a blocking schedule source. "
                "Give a Sync... source, or the twin of yours: to_sync(source)."
            )
        schedule_id = self.custom_schedule_id
        if schedule_id is None:
            schedule_id = self.broker.id_generator()
        message = self._prepare_message(*args, **kwargs)
        scheduled = ScheduledTask(
            schedule_id=schedule_id,
            task_name=message.task_name,
            labels=message.labels,
            args=message.args,
            kwargs=message.kwargs,
            task_id=self.custom_task_id,
            **when,
        )
        source.add_schedule(scheduled)
        return SyncCreatedSchedule(self, source, scheduled)

    def _prepare_message(self, *args: Any, **kwargs: Any) -> TaskiqMessage:
        """Let taskiq make the message; of the broker, it needs the id generator only."""
        broker: Any = self.broker
        kicker: AsyncKicker[Any, Any] = AsyncKicker(self.task_name, broker, self.labels)
        kicker.with_task_id(self.custom_task_id)
        return kicker._prepare_message(*args, **kwargs)
