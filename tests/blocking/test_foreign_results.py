"""Status and progress of tasks whose result backend is one of another package."""

from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import ResultIsReadyError, TaskiqResultTimeoutError
from taskiq.task import AsyncTaskiqTask

from taskiq_redis import (
    ListQueueBroker,
    SyncListQueueBroker,
    SyncResultBackend,
    SyncTaskiqTask,
    TaskState,
    TaskStatus,
)
from taskiq_redis._taskiq.async_kicker import TaskKicker
from taskiq_redis._taskiq.task import SentTask

NOWHERE = "redis://127.0.0.1:1"


def state(found: TaskStatus) -> TaskState:
    assert found == TaskStatus(found.state)
    return found.state


class Script:
    """What a backend replies: an entry per call, whether the result is ready and the progress."""

    def __init__(self, *replies: tuple[bool, Any]) -> None:
        self._replies = iter(replies)
        self._last: tuple[bool, Any] = (False, None)

    def is_ready(self) -> bool:
        self._last = next(self._replies, self._last)
        return self._last[0]

    def progress(self) -> TaskProgress[Any] | None:
        meta = self._last[1]
        return None if meta is None else TaskProgress(state="working", meta=meta)


class AsyncBackend:
    """An async result backend without notifications."""

    def __init__(self, *replies: tuple[bool, Any]) -> None:
        self._script = Script(*replies)

    async def is_result_ready(self, task_id: str) -> bool:
        return self._script.is_ready()

    async def get_progress(self, task_id: str) -> Any:
        return self._script.progress()


class Backend(SyncResultBackend[Any]):
    """A blocking result backend without notifications."""

    def __init__(self, *replies: tuple[bool, Any]) -> None:
        self._script = Script(*replies)

    def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        raise NotImplementedError

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        raise NotImplementedError

    def is_result_ready(self, task_id: str) -> bool:
        return self._script.is_ready()

    def get_progress(self, task_id: str) -> Any:
        return self._script.progress()


REPLIES = [(False, None), (False, 1), (False, 1), (False, 2), (True, 3)]


@pytest.mark.anyio
async def test_status_of_an_async_task_is_that_of_its_backend() -> None:
    backend: Any = AsyncBackend((False, None), (False, 1), (True, 1))
    sent = SentTask[Any]("id", backend)
    found = [state(await sent.status()) for _ in range(3)]
    assert found == [TaskState.UNKNOWN, TaskState.RUNNING, TaskState.DONE]


def test_status_of_a_blocking_task_is_that_of_its_backend() -> None:
    sent = SyncTaskiqTask[Any]("id", Backend((False, None), (False, 1), (True, 1)))
    found = [state(sent.status()) for _ in range(3)]
    assert found == [TaskState.UNKNOWN, TaskState.RUNNING, TaskState.DONE]


@pytest.mark.anyio
async def test_async_task_is_polled_for_progress() -> None:
    backend: Any = AsyncBackend(*REPLIES)
    followed = SentTask[Any]("id", backend).follow()
    assert [each.meta async for each in followed] == [1, 2, 3]
    backend = AsyncBackend((False, 1))
    followed = SentTask[Any]("id", backend).follow(timeout=0.01)
    assert (await anext(followed)).meta == 1
    with pytest.raises(TaskiqResultTimeoutError):
        await anext(followed)


def test_blocking_task_is_polled_for_progress() -> None:
    followed = SyncTaskiqTask[Any]("id", Backend(*REPLIES)).follow()
    assert [each.meta for each in followed] == [1, 2, 3]
    followed = SyncTaskiqTask[Any]("id", Backend((False, 1))).follow(timeout=0.01)
    assert next(followed).meta == 1
    with pytest.raises(TaskiqResultTimeoutError):
        next(followed)


@pytest.mark.anyio
async def test_task_that_another_broker_sent_has_a_status() -> None:
    broker = InMemoryBroker()
    task = broker.register_task(state, task_name="state")
    kicker: TaskKicker[Any, Any] = TaskKicker(task.task_name, broker, {})
    sent: AsyncTaskiqTask[Any] = await kicker.kiq(TaskStatus(TaskState.DEAD))
    await broker.wait_all()
    assert isinstance(sent, SentTask)
    assert state(await sent.status()) is TaskState.DONE
    await broker.shutdown()


@pytest.fixture
def failing() -> Any:
    """A blocking backend that can't be asked."""

    def fail() -> bool:
        raise OSError("away")

    backend = Backend()
    backend._script.is_ready = fail  # type: ignore[method-assign]
    return backend


def test_error_of_the_backend_is_raised_as_one_of_taskiq(failing: Any) -> None:
    with pytest.raises(ResultIsReadyError, match="OSError: away"):
        SyncTaskiqTask[Any]("id", failing).status()


@pytest.mark.anyio
async def test_broker_without_result_backend_knows_nothing() -> None:
    assert await ListQueueBroker(NOWHERE).status("id") == TaskStatus(TaskState.UNKNOWN)
    assert SyncListQueueBroker(NOWHERE).status("id") == TaskStatus(TaskState.UNKNOWN)
