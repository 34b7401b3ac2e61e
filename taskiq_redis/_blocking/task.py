"""A task that was sent, as its sender sees it."""

import time
from typing import Any, Generic, TypeVar

from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import ResultGetError, ResultIsReadyError, TaskiqResultTimeoutError

from taskiq_redis._blocking.result_backend import SyncResultBackend
from taskiq_redis._core.return_values import as_taskiq_errors, parse_value

ReturnType = TypeVar("ReturnType")


class SyncTaskiqTask(Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncTaskiqTask``.

    Args:
        task_id: id of the task.
        result_backend: where its result will be.
        return_type: what its return value is parsed into; None leaves it as it is.
    """

    def __init__(
        self,
        task_id: str,
        result_backend: SyncResultBackend[Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.task_id = task_id
        self.result_backend = result_backend
        self.return_type = return_type

    def is_ready(self) -> bool:
        """Tell whether the result is there.

        Raises:
            ResultIsReadyError: the backend can't tell; the cause says why.
        """
        try:
            return self.result_backend.is_result_ready(self.task_id)
        except Exception as error:
            raise ResultIsReadyError from error

    def get_result(self, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Read the result, with its value parsed into the task's return type.

        Args:
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            ResultGetError: there is none, or it can't be read; the cause says why.
        """
        try:
            result: TaskiqResult[ReturnType] = self.result_backend.get_result(
                self.task_id, with_logs=with_logs
            )
        except Exception as error:
            raise ResultGetError from error
        self._parse(result)
        return result

    def _parse(self, result: TaskiqResult[ReturnType]) -> None:
        try:
            parse_value(self.task_id, result, self.return_type)
        except Exception as error:
            raise ResultGetError from error

    def wait_result(
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
        if wait is not None:
            with as_taskiq_errors():
                result: TaskiqResult[ReturnType] = wait(self.task_id, timeout, with_logs)
            self._parse(result)
            return result
        deadline = time.monotonic() + timeout if timeout > 0 else float("inf")
        while not self.is_ready():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TaskiqResultTimeoutError(timeout=timeout)
            time.sleep(min(check_interval, left))
        return self.get_result(with_logs=with_logs)

    def get_progress(self) -> TaskProgress[Any] | None:
        """Read how far the task is, or None if it hasn't said."""
        return self.result_backend.get_progress(self.task_id)
