"""Follow the progress of tasks in result backends that don't notify."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

from taskiq.depends import progress_tracker
from taskiq.exceptions import TaskiqResultTimeoutError

#: s; time between two polls, as when taskiq waits for a result
POLL_INTERVAL = 0.2


async def poll_progress(
    result_backend: Any, task_id: str, timeout: float | None
) -> AsyncGenerator[progress_tracker.TaskProgress[Any], None]:
    """Yield the progress of a task whenever it changes, until its result is stored.

    Args:
        result_backend: async result backend of another package.
        task_id: ID of the task.
        timeout: s; how long to wait for the result. None for no limit.

    Raises:
        TaskiqResultTimeoutError: the result wasn't stored in time.
    """
    deadline, last = _deadline(timeout), None
    while True:
        # In this order, so that nothing is reported between the two.
        ready = await result_backend.is_result_ready(task_id)
        progress = await result_backend.get_progress(task_id)
        if progress is not None and progress != last:
            last = progress
            yield progress
        if ready:
            return
        await asyncio.sleep(_pause(deadline, timeout))


def poll_progress_blocking(
    result_backend: Any, task_id: str, timeout: float | None
) -> Generator[progress_tracker.TaskProgress[Any], None, None]:
    """Yield the progress of a task whenever it changes; see `poll_progress`."""
    deadline, last = _deadline(timeout), None
    while True:
        ready = result_backend.is_result_ready(task_id)
        progress = result_backend.get_progress(task_id)
        if progress is not None and progress != last:
            last = progress
            yield progress
        if ready:
            return
        time.sleep(_pause(deadline, timeout))


def _deadline(timeout: float | None) -> float:
    limit = float("inf") if timeout is None or timeout <= 0 else timeout
    return time.monotonic() + limit


def _pause(deadline: float, timeout: float | None) -> float:
    """Return how long to sleep until the next poll, or raise an error after the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TaskiqResultTimeoutError(timeout=timeout)
    return min(POLL_INTERVAL, left)
