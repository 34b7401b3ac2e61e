"""Sent tasks: they read the result of a task, or wait for it."""

import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Generic, TypeVar

from taskiq import AsyncTaskiqTask, TaskiqResult
from taskiq.depends import progress_tracker

from taskiq_redis._core.return_values import as_taskiq_errors, parse_value, reason_of
from taskiq_redis._core.task_status import TaskStatus
from taskiq_redis._taskiq.backend_status import backend_status, blocking_backend_status
from taskiq_redis._taskiq.progress_polling import (
    deadline_of,
    poll_progress,
    poll_progress_blocking,
    time_left,
)
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import ResultNotReadError, ResultStateUnknownError

ReturnType = TypeVar("ReturnType")


class SentTask(AsyncTaskiqTask[ReturnType]):
    """A sent task that is notified when its result is stored, instead of polling for it."""

    #: the broker that sent it, and its queue if that isn't the one of the broker
    _broker: Any = None
    _queue_name: str | None = None

    async def is_ready(self) -> bool:
        """Return whether the result is stored.

        Raises:
            ResultIsReadyError: the backend can't be asked; see the cause.
        """
        try:
            return await self.result_backend.is_result_ready(self.task_id)
        except Exception as error:
            raise ResultStateUnknownError(reason=reason_of(error)) from error

    async def get_result(self, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Return the result, its value parsed into the task's return type.

        Args:
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            ResultGetError: the result is missing or can't be read; see the cause.
        """
        try:
            result = await self.result_backend.get_result(self.task_id, with_logs=with_logs)
            parse_value(self.task_id, result, self.return_type)
        except Exception as error:
            raise ResultNotReadError(reason=reason_of(error)) from error
        return result

    async def wait_result(
        self, check_interval: float = 0.2, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until the result is stored, and return it.

        A backend on Redis is notified; any other one is polled.

        Args:
            check_interval: s; time between two polls. Default 0.2.
            timeout: s; longest time to wait. Default -1: no limit.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            TaskiqResultTimeoutError: the result isn't stored within `timeout`.
            ResultIsReadyError: the backend can't be asked; see the cause.
            ResultGetError: the result can't be read; see the cause.
        """
        wait = getattr(self.result_backend, "wait_result", None)
        if wait is None:
            return await super().wait_result(check_interval, timeout, with_logs)
        with as_taskiq_errors():
            result: TaskiqResult[ReturnType] = await wait(self.task_id, timeout, with_logs)
            parse_value(self.task_id, result, self.return_type)
        return result

    async def status(self) -> TaskStatus:
        """Return what has become of the task; see `status` of the broker that sent it.

        If that is a broker of another package, return what the result backend knows.

        Raises:
            ResultIsReadyError: the backend can't be asked; see the cause.
        """
        try:
            if self._broker is not None and hasattr(self._broker, "status"):
                status: TaskStatus = await self._broker.status(self.task_id, self._queue_name)
                return status
            return await backend_status(self.result_backend, self.task_id)
        except Exception as error:
            raise ResultStateUnknownError(reason=reason_of(error)) from error

    async def follow(
        self, timeout: float | None = None
    ) -> AsyncGenerator[progress_tracker.TaskProgress[Any], None]:
        """Yield the progress of the task whenever it changes, until its result is stored.

        A backend on Redis is notified; any other one is polled.

        Args:
            timeout: s; how long to wait for the result. Default None: no limit.

        Raises:
            TaskiqResultTimeoutError: the result isn't stored within `timeout`.
            ResultIsReadyError: the backend can't be asked; see the cause.
            ResultGetError: the progress can't be read; see the cause.
        """
        follow = getattr(self.result_backend, "follow", None)
        with as_taskiq_errors():
            found = (
                poll_progress(self.result_backend, self.task_id, timeout)
                if follow is None
                else follow(self.task_id, timeout)
            )
            try:
                async for progress in found:
                    yield progress
            finally:
                await found.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_id})"


