"""Calls of a task for `kiq_many`, which sends them together."""

from typing import Any, Generic, ParamSpec

from taskiq_redis.exceptions import InvalidOptionError

Params = ParamSpec("Params")


class Call(Generic[Params]):
    """The arguments of one call of a task, returned by the `call` method of the task.

    Args:
        args: arguments of the task.
        kwargs: keyword arguments of the task.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, *args: Params.args, **kwargs: Params.kwargs) -> None:
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs


def check_ids(task_id: str | None, number: int) -> None:
    """Check that several tasks don't get the same ID.

    Args:
        task_id: the ID set by `with_task_id`, or None.
        number: number of tasks.
    """
    if task_id is not None and number > 1:
        raise InvalidOptionError(
            option="task_id",
            problem=f"{number} tasks can't have the same ID",
            advice="Leave out `with_task_id`, or send them one by one.",
        )
