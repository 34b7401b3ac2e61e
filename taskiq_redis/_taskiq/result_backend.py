"""Blocking result backends."""

import warnings
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from taskiq import TaskiqResult

# Not its class: `pyright --verifytypes` doesn't find that, as `taskiq.depends` has no `__init__`.
from taskiq.depends import progress_tracker

from taskiq_redis._taskiq.misuse import Blocking

ReturnType = TypeVar("ReturnType")


class SyncResultBackend(Blocking, ABC, Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncResultBackend``."""

    @abstractmethod
    def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Store the result of a task.

        Args:
            task_id: id of the task.
            result: return value or error of the task.
        """

    @abstractmethod
    def is_result_ready(self, task_id: str) -> bool:
        """Return whether the result of a task is stored.

        Args:
            task_id: id of the task.
        """

    @abstractmethod
    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Return the result of a task.

        Args:
            task_id: id of the task.
            with_logs: whether to return the log that the worker collected.
        """

    def set_progress(self, task_id: str, progress: progress_tracker.TaskProgress[Any]) -> None:
        """Store the progress of a task; does nothing in a backend without progress.

        Args:
            task_id: id of the task.
            progress: progress to store.
        """

    def get_progress(self, task_id: str) -> progress_tracker.TaskProgress[Any] | None:  # noqa: ARG002
        """Return the progress of a task; None in a backend without progress.

        Args:
            task_id: id of the task.
        """
        return None


class SyncDummyResultBackend(SyncResultBackend[Any]):
    """The default backend of a broker: every result is ready, and is None."""

    def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Discard a result."""

    def is_result_ready(self, task_id: str) -> bool:  # noqa: ARG002
        """Return True, so that waiting ends at once."""
        return True

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:  # noqa: ARG002
        """Return an empty result, and warn that the broker has no result backend."""
        warnings.warn(
            "This broker has no result backend, so every result is empty. "
            "Set one by `with_result_backend`.",
            # The caller of the task's own method.
            stacklevel=3,
        )
        return TaskiqResult(is_err=False, log=None, return_value=None, execution_time=0, error=None)
