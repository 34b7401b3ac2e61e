"""Errors of sending a task with the reason in their text, which taskiq has in the cause only."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from taskiq import AsyncBroker, TaskiqMessage
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker

from taskiq_redis._core.arguments import find_failing, named_arguments
from taskiq_redis._core.return_values import reason_of
from taskiq_redis._taskiq.protocols import SyncSender
from taskiq_redis.exceptions import ArgumentEncodeError, TaskIQRedisError, TaskNotSentError


class TaskRaised(Exception):  # noqa: N818 - it isn't an error of its own
    """A broker that runs tasks in place was asked to raise what a task raised.

    Args:
        task_name: name of the task.
        error: what it raised.
    """

    def __init__(self, task_name: str, error: BaseException) -> None:
        super().__init__(f"The task {task_name!r} raised {type(error).__name__}.")
        self.error = error

    def reraise(self) -> NoReturn:
        """Raise the error as the task raised it, with its own cause and context."""
        context = self.error.__context__
        try:
            raise self.error
        finally:
            self.error.__context__ = context


def send_error(
    broker: AsyncBroker | SyncSender,
    task_name: str,
    calls: Iterable[tuple[Iterable[Any], Mapping[str, Any]]],
    error: Exception,
) -> SendTaskError:
    """Return the error to raise for a task that could not be sent, or not be serialized.

    Args:
        broker: broker of the task.
        task_name: name of the task.
        calls: positional and keyword arguments of each call.
        error: why it could not be sent.
    """
    if isinstance(error, TaskRaised):
        error.reraise()
    if not isinstance(error, TaskIQRedisError):
        # This takes a while, but only after an error that is none of Redis.
        for args, kwargs in calls:
            found = argument_error(broker, task_name, args, kwargs)
            if found is not None:
                return found
    return TaskNotSentError(reason=reason_of(error))


def argument_error(
    broker: AsyncBroker | SyncSender, task_name: str, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> ArgumentEncodeError | None:
    """Return an error that names the argument that can't be serialized; None if each one can be.

    Args:
        broker: broker of the task.
        task_name: name of the task.
        args: positional arguments.
        kwargs: keyword arguments.
    """
    known = broker.find_task(task_name)
    arguments = named_arguments(known and known.original_func, args, kwargs)

    def probe(value: Any) -> None:
        broker.formatter.dumps(
            TaskiqMessage(
                task_id="", task_name=task_name, labels={}, args=[_prepared(value)], kwargs={}
            )
        )

    failing = find_failing(arguments, probe)
    if failing is None:
        return None
    return ArgumentEncodeError(task_name=task_name, argument=failing[0], reason=failing[1])


def _prepared(value: Any) -> Any:
    return AsyncKicker._prepare_arg(value)
