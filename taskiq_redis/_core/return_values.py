"""Convert return values and exceptions as taskiq does when a sender waits for a result."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from taskiq import TaskiqResult
from taskiq.compat import parse_obj_as
from taskiq.exceptions import TaskiqError, TaskiqResultTimeoutError

from taskiq_redis.exceptions import (
    ResultNotReadError,
    ResultStateUnknownError,
    ServerUnavailableError,
)

#: maximum number of characters that our errors quote from others
REASON_WIDTH = 1000

logger = logging.getLogger("taskiq_redis")


def parse_value(task_id: str, result: TaskiqResult[Any], return_type: Any) -> None:
    """Convert the return value of a result to the declared return type of its task, in place.

    Args:
        task_id: ID of the task, for the log.
        result: its result.
        return_type: the declared type; None leaves the value as it is.
    """
    # A failed task has no return value.
    if return_type is None or result.is_err:
        return
    try:
        result.return_value = parse_obj_as(return_type, result.return_value)
    except ValueError:
        logger.warning(
            "The return value of task %s can't be converted to %s, and is returned as it is.",
            task_id,
            return_type,
        )


@contextmanager
def as_taskiq_errors() -> Iterator[None]:
    """Convert exceptions while waiting for a result to those that taskiq's `wait_result` raises."""
    try:
        yield
    except TaskiqResultTimeoutError:
        raise
    except ServerUnavailableError as error:
        raise ResultStateUnknownError(reason=reason_of(error)) from error
    except Exception as error:
        raise ResultNotReadError(reason=reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return why a call failed: the text of an error, with the class unless it is one of taskiq.

    Args:
        error: the error, of any class.
    """
    text = shorten(str(error), REASON_WIDTH)
    return text if isinstance(error, TaskiqError) else f"{type(error).__name__}: {text}"
