"""In-memory brokers, result backends and schedule sources, and a fixture that isolates tests."""

from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pytest
from taskiq import AsyncBroker, BrokerMessage, ScheduleSource, TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis import SyncBroker, SyncResultBackend, SyncScheduleSource
from taskiq_redis._taskiq.portal import stop_portal


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own task registry and portal; every module here imports this."""
    monkeypatch.setattr(AsyncBroker, "global_task_registry", {})
    yield
    stop_portal()


def take_tasks(module: str) -> dict[str, Any]:
    """Remove the tasks that a test module declared on import from the registry, and return them."""
    registry = AsyncBroker.global_task_registry
    names = [name for name in registry if name.startswith(f"{module}:")]
    return {name: registry.pop(name) for name in names}


class MemoryBroker(SyncBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent: list[BrokerMessage] = []

    def kick(self, message: BrokerMessage) -> None:
        self.sent.append(message)

    def listen(self) -> Generator[bytes, None, None]:
        while self.sent:
            yield self.sent.pop(0).message


class AsyncMemoryBroker(AsyncBroker):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[BrokerMessage] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.sent.append(message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while self.sent:
            yield self.sent.pop(0).message


class MemoryResults(SyncResultBackend[Any]):
    def __init__(self) -> None:
        self.results: dict[str, TaskiqResult[Any]] = {}
        self.events: list[str] = []

    def startup(self) -> None:
        self.events.append("backend up")

    def shutdown(self) -> None:
        self.events.append("backend down")

    def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        self.results[task_id] = result

    def is_result_ready(self, task_id: str) -> bool:
        return task_id in self.results

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        return self.results[task_id]

    def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        return TaskProgress(state="half way", meta=task_id)


class MemorySource(SyncScheduleSource):
    def __init__(self) -> None:
        self.schedules: dict[str, ScheduledTask] = {}

    def get_schedules(self) -> list[ScheduledTask]:
        return list(self.schedules.values())

    def add_schedule(self, schedule: ScheduledTask) -> None:
        self.schedules[schedule.schedule_id] = schedule

    def delete_schedule(self, schedule_id: str) -> None:
        del self.schedules[schedule_id]


class AsyncMemorySource(ScheduleSource):
    def __init__(self) -> None:
        self.schedules: dict[str, ScheduledTask] = {}

    async def get_schedules(self) -> list[ScheduledTask]:
        return list(self.schedules.values())

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        self.schedules[schedule.schedule_id] = schedule


def result(value: Any, *, is_err: bool = False) -> TaskiqResult[Any]:
    return TaskiqResult(is_err=is_err, return_value=value, execution_time=0)
