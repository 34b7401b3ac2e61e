"""The base class of async brokers, whose tasks can be delayed or sent many at a time."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, BrokerMessage
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.shared_broker import SharedDecoratedTask
from taskiq.kicker import AsyncKicker

from taskiq_redis._core.delays import declarations
from taskiq_redis._core.task_status import TaskStatus
from taskiq_redis._taskiq.async_kicker import TaskKicker
from taskiq_redis._taskiq.backend_status import backend_status
from taskiq_redis._taskiq.decorated_task import DecoratedTask
from taskiq_redis._taskiq.hooks import record_hooks_loop
from taskiq_redis._taskiq.misuse import refuse_blocking
from taskiq_redis._taskiq.sharing import own_task

if TYPE_CHECKING:
    from typing_extensions import Self

Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


class TaskBroker(AsyncBroker):
    """A broker whose tasks can be delayed, and sent many at a time.

    Args:
        args: positional arguments of taskiq's broker.
        kwargs: keyword arguments of taskiq's broker.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_blocking(self.result_backend, "result backend")
        self.decorator_class = DecoratedTask

    async def startup(self) -> None:
        """Run the startup hooks of events, middlewares and the result backend.

        Raises:
            TypeError: the result backend is a blocking one.
        """
        refuse_blocking(self.result_backend, "result backend")
        record_hooks_loop(self)
        await super().startup()

    def with_result_backend(self, result_backend: AsyncResultBackend[Any]) -> "Self":
        """Set the result backend, and return the broker.

        Args:
            result_backend: async result backend.

        Raises:
            TypeError: the result backend is a blocking one.
        """
        refuse_blocking(result_backend, "result backend")
        return super().with_result_backend(result_backend)

    async def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as possible.

        Args:
            messages: formatted messages.
        """
        for message in messages:
            await self.kick(message)

    async def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:  # noqa: ARG002
        """Return what the result backend knows about a task: its result, or its progress.

        Args:
            task_id: ID of the task.
            queue_name: its queue, which makes no difference here. Default this broker's.
        """
        return await backend_status(self.result_backend, task_id)

    def get_all_tasks(self) -> dict[str, AsyncTaskiqDecoratedTask[Any, Any]]:
        """Return all tasks that this broker can run, by name; its local tasks take precedence.

        Tasks of its blocking counterparts look like its own, so that a `LabelScheduleSource` reads
        their label ``schedule``.
        """
        return {
            name: own_task(task, self) or task for name, task in super().get_all_tasks().items()
        }

    @overload
    def task(
        self, task_name: Callable[Params, ReturnType], **labels: Any
    ) -> DecoratedTask[Params, ReturnType]: ...

    @overload
    def task(
        self, task_name: str | None = None, **labels: Any
    ) -> Callable[[Callable[Params, ReturnType]], DecoratedTask[Params, ReturnType]]: ...

    def task(self, task_name: Any = None, **labels: Any) -> Any:
        """Declare a function as a task; a decorator, with or without parentheses.

        Args:
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.
        """
        return super().task(task_name, **labels)

    def register_task(
        self, func: Callable[Params, ReturnType], task_name: str | None = None, **labels: Any
    ) -> DecoratedTask[Params, ReturnType]:
        """Declare a function as a task.

        Args:
            func: function of the task.
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.
        """
        # taskiq annotates its own class, but makes an object of `decorator_class`.
        declared: DecoratedTask[Params, ReturnType] = super().register_task(  # type: ignore[assignment]
            func, task_name, **labels
        )
        return declared


_kicker_of_taskiq = SharedDecoratedTask.kicker


def _shared_kicker(
    task: SharedDecoratedTask[Params, ReturnType],
) -> AsyncKicker[Params, ReturnType]:
    """Return a kicker of this package for tasks that a broker of this package sends."""
    broker = getattr(task.broker, "_default_broker", None)
    if isinstance(broker, TaskBroker):
        return TaskKicker(task.task_name, broker, copy(task.labels), task.return_type)
    return _kicker_of_taskiq(task)


# taskiq's shared tasks may be declared before this package is imported, so their class is changed.
SharedDecoratedTask.kicker = _shared_kicker  # type: ignore[method-assign, assignment]


def _shared_labels(task_name: str) -> Mapping[str, Any] | None:
    """Return the labels of a shared task, which no class of this package declares."""
    task = AsyncBroker.global_task_registry.get(task_name)
    return None if task is None else task.labels


declarations.append(_shared_labels)
