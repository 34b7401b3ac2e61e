"""What a task has returned, as its sender gets it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskiq import TaskiqResult
from taskiq.compat import parse_obj_as
from taskiq.exceptions import ResultGetError, ResultIsReadyError, TaskiqResultTimeoutError

from taskiq_redis.exceptions import ServerUnavailableError

logger = logging.getLogger("taskiq_redis")


def parse_value(task_id: str, result: TaskiqResult[Any], return_type: Any) -> None:
    """Parse the value of a result into what its task is declared to return.

    Args:
        task_id: id of the task, for the log.
        result: its result, which is changed.
        return_type: its type; None leaves the value as it is.
    """
    # A failed task has no value that could be of its type.
    if return_type is None or result.is_err:
        return
    try:
        result.return_value = parse_obj_as(return_type, result.return_value)
    except ValueError:
        logger.warning(
            "The result of task %s is not a %s, and stays as it is.", task_id, return_type
        )


@contextmanager
def as_taskiq_errors() -> Iterator[None]:
    """Turn what goes wrong while a result is waited for into the errors of taskiq's tasks."""
    try:
        yield
    except TaskiqResultTimeoutError:
        raise
    except ServerUnavailableError as error:
        raise ResultIsReadyError from error
    except Exception as error:
        raise ResultGetError from error
