"""The blocking kicker: it sends a task, once or many times, with a delay or on a schedule."""

from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from taskiq import AsyncBroker, TaskiqMessage
from taskiq.kicker import AsyncKicker
from taskiq.scheduler.scheduled_task import CronSpec, ScheduledTask

from taskiq_redis._core.calls import Call, check_ids
from taskiq_redis._core.delays import delay_labels
from taskiq_redis._core.labels import make_queue_plain
from taskiq_redis._taskiq.errors import argument_error, send_error
from taskiq_redis._taskiq.hooks import HookContext, loop_of, overriding
from taskiq_redis._taskiq.protocols import SyncSender
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis._taskiq.task import SyncTaskiqTask

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class SyncKicker(Generic[Params, ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncKicker``; use it in one thread, for one task.

    Args:
        task_name: name of the task.
        broker: blocking broker to send it with.
        labels: labels of the task; `with_labels` changes them.
        return_type: type to parse its return value into; None leaves the value as it is.
    """

    def __init__(
        self,
        task_name: str,
        broker: SyncSender,
        labels: dict[str, Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.task_name: str = task_name
        self.broker: SyncSender = broker
        self.labels: dict[str, Any] = labels
        self.custom_task_id: str | None = None
        self.custom_schedule_id: str | None = None
        self.return_type: type[ReturnType] | None = return_type

    def with_labels(self, **labels: str | float) -> "Self":
        """Set labels.

        Args:
            labels: labels to add or replace.
        """
        self.labels.update(labels)
        make_queue_plain(self.labels)
        return self

    def with_delay(self, seconds: float) -> "Self":
        """Delay the task: send it now, and queue it later. Pub/sub brokers can't.

        Args:
            seconds: time that it waits in Redis (ZADD), by the server's clock.

        Raises:
            InvalidOptionError: the delay isn't a number, or is negative.
        """
        self.labels.update(delay_labels(seconds))
        return self

    def with_task_id(self, task_id: str | None) -> "Self":
        """Set the id of the task.

        Args:
            task_id: a unique id; None lets the broker generate one.
        """
        self.custom_task_id = task_id
        return self

    def with_schedule_id(self, schedule_id: str) -> "Self":
        """Set the id of the schedule.

        Args:
            schedule_id: id of the schedule; replaces a schedule that has it.
        """
        self.custom_schedule_id = schedule_id
        return self

    def with_broker(self, broker: SyncSender) -> "Self":
        """Set the broker.

        Args:
            broker: blocking broker to send the task with.

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
            args: positional arguments of the task.
            kwargs: keyword arguments of the task.

        Raises:
            SendTaskError: the broker can't send it; see the cause.
        """
        broker = self.broker
        message = self._prepare_message(*args, **kwargs)
        context = HookContext() if broker.middlewares else None
        if context is not None:
            message = self._pre_send(context, message)
        try:
            if context is None:
                broker.kick(broker.formatter.dumps(message))
            else:
                context.call(lambda: broker.kick(broker.formatter.dumps(message)))
        except Exception as error:
            sent = [(message.args, message.kwargs)]
            raise send_error(broker, self.task_name, sent, error) from error
        if context is not None:
            self._post_send(context, message)
        task = SyncTaskiqTask(message.task_id, broker.result_backend, self.return_type)
        task._broker, task._queue_name = broker, message.labels.get("queue_name")
        return task

    def _pre_send(self, context: HookContext, message: TaskiqMessage) -> TaskiqMessage:
        for middleware in overriding(self.broker.middlewares, "pre_send"):
            message = context.run(middleware.pre_send, message, loop=loop_of(middleware))
        return message

    def _post_send(self, context: HookContext, message: TaskiqMessage) -> None:
        for middleware in reversed(overriding(self.broker.middlewares, "post_send")):
            context.run(middleware.post_send, message, loop=loop_of(middleware))

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: positional arguments of the task.
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

        The hooks of each call have a context of their own. If `pre_send` raises for a call, those
        before it are sent, as in a loop of `kiq`, and then the exception is raised.

        Args:
            calls: results of `call`, one for each time.

        Raises:
            SendTaskError: the broker can't send all of them; see the cause.
        """
        broker = self.broker
        messages = [self._prepare_message(*call.args, **call.kwargs) for call in calls]
        check_ids(self.custom_task_id, len(messages))
        contexts: list[HookContext] = []
        failure: Exception | None = None
        if broker.middlewares:
            messages, failure = self._pre_send_many(contexts, messages)
        dumps = broker.formatter.dumps
        try:
            broker.kick_many(
                [
                    context.call(dumps, message)
                    for context, message in zip(contexts, messages, strict=True)
                ]
                if broker.middlewares
                else [dumps(message) for message in messages]
            )
        except Exception as error:
            sent = [(message.args, message.kwargs) for message in messages]
            raise send_error(broker, self.task_name, sent, error) from error
        for context, message in reversed(list(zip(contexts, messages, strict=False))):
            try:
                self._post_send(context, message)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            raise failure
        tasks: list[SyncTaskiqTask[Any]] = []
        for message in messages:
            task = SyncTaskiqTask[Any](message.task_id, broker.result_backend, self.return_type)
            task._broker, task._queue_name = broker, message.labels.get("queue_name")
            tasks.append(task)
        return tasks

    def _pre_send_many(
        self, contexts: list[HookContext], messages: list[TaskiqMessage]
    ) -> tuple[list[TaskiqMessage], Exception | None]:
        """Run the hooks of each message in a new context; end at the first exception."""
        prepared: list[TaskiqMessage] = []
        for message in messages:
            context = HookContext()
            try:
                prepared.append(self._pre_send(context, message))
            except Exception as error:  # noqa: BLE001 - the caller raises it
                return prepared, error
            contexts.append(context)
        return prepared, None

    def schedule_by_cron(
        self,
        source: SyncScheduleSource,
        cron: str | CronSpec,
        *args: Params.args,
        **kwargs: Params.kwargs,
    ) -> "SyncCreatedSchedule[ReturnType]":
        """Schedule the task by a cron expression.

        Args:
            source: blocking schedule source that keeps the schedule.
            cron: such as ``*/5 * * * *``; in UTC, unless a `CronSpec` has an offset.
            args: positional arguments of the task.
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
    ) -> "SyncCreatedSchedule[ReturnType]":
        """Schedule the task at an interval.

        Args:
            source: blocking schedule source that keeps the schedule.
            interval: whole seconds, or a timedelta of whole seconds.
            args: positional arguments of the task.
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
    ) -> "SyncCreatedSchedule[ReturnType]":
        """Schedule the task once.

        Args:
            source: blocking schedule source that keeps the schedule.
            time: time to send the task at; UTC if it has no zone.
            args: positional arguments of the task.
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
    ) -> "SyncCreatedSchedule[ReturnType]":
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
        """Return the message of taskiq's kicker, which uses only the id generator of the broker."""
        broker: Any = self.broker
        kicker: AsyncKicker[Any, Any] = AsyncKicker(self.task_name, broker, self.labels)
        kicker.with_task_id(self.custom_task_id)
        try:
            return kicker._prepare_message(*args, **kwargs)
        except Exception as error:
            named = argument_error(self.broker, self.task_name, args, kwargs)
            if named is None:
                raise
            raise named from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_name})"


