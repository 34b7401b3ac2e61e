"""Calls of a task that are sent together."""

from typing import Any, Generic, ParamSpec

from taskiq_redis.exceptions import InvalidOptionError

Params = ParamSpec("Params")


class Call(Generic[Params]):
    """The arguments of one call of a task, as the task's `call` makes it.

    Args:
        args: arguments of the task.
        kwargs: keyword arguments of the task.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, *args: Params.args, **kwargs: Params.kwargs) -> None:
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs


def check_ids(task_id: str | None, number: int) -> None:
    """Refuse to give several tasks the same id.

    Args:
        task_id: the id that was chosen, if one was.
        number: how many tasks there are.
    """
    if task_id is not None and number > 1:
        raise InvalidOptionError(
            option="task_id",
            problem=f"{number} tasks can't have the same id",
            advice="Leave out `with_task_id`, or send them one by one.",
        )
