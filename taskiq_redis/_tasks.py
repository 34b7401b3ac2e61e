"""What the async brokers add to taskiq's own classes: sending a task later.

The blocking brokers have it in `_blocking`, with the rest of what taskiq lacks there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask
from taskiq.kicker import AsyncKicker

from taskiq_redis._core.delays import delay_labels, note_declared

if TYPE_CHECKING:
    from typing_extensions import Self

Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")


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


class DecoratedTask(AsyncTaskiqDecoratedTask[Params, ReturnType]):
    """A function that was declared to be a task of one of this package's brokers.

    Args:
        args: go to taskiq's task.
        kwargs: go to taskiq's task.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_declared(self.task_name, self.labels)

    def kicker(self) -> TaskKicker[Params, ReturnType]:
        """Return what sends the task, to change labels, ids, the broker or the time before."""
        kicker = super().kicker()
        return TaskKicker(kicker.task_name, kicker.broker, kicker.labels, kicker.return_type)


class TaskBroker(AsyncBroker):
    """A broker whose tasks can be sent later.

    Args:
        args: go to taskiq's broker.
        kwargs: go to taskiq's broker.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decorator_class = DecoratedTask

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
