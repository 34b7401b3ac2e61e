"""Results in memory, as a result backend on Redis would return them."""

import logging
from collections.abc import Sequence
from typing import Any

from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend

from taskiq_redis._core.task_status import UNKNOWN, TaskState, TaskStatus
from taskiq_redis._core.wire import decode_result, encode_result, error_result
from taskiq_redis._taskiq.memory_results import (
    BackendView,
    SyncInMemoryResultBackend,
    WhyNotRun,
)
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import ResultDecodeError, ResultEncodeError

logger = logging.getLogger("taskiq_redis")

AnyBackend = AsyncResultBackend[Any] | SyncResultBackend[Any]


class Results(SyncInMemoryResultBackend[Any]):
    """Results that are serialized as by a result backend on Redis, whose place it takes.

    Args:
        replaced: that backend, async or blocking.
        store: the results, which several backends share.
        why_not_run: returns why a task is not run, or None.
    """

    def __init__(
        self, replaced: AnyBackend, store: InmemoryResultBackend[Any], why_not_run: WhyNotRun
    ) -> None:
        super().__init__()
        self._store = store
        self._why_not_run = why_not_run
        self.serializer: Any = getattr(replaced, "serializer", None)
        self.keep_results: bool = getattr(replaced, "keep_results", True)
        self._allowed: Any = getattr(replaced, "allowed_exceptions", (Exception,))

    def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Store a result, or an error result if it can't be serialized.

        Args:
            task_id: ID of the task.
            result: the result.
        """
        if self.serializer is not None:
            try:
                result = self._reread(task_id, result)
            except (ResultEncodeError, ResultDecodeError) as error:
                logger.exception("The result of task %s is stored as an error.", task_id)
                result = error_result(result, error)
        super().set_result(task_id, result)

    def _reread(self, task_id: str, result: TaskiqResult[Any]) -> TaskiqResult[Any]:
        data = encode_result(self.serializer, task_id, result, None)
        return decode_result(self.serializer, task_id, data, None, self._allowed)

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        """Return a result; without `keep_results`, delete it.

        Args:
            task_id: ID of the task.
            with_logs: ignored; nothing collects logs.

        Raises:
            ResultIsMissingError: there is no result.
        """
        result = super().get_result(task_id, with_logs)
        if not self.keep_results:
            self.delete_result(task_id)
        return result

    def _task_status(self, task_id: str) -> TaskStatus:
        """Return the status of a task by its result or progress, without deleting the result."""
        if self.is_result_ready(task_id):
            return TaskStatus(TaskState.DONE)
        return TaskStatus(TaskState.RUNNING) if self.get_progress(task_id) else UNKNOWN


class AsyncResults(BackendView):
    """The async counterpart of `Results`.

    Args:
        results: the results.
    """

    def __init__(self, results: Results) -> None:
        super().__init__(lambda: results)
        self._results = results
        self.serializer: Any = results.serializer
        self.keep_results: bool = results.keep_results

    async def get_results(
        self, task_ids: Sequence[str], with_logs: bool = False
    ) -> dict[str, TaskiqResult[Any]]:
        """Return the results that there are."""
        return self._results.get_results(task_ids, with_logs)

    async def wait_results(
        self, task_ids: Sequence[str], timeout: float = -1.0, with_logs: bool = False
    ) -> dict[str, TaskiqResult[Any]]:
        """Wait until there are results, and return them."""
        await self._wait_all(task_ids, timeout)
        return self._results.get_results(task_ids, with_logs)

    async def _task_status(self, task_id: str) -> TaskStatus:
        """Return the status of a task by its result or progress; see `Results`."""
        return self._results._task_status(task_id)

    async def delete_result(self, task_id: str) -> None:
        """Delete a result and the progress of its task."""
        self._results.delete_result(task_id)
