"""A message that a queue holds, and the task in it."""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from taskiq import TaskiqMessage

from taskiq_redis._core.texts import describe_error
from taskiq_redis.exceptions import SignatureError

#: returns the task in a message, or raises an exception that says why there is none
Load = Callable[[], TaskiqMessage]


@dataclass(frozen=True, kw_only=True)
class QueuedTask:
    """A message that a queue holds.

    The task in it is read when one of its attributes is used: `task_id`, `task_name`, `labels`,
    `args` and `kwargs`. If it can't be read, `problem` says why, and these are empty.

    Args:
        queue_name: its queue.
        id: ID of its entry in a stream; '' for a list, and for a delayed message.
        data: the message as it was sent, without its signature if that is valid. None if the entry
            of a stream has no message.
        since: when it was added to the queue, by the server's clock; for a dead letter, when it
            became one. None if that isn't known: for a list, and for a delayed message.
        due: when a delayed message is added to its queue. None for others.
        deliveries: number of deliveries to workers; for a waiting message and a dead letter, those
            that have failed.
        owner: consumer name of the worker that holds it; None if none does.
        load: returns the task in the message, or raises an exception. Default: there is no task.
    """

    queue_name: str
    id: str
    data: bytes | None = field(repr=False)
    since: datetime | None = None
    due: datetime | None = None
    deliveries: int = 0
    owner: str | None = None
    load: InitVar[Load | None] = None

    def __post_init__(self, load: Load | None) -> None:
        """Keep the function that reads the task."""
        object.__setattr__(self, "_load", load)

    @cached_property
    def _read(self) -> tuple[TaskiqMessage | None, str | None]:
        """The task, or why there is none."""
        load: Load | None = vars(self)["_load"]
        if load is None:
            return None, "there is no message"
        try:
            task = load()
            task.parse_labels()
            # A formatter may return anything.
            return TaskiqMessage(
                task_id=task.task_id,
                task_name=task.task_name,
                labels=dict(task.labels),
                args=list(task.args),
                kwargs=dict(task.kwargs),
            ), None
        except SignatureError as error:
            return None, error.problem
        except Exception as error:  # noqa: BLE001 - a formatter may raise anything
            return None, describe_error(error)

    @property
    def problem(self) -> str | None:
        """Why there is no task in the message, without the values in it; None if there is one."""
        return self._read[1]

    @property
    def task_id(self) -> str | None:
        """The ID of the task; None if there is none."""
        task = self._read[0]
        return task.task_id if task else None

    @property
    def task_name(self) -> str | None:
        """The name of the task; None if there is none."""
        task = self._read[0]
        return task.task_name if task else None

    @property
    def labels(self) -> dict[str, Any]:
        """The labels of the task."""
        task = self._read[0]
        return task.labels if task else {}

    @property
    def args(self) -> list[Any]:
        """The positional arguments of the task."""
        task = self._read[0]
        return task.args if task else []

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments of the task."""
        task = self._read[0]
        return task.kwargs if task else {}
