"""What the async brokers add to taskiq's own classes: sending tasks later, many, and being told.

The blocking brokers have it in `_blocking`, with the rest of what taskiq lacks there.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from copy import copy
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from taskiq import (
    AsyncBroker,
    AsyncTaskiqDecoratedTask,
    AsyncTaskiqTask,
    BrokerMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.utils import maybe_awaitable

from taskiq_redis._core.calls import Call, check_ids
from taskiq_redis._core.delays import delay_labels, note_declared
from taskiq_redis._core.return_values import as_taskiq_errors, parse_value

if TYPE_CHECKING:
    from typing_extensions import Self

Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")
T = TypeVar("T")


class SentTask(AsyncTaskiqTask[ReturnType]):
    """A task that was sent, whose sender is told when its result is there."""

    async def wait_result(
        self, check_interval: float = 0.2, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until the result is there, and read it.

        A backend on Redis is told when it is there; with another one, this looks again and again.

        Args:
            check_interval: s; how often to look. Default 0.2.
            timeout: s; how long to wait at most. Default -1: for ever.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            TaskiqResultTimeoutError: it isn't there in time.
            ResultIsReadyError: the backend can't tell whether it is there.
            ResultGetError: it can't be read.
        """
        wait = getattr(self.result_backend, "wait_result", None)
        if wait is None:
            return await super().wait_result(check_interval, timeout, with_logs)
        with as_taskiq_errors():
            result: TaskiqResult[ReturnType] = await wait(self.task_id, timeout, with_logs)
            parse_value(self.task_id, result, self.return_type)
        return result


class TaskKicker(AsyncKicker[Params, ReturnType]):
    """Sends a task, and can send it later."""

    if TYPE_CHECKING:
        # So that `with_delay` can come after them.
        def with_labels(self, **labels: str | float) -> Self: ...
        def with_task_id(self, task_id: str | None) -> Self: ...
        def with_schedule_id(self, schedule_id: str) -> Self: ...
        def with_broker(self, broker: AsyncBroker) -> Self: ...

    def with_delay(self, seconds: float) -> "Self":
        """Send the task now, and let it come into its queue later; not by publishing.

        Args:
            seconds: for how long it waits in Redis (ZADD), by the server's clock.

        Raises:
            InvalidOptionError: it isn't a number, or negative.
        """
        self.labels.update(delay_labels(seconds))
        return self

    # Typed by the overloads of the class above.
    if not TYPE_CHECKING:

        async def kiq(self, *args: Any, **kwargs: Any) -> Any:
            """Send the task.

            Args:
                args: arguments of the task.
                kwargs: keyword arguments of the task.

            Raises:
                SendTaskError: the broker couldn't send it; the cause says why.
            """
            sent = await super().kiq(*args, **kwargs)
            return SentTask(sent.task_id, sent.result_backend, sent.return_type)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: arguments of the task.
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
                messages = [
                    await maybe_awaitable(middleware.pre_send(message)) for message in messages
                ]
        formatted = [broker.formatter.dumps(message) for message in messages]
        try:
            await _kick_many(broker, formatted)
        except Exception as error:
            raise SendTaskError from error
        for middleware in reversed(broker.middlewares):
            if type(middleware).post_send is not TaskiqMiddleware.post_send:
                for message in messages:
                    await maybe_awaitable(middleware.post_send(message))
        return [
            SentTask[Any](message.task_id, broker.result_backend, self.return_type)
            for message in messages
        ]


async def _kick_many(broker: AsyncBroker, messages: list[BrokerMessage]) -> None:
    if isinstance(broker, TaskBroker):
        await broker.kick_many(messages)
        return
    for message in messages:
        await broker.kick(message)


class DecoratedTask(AsyncTaskiqDecoratedTask[Params, ReturnType]):
    """A function that was declared to be a task of one of this package's brokers.

    Args:
        args: go to taskiq's task.
        kwargs: go to taskiq's task.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_declared(self.task_name, self.labels)

    def call(self, *args: Params.args, **kwargs: Params.kwargs) -> Call[Params]:
        """Return the arguments of one call, for `kiq_many`.

        Args:
            args: arguments of the task.
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
            calls: what `call` returned, one for each time.

        Raises:
            SendTaskError: the broker couldn't send all of them; the cause says why.
        """
        return await self.kicker().kiq_many(calls)

    def kicker(self) -> TaskKicker[Params, ReturnType]:
        """Return what sends the task, to change labels, ids, the broker or the time before."""
        return TaskKicker(self.task_name, self.broker, copy(self.labels), self.return_type)


class TaskBroker(AsyncBroker):
    """A broker whose tasks can be sent later, and many at a time.

    Args:
        args: go to taskiq's broker.
        kwargs: go to taskiq's broker.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decorator_class = DecoratedTask

    async def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as the broker can.

        Args:
            messages: what taskiq's formatter made.
        """
        for message in messages:
            await self.kick(message)

    @overload
    def task(
        self, task_name: Callable[Params, ReturnType], **labels: Any
    ) -> DecoratedTask[Params, ReturnType]: ...

    @overload
    def task(
        self, task_name: str | None = None, **labels: Any
    ) -> Callable[[Callable[Params, ReturnType]], DecoratedTask[Params, ReturnType]]: ...

    def task(self, task_name: Any = None, **labels: Any) -> Any:
        """Declare a function to be a task; a decorator, with or without parentheses.

        Args:
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.
        """
        return super().task(task_name, **labels)

    def register_task(
        self, func: Callable[Params, ReturnType], task_name: str | None = None, **labels: Any
    ) -> DecoratedTask[Params, ReturnType]:
        """Declare a function to be a task.

        Args:
            func: the function.
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.
        """
        # Whatever `decorator_class` is, which taskiq's annotation doesn't know.
        declared: DecoratedTask[Params, ReturnType] = super().register_task(  # type: ignore[assignment]
            func, task_name, **labels
        )
        return declared
