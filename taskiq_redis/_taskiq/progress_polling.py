"""Follow the progress of tasks in result backends that don't notify."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from taskiq.depends import progress_tracker
from taskiq.exceptions import TaskiqResultTimeoutError

#: s; time between two polls, as when taskiq waits for a result
POLL_INTERVAL = 0.2

#: waits until the next poll; gets the IDs of tasks without results, the deadline and the timeout
Pause = Callable[[list[str], float, float | None], Awaitable[None]]
BlockingPause = Callable[[list[str], float, float | None], None]


def deadline_of(timeout: float | None) -> float:
    """Return when a timeout ends, by the monotonic clock.

    Args:
        timeout: s; None, zero or less for no limit.
    """
    limit = float("inf") if timeout is None or timeout <= 0 else timeout
    return time.monotonic() + limit


def time_left(deadline: float, timeout: float | None) -> float:
    """Return the time left until a deadline.

    Args:
        deadline: as `deadline_of` returned it.
        timeout: s; for the error.

    Raises:
        TaskiqResultTimeoutError: the deadline is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TaskiqResultTimeoutError(timeout=timeout)
    return left


async def _sleep(_missing: list[str], deadline: float, timeout: float | None) -> None:
    await asyncio.sleep(min(POLL_INTERVAL, time_left(deadline, timeout)))


def _sleep_blocking(_missing: list[str], deadline: float, timeout: float | None) -> None:
    time.sleep(min(POLL_INTERVAL, time_left(deadline, timeout)))


async def poll_progress(
    result_backend: Any, task_id: str, timeout: float | None, pause: Pause = _sleep
) -> AsyncGenerator[progress_tracker.TaskProgress[Any], None]:
    """Yield the progress of a task whenever it changes, until its result is stored.

    Args:
        result_backend: any async result backend.
        task_id: ID of the task.
        timeout: s; how long to wait for the result. None for no limit.
        pause: waits until the next poll. Default for 0.2 s.

    Raises:
        TaskiqResultTimeoutError: the result wasn't stored in time.
    """
    deadline, last = deadline_of(timeout), None
    while True:
        # In this order, so that nothing is reported between the two.
        ready = await result_backend.is_result_ready(task_id)
        progress = await result_backend.get_progress(task_id)
        if progress is not None and progress != last:
            last = progress
            yield progress
        if ready:
            return
        await pause([task_id], deadline, timeout)


def poll_progress_blocking(
    result_backend: Any, task_id: str, timeout: float | None, pause: BlockingPause = _sleep_blocking
) -> Generator[progress_tracker.TaskProgress[Any], None, None]:
    """Yield the progress of a task whenever it changes; see `poll_progress`."""
    deadline, last = deadline_of(timeout), None
    while True:
        ready = result_backend.is_result_ready(task_id)
        progress = result_backend.get_progress(task_id)
        if progress is not None and progress != last:
            last = progress
            yield progress
        if ready:
            return
        pause([task_id], deadline, timeout)
