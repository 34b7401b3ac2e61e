"""Results in memory, as a result backend on Redis would return them."""

import logging
from typing import Any

from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend

from taskiq_redis._core.wire import decode_result, encode_result, error_result
from taskiq_redis._taskiq.memory_results import SyncInMemoryResultBackend, WhyNotRun
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
