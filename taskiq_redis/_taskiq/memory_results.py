"""Results that are kept in memory, for tests."""

import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any, TypeVar

import anyio
from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.depends import progress_tracker

from taskiq_redis._taskiq.caller_thread import waiting_thread
from taskiq_redis._taskiq.portal import is_portal_thread
from taskiq_redis._taskiq.progress_polling import (
    deadline_of,
    poll_progress,
    poll_progress_blocking,
    time_left,
)
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import ResultIsMissingError, TaskNotRunError

ReturnType = TypeVar("ReturnType")

#: s; interval at which a result is looked for that another thread will store
CHECK_INTERVAL = 0.02

#: returns why a task is not run, so that it gets no result; None if it may run
WhyNotRun = Callable[[str], str | None]


def may_run(_task_id: str) -> str | None:
    """Return None: the task may run."""
    return None


class SyncInMemoryResultBackend(SyncResultBackend[ReturnType]):
    """The blocking counterpart of taskiq's ``InmemoryResultBackend``, for tests.

    Args:
        max_stored_results: number of results to keep, -1 for all. Default 100, as in taskiq.
    """

    def __init__(self, max_stored_results: int = 100) -> None:
        self._store: InmemoryResultBackend[ReturnType] = InmemoryResultBackend(max_stored_results)
        self._why_not_run: WhyNotRun = may_run

    @property
    def max_stored_results(self) -> int:
        """Number of results that are kept; -1 for all."""
        return self._store.max_stored_results

    @property
    def results(self) -> dict[str, TaskiqResult[ReturnType]]:
        """The results by task ID, the oldest one first."""
        return self._store.results

    @property
    def progress(self) -> dict[str, progress_tracker.TaskProgress[Any]]:
        """The progress of tasks by their ID."""
        return self._store.progress

    def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Keep a result, and drop the oldest one if there are too many.

        Args:
            task_id: ID of the task.
            result: the result.
        """
        keep(self._store.results, task_id, result, self.max_stored_results)

    def is_result_ready(self, task_id: str) -> bool:
        """Return whether there is a result.

        Args:
            task_id: ID of the task.
        """
        return task_id in self._store.results

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[ReturnType]:  # noqa: ARG002
        """Return a result.

        Args:
            task_id: ID of the task.
            with_logs: ignored; nothing collects logs.

        Raises:
            ResultIsMissingError: there is no result.
        """
        result = self._store.results.get(task_id)
        if result is None:
            raise ResultIsMissingError(key=task_id)
        # The sender converts the value in place.
        return result.model_copy()

    def get_results(
        self, task_ids: Sequence[str], with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Return the results that there are.

        Args:
            task_ids: IDs of the tasks.
            with_logs: ignored; nothing collects logs.
        """
        return {
            task_id: self.get_result(task_id, with_logs)
            for task_id in task_ids
            if self.is_result_ready(task_id)
        }

    def wait_result(
        self, task_id: str, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until there is a result, and return it; at once if the task ran in place.

        Args:
            task_id: ID of the task.
            timeout: s; how long to wait. Default -1: without a limit.
            with_logs: ignored; nothing collects logs.

        Raises:
            TaskiqResultTimeoutError: there was none in time.
            TaskNotRunError: there will be none; it is a TaskiqResultTimeoutError, too.
            RuntimeError: an async task waits, which would keep the other task from running.
        """
        return self.wait_results([task_id], timeout, with_logs)[task_id]

    def wait_results(
        self, task_ids: Sequence[str], timeout: float = -1.0, with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Wait until there are results, and return them.

        Args:
            task_ids: IDs of the tasks.
            timeout: s; how long to wait for all of them. Default -1: without a limit.
            with_logs: ignored; nothing collects logs.

        Raises:
            TaskiqResultTimeoutError: not all were there in time.
            TaskNotRunError: there will be none of some; it is a TaskiqResultTimeoutError, too.
            RuntimeError: an async task waits, which would keep the other tasks from running.
        """
        deadline = deadline_of(timeout)
        while missing := self._missing(task_ids):
            self._pause(missing, deadline, timeout)
        return self.get_results(task_ids, with_logs)

    def follow(
        self, task_id: str, timeout: float | None = None
    ) -> Generator[progress_tracker.TaskProgress[Any], None, None]:
        """Yield the progress of a task whenever it changes, until there is its result.

        Args:
            task_id: ID of the task.
            timeout: s; how long to wait for the result. Default None: without a limit.

        Raises:
            TaskiqResultTimeoutError: there was none in time.
            TaskNotRunError: there will be none; it is a TaskiqResultTimeoutError, too.
            RuntimeError: an async task follows, which would keep the other task from running.
        """
        return poll_progress_blocking(self, task_id, timeout, self._pause)

    def _pause(self, missing: list[str], deadline: float, timeout: float | None) -> None:
        """Wait for a moment for results that aren't there, or raise why that can't be."""
        check_is_run(missing, self._why_not_run)
        if is_portal_thread():
            raise RuntimeError(
                "An async task waits by blocking code, so the task that it waits for can't "
                "run. Send and wait by the async broker: `await task.wait_result()`."
            )
        left = time_left(deadline, timeout)
        caller = waiting_thread()
        if caller is not None:
            # The other task may have to run in this thread.
            caller.run_pending()
        if self._missing(missing):
            time.sleep(min(CHECK_INTERVAL, left))

    def _missing(self, task_ids: Sequence[str]) -> list[str]:
        return [task_id for task_id in task_ids if not self.is_result_ready(task_id)]

    def delete_result(self, task_id: str) -> None:
        """Delete a result and the progress of its task.

        Args:
            task_id: ID of the task.
        """
        self._store.results.pop(task_id, None)
        self._store.progress.pop(task_id, None)

    def set_progress(self, task_id: str, progress: progress_tracker.TaskProgress[Any]) -> None:
        """Keep the progress of a task.

        Args:
            task_id: ID of the task.
            progress: the progress.
        """
        keep(self._store.progress, task_id, progress, self.max_stored_results)

    def get_progress(self, task_id: str) -> progress_tracker.TaskProgress[Any] | None:
        """Return the progress of a task, or None.

        Args:
            task_id: ID of the task.
        """
        return self._store.progress.get(task_id)


def keep(kept: dict[str, Any], task_id: str, value: Any, limit: int) -> None:
    """Keep a value in a dict, and drop the oldest one if there are too many.

    Args:
        kept: values by task ID.
        task_id: ID of the task.
        value: the value.
        limit: number of values to keep; -1 for all.
    """
    if limit != -1 and task_id not in kept and len(kept) >= limit:
        for oldest in list(kept)[:1]:
            kept.pop(oldest, None)
    kept[task_id] = value


def check_is_run(task_ids: Sequence[str], why_not_run: WhyNotRun) -> None:
    """Raise an error if one of some tasks without results is not run.

    Args:
        task_ids: IDs of the tasks.
        why_not_run: see `WhyNotRun`.

    Raises:
        TaskNotRunError: one is not run.
    """
    for task_id in task_ids:
        reason = why_not_run(task_id)
        if reason is not None:
            raise TaskNotRunError(task_id=task_id, reason=reason)


class BackendView(AsyncResultBackend[Any]):
    """A blocking result backend in memory, for async code.

    Args:
        get_backend: returns the blocking backend.
    """

    def __init__(self, get_backend: Callable[[], SyncResultBackend[Any]]) -> None:
        self._get_backend = get_backend

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Store a result."""
        self._get_backend().set_result(task_id, result)

    async def is_result_ready(self, task_id: str) -> bool:
        """Return whether a result is stored."""
        return self._get_backend().is_result_ready(task_id)

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        """Return a result."""
        return self._get_backend().get_result(task_id, with_logs)

    async def wait_result(
        self, task_id: str, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[Any]:
        """Wait until a result is stored, and return it."""
        await self._wait_all([task_id], timeout)
        return await self.get_result(task_id, with_logs)

    async def get_results(
        self, task_ids: Sequence[str], with_logs: bool = False
    ) -> dict[str, TaskiqResult[Any]]:
        """Return the results that are stored."""
        return {
            task_id: await self.get_result(task_id, with_logs)
            for task_id in task_ids
            if await self.is_result_ready(task_id)
        }

    async def wait_results(
        self, task_ids: Sequence[str], timeout: float = -1.0, with_logs: bool = False
    ) -> dict[str, TaskiqResult[Any]]:
        """Wait until results are stored, and return them."""
        await self._wait_all(task_ids, timeout)
        return await self.get_results(task_ids, with_logs)

    async def delete_result(self, task_id: str) -> None:
        """Delete a result and the progress of its task."""
        backend: Any = self._get_backend()
        backend.delete_result(task_id)

    async def _wait_all(self, task_ids: Sequence[str], timeout: float) -> None:
        """Wait until the results of all tasks are there, or raise why that can't be."""
        deadline = deadline_of(timeout)
        for task_id in task_ids:
            while not await self.is_result_ready(task_id):
                await self._pause([task_id], deadline, timeout)

    async def _pause(self, missing: list[str], deadline: float, timeout: float | None) -> None:
        """Wait for a moment for results that aren't there, or raise why that can't be."""
        check_is_run(missing, self._why_not_run)
        await anyio.sleep(min(CHECK_INTERVAL, time_left(deadline, timeout)))

    def follow(
        self, task_id: str, timeout: float | None = None
    ) -> AsyncGenerator[progress_tracker.TaskProgress[Any], None]:
        """Yield the progress of a task whenever it changes, until its result is stored."""
        return poll_progress(self, task_id, timeout, self._pause)

    def _why_not_run(self, task_id: str) -> str | None:
        """Return why a task will get no result, or None."""
        backend = self._get_backend()
        if isinstance(backend, SyncInMemoryResultBackend):
            return backend._why_not_run(task_id)
        return None

    async def set_progress(
        self, task_id: str, progress: progress_tracker.TaskProgress[Any]
    ) -> None:
        """Store the progress of a task."""
        self._get_backend().set_progress(task_id, progress)

    async def get_progress(self, task_id: str) -> progress_tracker.TaskProgress[Any] | None:
        """Return the progress of a task, or None."""
        return self._get_backend().get_progress(task_id)


def twin_of_results(
    source: InmemoryResultBackend[ReturnType],
) -> SyncInMemoryResultBackend[ReturnType]:
    """Return a blocking backend with the results of a backend of taskiq.

    Args:
        source: backend of taskiq's `InMemoryBroker`.
    """
    twin: SyncInMemoryResultBackend[ReturnType] = SyncInMemoryResultBackend()
    twin._store = source
    return twin