class SyncTaskiqTask(Generic[ReturnType]):
    """The blocking counterpart of taskiq's ``AsyncTaskiqTask``.

    Args:
        task_id: id of the task.
        result_backend: backend that gets its result.
        return_type: type to parse its return value into; None leaves the value as it is.
    """

    #: the broker that sent it, and its queue if that isn't the one of the broker
    _broker: Any = None
    _queue_name: str | None = None

    def __init__(
        self,
        task_id: str,
        result_backend: SyncResultBackend[Any],
        return_type: type[ReturnType] | None = None,
    ) -> None:
        self.task_id: str = task_id
        self.result_backend: SyncResultBackend[Any] = result_backend
        self.return_type: type[ReturnType] | None = return_type

    def is_ready(self) -> bool:
        """Return whether the result is stored.

        Raises:
            ResultIsReadyError: the backend can't be asked; see the cause.
        """
        try:
            return self.result_backend.is_result_ready(self.task_id)
        except Exception as error:
            raise ResultStateUnknownError(reason=reason_of(error)) from error

    def get_result(self, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Return the result, its value parsed into the task's return type.

        Args:
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            ResultGetError: the result is missing or can't be read; see the cause.
        """
        try:
            result: TaskiqResult[ReturnType] = self.result_backend.get_result(
                self.task_id, with_logs=with_logs
            )
        except Exception as error:
            raise ResultNotReadError(reason=reason_of(error)) from error
        self._parse(result)
        return result

    def _parse(self, result: TaskiqResult[ReturnType]) -> None:
        try:
            parse_value(self.task_id, result, self.return_type)
        except Exception as error:
            raise ResultNotReadError(reason=reason_of(error)) from error

    def wait_result(
        self, check_interval: float = 0.2, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until the result is stored, and return it.

        A backend on Redis is notified; any other one is polled.

        Args:
            check_interval: s; time between two polls. Default 0.2.
            timeout: s; longest time to wait. Default -1: no limit.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            TaskiqResultTimeoutError: the result isn't stored within `timeout`.
            ResultIsReadyError: the backend can't be asked; see the cause.
            ResultGetError: the result can't be read; see the cause.
        """
        wait = getattr(self.result_backend, "wait_result", None)
        if wait is not None:
            with as_taskiq_errors():
                result: TaskiqResult[ReturnType] = wait(self.task_id, timeout, with_logs)
            self._parse(result)
            return result
        deadline = deadline_of(timeout)
        while not self.is_ready():
            time.sleep(min(check_interval, time_left(deadline, timeout)))
        return self.get_result(with_logs=with_logs)

    def get_progress(self) -> progress_tracker.TaskProgress[Any] | None:
        """Return the progress that the task reported last, or None if it reported none."""
        return self.result_backend.get_progress(self.task_id)

    def status(self) -> TaskStatus:
        """Return what has become of the task; see `status` of the broker that sent it.

        If that is a broker of another package, return what the result backend knows.

        Raises:
            ResultIsReadyError: the backend can't be asked; see the cause.
        """
        try:
            if self._broker is not None and hasattr(self._broker, "status"):
                status: TaskStatus = self._broker.status(self.task_id, self._queue_name)
                return status
            return blocking_backend_status(self.result_backend, self.task_id)
        except Exception as error:
            raise ResultStateUnknownError(reason=reason_of(error)) from error

    def follow(
        self, timeout: float | None = None
    ) -> Generator[progress_tracker.TaskProgress[Any], None, None]:
        """Yield the progress of the task whenever it changes, until its result is stored.

        A backend on Redis is notified; any other one is polled.

        Args:
            timeout: s; how long to wait for the result. Default None: no limit.

        Raises:
            TaskiqResultTimeoutError: the result isn't stored within `timeout`.
            ResultIsReadyError: the backend can't be asked; see the cause.
            ResultGetError: the progress can't be read; see the cause.
        """
        follow = getattr(self.result_backend, "follow", None)
        with as_taskiq_errors():
            if follow is None:
                yield from poll_progress_blocking(self.result_backend, self.task_id, timeout)
            else:
                yield from follow(self.task_id, timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_id})"
