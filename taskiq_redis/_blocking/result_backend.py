"""What a blocking result backend is."""

import warnings
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress

if TYPE_CHECKING:
    from typing_extensions import Self

ReturnType = TypeVar("ReturnType")


class SyncResultBackend(ABC, Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncResultBackend``."""

    def startup(self) -> None:
        """Prepare for use; nothing needs it."""

    def shutdown(self) -> None:
        """Release what is held."""

    def __enter__(self) -> "Self":
        self.startup()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @abstractmethod
    def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Store a result.

        Args:
            task_id: id of the task.
            result: what it returned or raised.
        """

    @abstractmethod
    def is_result_ready(self, task_id: str) -> bool:
        """Tell whether a result is there.

        Args:
            task_id: id of the task.
        """

    @abstractmethod
    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Read a result.

        Args:
            task_id: id of the task.
            with_logs: whether to return the log that the worker collected.
        """

    def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        """Store a progress; a backend without progress does nothing.

        Args:
            task_id: id of the task.
            progress: how far it is.
        """

    def get_progress(self, task_id: str) -> TaskProgress[Any] | None:  # noqa: ARG002
        """Read a progress; a backend without progress has none.

        Args:
            task_id: id of the task.
        """
        return None


class SyncDummyResultBackend(SyncResultBackend[Any]):
    """The backend of a broker that was given none: every result is ready, and is None."""

    def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Drop a result."""

    def is_result_ready(self, task_id: str) -> bool:  # noqa: ARG002
        """Say yes, so that nobody waits for ever."""
        return True

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:  # noqa: ARG002
        """Return an empty result, and warn that it is no real one."""
        warnings.warn(
            "This broker has no result backend, so every result is empty. "
            "Set one by `with_result_backend`.",
            # Past the task's own method, where the user asked for it.
            stacklevel=3,
        )
        return TaskiqResult(is_err=False, log=None, return_value=None, execution_time=0, error=None)
