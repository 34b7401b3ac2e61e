"""Log which task failed; taskiq logs only the exception."""

import asyncio
import logging
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError

from taskiq_redis._core.messages import is_task_cancelled
from taskiq_redis._core.texts import quote

logger = logging.getLogger("taskiq_redis")


class FailureLog(TaskiqMiddleware):
    """Logs the name and the ID of each task that fails, right after taskiq logs its traceback."""

    def on_error(
        self,
        message: TaskiqMessage,
        result: TaskiqResult[Any],  # noqa: ARG002 - taskiq passes it
        exception: BaseException,
    ) -> None:
        """Log a failure, and record for the acknowledgement whether the task was cancelled.

        Args:
            message: message of the task.
            result: result of the task.
            exception: exception of the task; its text is in taskiq's log.
        """
        if isinstance(exception, asyncio.CancelledError):
            is_task_cancelled.set(True)
        if not isinstance(exception, NoResultError):
            logger.error(
                "The task %s with the id %s failed: %s.",
                quote(message.task_name),
                quote(message.task_id),
                type(exception).__name__,
            )


def log_failures(broker: Any) -> None:
    """Log the tasks that fail in a worker, once for each failure.

    Args:
        broker: broker of the worker.
    """
    if not any(isinstance(each, FailureLog) for each in broker.middlewares):
        broker.middlewares.append(FailureLog())