class SyncCreatedSchedule(Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``CreatedSchedule``.

    Args:
        kicker: kicker that created the schedule.
        source: schedule source that keeps it.
        task: the schedule.
    """

    def __init__(
        self,
        kicker: SyncKicker[Any, ReturnType],
        source: SyncScheduleSource,
        task: ScheduledTask,
    ) -> None:
        self.kicker: SyncKicker[Any, ReturnType] = kicker
        self.source: SyncScheduleSource = source
        self.task: ScheduledTask = task
        self.schedule_id: str = task.schedule_id

    @overload
    def kiq(self: "SyncCreatedSchedule[CoroutineType[Any, Any, T]]") -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(self: "SyncCreatedSchedule[Coroutine[Any, Any, T]]") -> SyncTaskiqTask[T]: ...

    @overload
    def kiq(self: "SyncCreatedSchedule[ReturnType]") -> SyncTaskiqTask[ReturnType]: ...

    def kiq(self) -> Any:
        """Send the task now, in addition to its schedule."""
        return self.kicker.kiq(*self.task.args, **self.task.kwargs)

    def unschedule(self) -> None:
        """Delete the schedule from its source."""
        self.source.delete_schedule(self.schedule_id)

    def __repr__(self) -> str:
        kept = self.task.model_dump(include={"cron", "cron_offset", "interval", "time"})
        when = ", ".join(f"{name}={value}" for name, value in kept.items() if value is not None)
        return f"{type(self).__name__}({self.schedule_id}, {self.task.task_name}, {when})"
