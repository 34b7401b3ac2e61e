"""The tasks that were sent during a test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, overload

from taskiq import AsyncTaskiqDecoratedTask, BrokerMessage

from taskiq_redis._core.delays import DELAYED_LABEL
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.task_status import TaskState, TaskStatus
from taskiq_redis._taskiq.decorated_task import SyncTaskiqDecoratedTask
from taskiq_redis._taskiq.runner import Runner

AnyTask = str | AsyncTaskiqDecoratedTask[Any, Any] | SyncTaskiqDecoratedTask[Any, Any]


@dataclass(frozen=True, kw_only=True)
class RecordedTask:
    """A task that was sent during a test, as a worker would receive it.

    Args:
        task_name: name of the task.
        task_id: ID of the task.
        args: positional arguments, after serialization.
        kwargs: keyword arguments, after serialization.
        labels: labels of the message.
        delay: s; 0 for none.
        queue_name: queue or channel to which it was sent; None if its broker has none.
    """

    task_name: str
    task_id: str
    args: list[Any]
    kwargs: dict[str, Any]
    labels: dict[str, Any] = field(repr=False)
    delay: float
    queue_name: str | None


@dataclass(frozen=True)
class _Entry:
    task: RecordedTask
    message: BrokerMessage
    #: runs it
    runner: Runner
    #: when it was sent
    since: datetime


class SentTasks(Sequence[RecordedTask]):
    """The tasks that were sent, in their order; threads may share it."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        #: those that wait for `run`
        self._waiting: list[_Entry] = []
        #: IDs of tasks that won't run
        self._dropped: set[str] = set()
        self._lock = ForkSafeLock()

    @overload
    def __getitem__(self, index: int) -> RecordedTask: ...

    @overload
    def __getitem__(self, index: slice) -> list[RecordedTask]: ...

    def __getitem__(self, index: int | slice) -> RecordedTask | list[RecordedTask]:
        return self._tasks()[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RecordedTask]:
        return iter(self._tasks())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._tasks()!r})"

    def _tasks(self) -> list[RecordedTask]:
        with self._lock:
            return [entry.task for entry in self._entries]

    def of(self, task: AnyTask) -> list[RecordedTask]:
        """Return what was sent of one task.

        Args:
            task: the task, or its name.
        """
        name = task if isinstance(task, str) else task.task_name
        return [each for each in self._tasks() if each.task_name == name]

    def only(self, task: AnyTask | None = None) -> RecordedTask:
        """Return the one task that was sent.

        Args:
            task: the task, or its name; None for any task.

        Raises:
            AssertionError: none or several were sent.
        """
        found = self._tasks() if task is None else self.of(task)
        if len(found) != 1:
            wanted = "One task" if task is None else f"{task!r}"
            raise AssertionError(
                f"{wanted} should have been sent once. {len(found)} such tasks were sent. "
                f"All that were sent: {self._tasks()!r}"
            )
        return found[0]

    def clear(self) -> None:
        """Forget what was sent; tasks that wait for `run` won't run."""
        with self._lock:
            self._dropped.update(entry.task.task_id for entry in self._waiting)
            self._entries.clear()
            self._waiting.clear()

    def run(self) -> int:
        """Run the tasks that were only recorded, also the delayed ones; called by blocking code.

        Sync tasks run in this thread. Tasks that they send wait for the next call, unless
        `swapped` has `run=True`.

        Returns:
            The number of tasks that were run.
        """
        entries = self._take()
        for entry in entries:
            entry.runner.run(entry.message)
        return len(entries)

    async def run_async(self) -> int:
        """Run the tasks that were only recorded, also the delayed ones, on this event loop.

        Sync tasks run on threads. Tasks that they send wait for the next call, unless `swapped` has
        `run=True`.

        Returns:
            The number of tasks that were run.
        """
        entries = self._take()
        for entry in entries:
            await entry.runner.run_async(entry.message)
        return len(entries)

    def _take(self) -> list[_Entry]:
        """Return the tasks that wait and that this process knows; they wait no longer."""
        with self._lock:
            entries = [entry for entry in self._waiting if _is_known(entry)]
            self._waiting = [entry for entry in self._waiting if not _is_known(entry)]
        return sorted(entries, key=lambda entry: entry.task.delay)

    def _record(
        self,
        message: BrokerMessage,
        runner: Runner,
        delay: float,
        queue_name: str | None,
        runs: bool,
    ) -> bool:
        """Record a message, and return whether to run it now."""
        parsed = runner.broker.formatter.loads(message.message)
        parsed.parse_labels()
        task = RecordedTask(
            task_name=message.task_name,
            task_id=message.task_id,
            args=parsed.args,
            kwargs=parsed.kwargs,
            labels={key: value for key, value in parsed.labels.items() if key != DELAYED_LABEL},
            delay=delay,
            queue_name=queue_name,
        )
        entry = _Entry(task, message, runner, datetime.now(timezone.utc))
        runs_now = runs and _is_known(entry)
        with self._lock:
            self._entries.append(entry)
            self._dropped.discard(task.task_id)
            if not runs_now:
                self._waiting.append(entry)
        return runs_now

    def _status(self, task_id: str, queue_name: str | None) -> TaskStatus | None:
        """Return the status of a task without a result, as of a tracked one; None if unknown."""
        with self._lock:
            found = (
                each
                for each in reversed(self._entries)
                if (each.task.task_id, each.task.queue_name) == (task_id, queue_name)
            )
            entry = next(found, None)
            is_waiting = any(each is entry for each in self._waiting)
        if entry is None:
            return None
        if not is_waiting:
            return TaskStatus(TaskState.RUNNING)
        if entry.task.delay:
            due = entry.since + timedelta(seconds=entry.task.delay)
            return TaskStatus(TaskState.DELAYED, due=due)
        return TaskStatus(TaskState.QUEUED, since=entry.since)

    def _why_not_run(self, task_id: str) -> str | None:
        """Return why a task is not run, or None."""
        with self._lock:
            found = (each for each in self._waiting if each.task.task_id == task_id)
            entry = next(found, None)
            is_dropped = task_id in self._dropped
        if entry is None:
            return "`clear()` of what `swapped` returned has dropped it" if is_dropped else None
        if not _is_known(entry):
            return f"this process has no task {entry.task.task_name!r}"
        return (
            "it was only recorded; call `run()` of what `swapped` returned, or give it `run=True`"
        )


def _is_known(entry: _Entry) -> bool:
    return entry.runner.broker.find_task(entry.task.task_name) is not None
