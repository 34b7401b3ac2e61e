"""The async kicker: it sends a task once or many times, with or without a delay."""

from collections.abc import Coroutine, Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from taskiq import AsyncBroker, AsyncTaskiqTask, BrokerMessage, TaskiqMessage
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker

from taskiq_redis._core.calls import Call, check_ids
from taskiq_redis._core.delays import delay_labels
from taskiq_redis._core.labels import make_queue_plain
from taskiq_redis._taskiq.errors import argument_error, send_error
from taskiq_redis._taskiq.hooks import HookContext, overriding, record_hooks_loop
from taskiq_redis._taskiq.misuse import refuse_blocking
from taskiq_redis._taskiq.task import SentTask

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class TaskKicker(AsyncKicker[Params, ReturnType]):
    """A kicker that can also delay a task, and send it many times at once."""

    if TYPE_CHECKING:
        # They return the kicker as AsyncKicker, which has no `with_delay`.
        def with_task_id(self, task_id: str | None) -> Self: ...
        def with_schedule_id(self, schedule_id: str) -> Self: ...

    def with_broker(self, broker: AsyncBroker) -> "Self":
        """Set the broker.

        Args:
            broker: async broker to send the task with.

        Raises:
            TypeError: the broker is a blocking one.
        """
        refuse_blocking(broker, "broker")
        self.broker = broker
        return self

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

    # Its type is that of the overloads of AsyncKicker.
    if not TYPE_CHECKING:

        async def kiq(self, *args: Any, **kwargs: Any) -> Any:
            """Send the task.

            Args:
                args: positional arguments of the task.
                kwargs: keyword arguments of the task.

            Raises:
                SendTaskError: the broker can't send it; see the cause.
            """
            if self.broker.middlewares:
                record_hooks_loop(self.broker)
            try:
                sent = await super().kiq(*args, **kwargs)
            except SendTaskError as error:
                cause = error.__cause__
                if not isinstance(cause, Exception):
                    raise
                raise send_error(self.broker, self.task_name, [(args, kwargs)], cause) from cause
            task: SentTask[Any] = SentTask(sent.task_id, sent.result_backend, sent.return_type)
            task._broker, task._queue_name = self.broker, self.labels.get("queue_name")
            return task

        async def schedule_by_cron(self, source: Any, *args: Any, **kwargs: Any) -> Any:
            """Schedule the task by a cron expression; raise TypeError for a blocking source."""
            refuse_blocking(source, "schedule source")
            return await super().schedule_by_cron(source, *args, **kwargs)

        async def schedule_by_interval(self, source: Any, *args: Any, **kwargs: Any) -> Any:
            """Schedule the task at an interval; raise TypeError for a blocking source."""
            refuse_blocking(source, "schedule source")
            return await super().schedule_by_interval(source, *args, **kwargs)

        async def schedule_by_time(self, source: Any, *args: Any, **kwargs: Any) -> Any:
            """Schedule the task once; raise TypeError for a blocking source."""
            refuse_blocking(source, "schedule source")
            return await super().schedule_by_time(source, *args, **kwargs)

    def _prepare_message(self, *args: Any, **kwargs: Any) -> TaskiqMessage:
        """Return the message of one call."""
        try:
            return super()._prepare_message(*args, **kwargs)
        except Exception as error:
            named = argument_error(self.broker, self.task_name, args, kwargs)
            if named is None:
                raise
            raise named from error

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: positional arguments of the task.
            kwargs: keyword arguments of the task.
        """
        return Call(*args, **kwargs)

    @overload
    async def kiq_many(
        self: "TaskKicker[Params, CoroutineType[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[T]]: ...

    @overload
    async def kiq_many(
        self: "TaskKicker[Params, Coroutine[Any, Any, T]]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[T]]: ...

    @overload
    async def kiq_many(
        self: "TaskKicker[Params, ReturnType]", calls: Iterable[Call[Params]]
    ) -> list[AsyncTaskiqTask[ReturnType]]: ...

    async def kiq_many(self, calls: Iterable[Call[Params]]) -> Any:
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
            record_hooks_loop(broker)
            messages, failure = await self._pre_send_many(contexts, messages)
        dumps = broker.formatter.dumps
        try:
            await _kick_many(
                broker,
                [
                    context.call(dumps, message)
                    for context, message in zip(contexts, messages, strict=True)
                ]
                if broker.middlewares
                else [dumps(message) for message in messages],
            )
        except Exception as error:
            sent = [(message.args, message.kwargs) for message in messages]
            raise send_error(broker, self.task_name, sent, error) from error
        post_send = overriding(broker.middlewares, "post_send")[::-1]
        for context, message in reversed(list(zip(contexts, messages, strict=False))):
            try:
                for middleware in post_send:
                    await context.run_async(middleware.post_send, message)
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            raise failure
        tasks: list[SentTask[Any]] = []
        for message in messages:
            task = SentTask[Any](message.task_id, broker.result_backend, self.return_type)
            task._broker, task._queue_name = broker, message.labels.get("queue_name")
            tasks.append(task)
        return tasks

    async def _pre_send_many(
        self, contexts: list[HookContext], messages: list[TaskiqMessage]
    ) -> tuple[list[TaskiqMessage], Exception | None]:
        """Run the hooks of each message in a new context; end at the first exception."""
        pre_send = overriding(self.broker.middlewares, "pre_send")
        prepared: list[TaskiqMessage] = []
        for message in messages:
            context, changed = HookContext(), message
            try:
                for middleware in pre_send:
                    changed = await context.run_async(middleware.pre_send, changed)
            except Exception as error:  # noqa: BLE001 - the caller raises it
                return prepared, error
            prepared.append(changed)
            contexts.append(context)
        return prepared, None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_name})"


async def _kick_many(broker: AsyncBroker, messages: list[BrokerMessage]) -> None:
    kick_many = getattr(broker, "kick_many", None)
    if kick_many is not None:
        await kick_many(messages)
        return
    # taskiq's own brokers send one at a time.
    for message in messages:
        await broker.kick(message)
