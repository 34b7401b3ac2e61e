"""Read the status of a task from any result backend, also one of another package."""

from typing import Any

from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_redis._core.task_status import UNKNOWN, TaskState, TaskStatus
from taskiq_redis._taskiq.result_backend import SyncDummyResultBackend


def has_results(result_backend: object) -> bool:
    """Return whether a result backend stores results.

    Args:
        result_backend: any result backend, async or blocking.
    """
    return not isinstance(result_backend, (DummyResultBackend, SyncDummyResultBackend))


async def backend_status(result_backend: Any, task_id: str) -> TaskStatus:
    """Return what an async result backend knows about a task.

    Args:
        result_backend: the result backend, also one of another package.
        task_id: ID of the task.
    """
    if not has_results(result_backend):
        return UNKNOWN
    read = getattr(result_backend, "_task_status", None)
    if read is not None:
        found: TaskStatus = await read(task_id)
        return found
    # Reading the result might delete it.
    if await result_backend.is_result_ready(task_id):
        return TaskStatus(TaskState.DONE)
    progress = await result_backend.get_progress(task_id)
    return UNKNOWN if progress is None else TaskStatus(TaskState.RUNNING)


def blocking_backend_status(result_backend: Any, task_id: str) -> TaskStatus:
    """Return what a blocking result backend knows about a task; see `backend_status`."""
    if not has_results(result_backend):
        return UNKNOWN
    read = getattr(result_backend, "_task_status", None)
    if read is not None:
        found: TaskStatus = read(task_id)
        return found
    if result_backend.is_result_ready(task_id):
        return TaskStatus(TaskState.DONE)
    progress = result_backend.get_progress(task_id)
    return UNKNOWN if progress is None else TaskStatus(TaskState.RUNNING)
