"""Clients that send tasks and read results, with the async classes or with their blocking twins."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.kicker import AsyncKicker
from taskiq.scheduler.created_schedule import CreatedSchedule
from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.task import AsyncTaskiqTask

from taskiq_redis import (
    SyncCreatedSchedule,
    SyncScheduleSource,
    SyncTaskiqTask,
    TaskStatus,
    to_sync,
)
from tests.waiting import TIMEOUT

T = TypeVar("T")


class Client(ABC):
    """A client of the async or the blocking classes; its own methods always block.

    Tasks are given as a task of any broker, or by name.
    """

    @abstractmethod
    def send(
        self, task: Any, *args: Any, labels: dict[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Send a task, and return taskiq's object for the sent task."""

    @abstractmethod
    def wait(self, sent: Any) -> TaskiqResult[Any]:
        """Wait for the result of a sent task, given as `send` returned it or by its ID."""

    @abstractmethod
    def progress(self, task_id: str) -> Any:
        """Return the progress of a task, or None."""

    @abstractmethod
    def status(self, task_id: str) -> TaskStatus:
        """Return the status of a task."""

    @abstractmethod
    def follow(self, task_id: str, see: Callable[[Any], None]) -> None:
        """Call a function for each progress of a task, until its result is stored."""

    @abstractmethod
    def schedule(
        self,
        source: Any,
        when: dict[str, Any],
        task: Any,
        *args: Any,
        labels: dict[str, Any] | None = None,
        task_id: str | None = None,
    ) -> Any:
        """Schedule a task by a `cron`, an `interval` or a `time`, and return the schedule."""

    @abstractmethod
    def unschedule(self, created: Any) -> None:
        """Delete a schedule."""

    @abstractmethod
    def schedules(self, source: Any) -> list[ScheduledTask]:
        """Return all schedules of a source."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a task, and return its return value."""
        result = self.wait(self.send(task, *args, **kwargs))
        result.raise_for_error()
        return result.return_value


class AsyncClient(Client):
    """A client of the async classes, on an event loop that runs while the test waits."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self._loop = asyncio.new_event_loop()
        self._sources: set[Any] = set()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and return its result."""
        return self._loop.run_until_complete(call)

    def send(
        self, task: Any, *args: Any, labels: dict[str, Any] | None = None, **kwargs: Any
    ) -> AsyncTaskiqTask[Any]:
        return self.run(self._kicker(task, labels).kiq(*args, **kwargs))

    def _kicker(self, task: Any, labels: dict[str, Any] | None) -> AsyncKicker[Any, Any]:
        known = {} if isinstance(task, str) else task.labels
        return AsyncKicker(
            task if isinstance(task, str) else task.task_name,
            self.broker,
            {**known, **(labels or {})},
            getattr(task, "return_type", None),
        )

    def wait(self, sent: Any) -> TaskiqResult[Any]:
        if isinstance(sent, str):
            sent = AsyncTaskiqTask(sent, self.broker.result_backend)
        return self.run(sent.wait_result(timeout=TIMEOUT, check_interval=0.05))

    def progress(self, task_id: str) -> Any:
        return self.run(self.broker.result_backend.get_progress(task_id))

    def status(self, task_id: str) -> TaskStatus:
        return self.run(self.broker.status(task_id))

    def follow(self, task_id: str, see: Callable[[Any], None]) -> None:
        async def follow() -> None:
            async for progress in self.broker.result_backend.follow(task_id, timeout=TIMEOUT):
                see(progress)

        self.run(follow())

    def schedule(
        self,
        source: Any,
        when: dict[str, Any],
        task: Any,
        *args: Any,
        labels: dict[str, Any] | None = None,
        task_id: str | None = None,
    ) -> CreatedSchedule[Any]:
        self._sources.add(source)
        kicker = self._kicker(task, labels).with_task_id(task_id)
        ((kind, value),) = when.items()
        return self.run(getattr(kicker, f"schedule_by_{kind}")(source, value, *args))

    def unschedule(self, created: CreatedSchedule[Any]) -> None:
        self.run(created.unschedule())

    def schedules(self, source: Any) -> list[ScheduledTask]:
        self._sources.add(source)
        return self.run(source.get_all_schedules())

    def close(self) -> None:
        for source in self._sources:
            self.run(source.shutdown())
        self.run(self.broker.shutdown())
        self._loop.close()


class SyncClient(Client):
    """A client of the blocking classes."""

    def __init__(self, broker: Any) -> None:
        self.broker = to_sync(broker)
        self._sources: dict[Any, SyncScheduleSource] = {}

    def send(
        self, task: Any, *args: Any, labels: dict[str, Any] | None = None, **kwargs: Any
    ) -> SyncTaskiqTask[Any]:
        return self.broker.kicker(task).with_labels(**(labels or {})).kiq(*args, **kwargs)

    def wait(self, sent: Any) -> TaskiqResult[Any]:
        if isinstance(sent, str):
            sent = SyncTaskiqTask(sent, self.broker.result_backend)
        return sent.wait_result(timeout=TIMEOUT, check_interval=0.05)

    def progress(self, task_id: str) -> Any:
        return self.broker.result_backend.get_progress(task_id)

    def status(self, task_id: str) -> TaskStatus:
        return self.broker.status(task_id)

    def follow(self, task_id: str, see: Callable[[Any], None]) -> None:
        for progress in self.broker.result_backend.follow(task_id, timeout=TIMEOUT):
            see(progress)

    def schedule(
        self,
        source: Any,
        when: dict[str, Any],
        task: Any,
        *args: Any,
        labels: dict[str, Any] | None = None,
        task_id: str | None = None,
    ) -> SyncCreatedSchedule[Any]:
        kicker = self.broker.kicker(task).with_labels(**(labels or {})).with_task_id(task_id)
        ((kind, value),) = when.items()
        return getattr(kicker, f"schedule_by_{kind}")(self._twin(source), value, *args)

    def unschedule(self, created: SyncCreatedSchedule[Any]) -> None:
        created.unschedule()

    def schedules(self, source: Any) -> list[ScheduledTask]:
        return self._twin(source).get_all_schedules()

    def _twin(self, source: Any) -> Any:
        if source not in self._sources:
            self._sources[source] = to_sync(source)
        return self._sources[source]

    def close(self) -> None:
        for source in self._sources.values():
            source.shutdown()
        self.broker.shutdown()
