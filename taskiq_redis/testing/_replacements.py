"""The methods that replace those of brokers, result backends and schedule sources in tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

from taskiq import AsyncBroker, BrokerMessage, ScheduleSource, TaskiqEvents
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.utils import maybe_awaitable

from taskiq_redis import (
    PubSubBroker,
    PubSubClusterBroker,
    PubSubSentinelBroker,
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
)
from taskiq_redis._core.delays import DELAYED_LABEL, delay_of
from taskiq_redis._core.labels import QUEUE_LABEL
from taskiq_redis._core.memory_schedules import MemorySchedules
from taskiq_redis._core.task_status import TaskState, TaskStatus
from taskiq_redis._taskiq.async_broker import TaskBroker
from taskiq_redis._taskiq.backend_status import backend_status, blocking_backend_status
from taskiq_redis._taskiq.broker import SyncBroker, refusing_async_kickers
from taskiq_redis._taskiq.hooks import HookContext
from taskiq_redis._taskiq.memory_broker import run_hooks
from taskiq_redis._taskiq.memory_results import BackendView
from taskiq_redis._taskiq.memory_schedules import InMemoryScheduleSource, SyncInMemoryScheduleSource
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.runner import Runner
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis.exceptions import InvalidOptionError, NeedsRedisError
from taskiq_redis.testing._results import Results
from taskiq_redis.testing._sent import SentTasks

#: modules of classes whose methods talk to Redis
_ON_REDIS = ("taskiq_redis._async.", "taskiq_redis._sync.")
#: methods of such classes that don't talk to Redis
_LOCAL = {"find_task", "stop"}

#: brokers whose tasks can't be delayed
PUB_SUB = (
    PubSubBroker,
    PubSubClusterBroker,
    PubSubSentinelBroker,
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
)


@dataclass(frozen=True)
class Mode:
    """What to do with tasks that are sent.

    Args:
        run: whether to run them, not only record them.
        hold_delayed: whether to only record those with a delay.
    """

    run: bool
    hold_delayed: bool


def replacements_for(replaced: object, given: dict[str, Any]) -> dict[str, Any]:
    """Return the replacements for the methods of an object, by name.

    Those that need Redis and aren't given raise an error.

    Args:
        replaced: the object.
        given: replacements that need no Redis.
    """
    kind = type(replaced)
    refused: dict[str, Any] = {}
    for name in dir(kind):
        found = getattr(kind, name)
        if (
            not name.startswith(("_", "with_"))
            and name not in _LOCAL
            and callable(found)
            and str(getattr(found, "__module__", "")).startswith(_ON_REDIS)
        ):
            refused[name] = _refusal(repr(replaced), name)
    return {**refused, **given}


def _refusal(owner: str, method: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise NeedsRedisError(owner=owner, method=method)

    return refuse


def _methods(stand_in: object) -> dict[str, Any]:
    """Return the public methods of an object by their names."""
    return {
        name: getattr(stand_in, name)
        for name in dir(stand_in)
        if not name.startswith("_") and callable(getattr(type(stand_in), name, None))
    }


def for_results(
    replaced: AsyncResultBackend[Any] | SyncResultBackend[Any], results: Results
) -> dict[str, Any]:
    """Return replacements for a result backend.

    Args:
        replaced: the backend.
        results: its results in memory.
    """
    if isinstance(replaced, AsyncResultBackend):
        view = BackendView(lambda: results)
        # The `status` of any broker calls it.
        made = {**_methods(view), "_task_status": partial(backend_status, view)}
    else:
        made = {**_methods(results), "_task_status": partial(blocking_backend_status, results)}
    return replacements_for(replaced, made)


def for_source(
    replaced: ScheduleSource | SyncScheduleSource, schedules: MemorySchedules
) -> dict[str, Any]:
    """Return replacements for a schedule source.

    Args:
        replaced: the source.
        schedules: its schedules in memory.
    """
    stand_in = InMemoryScheduleSource()
    stand_in._schedules = schedules
    is_async = isinstance(replaced, ScheduleSource)
    chosen = stand_in if is_async else SyncInMemoryScheduleSource(stand_in)
    return replacements_for(replaced, _methods(chosen))


class _Recorder:
    """Records what a broker sends."""

    def __init__(
        self, broker: AsyncBroker | SyncBroker, runner: Runner, sent: SentTasks, mode: Mode
    ) -> None:
        self._broker = broker
        self._runner = runner
        self._sent = sent
        self._mode = mode
        #: whether to run the hooks of workers besides those of clients
        self.is_worker = mode.run and not broker.is_worker_process
        self._can_delay = not isinstance(broker, PUB_SUB)

    def record(self, message: BrokerMessage) -> bool:
        """Record a message, and return whether to run it now."""
        queue_name, delay = self._check(message)
        runs = self._mode.run and not (delay and self._mode.hold_delayed)
        return self._sent._record(message, self._runner, delay, queue_name, runs)

    def check(self, messages: Sequence[BrokerMessage]) -> None:
        """Raise what the broker raises before it sends any of some messages."""
        for message in messages:
            self._check(message)

    def _check(self, message: BrokerMessage) -> tuple[str | None, float]:
        """Return the queue and the delay of a message."""
        # It raises for what can't be the name of a queue, or isn't allowed.
        queue_of = getattr(self._broker, "_queue_of", None)
        if queue_of is None:
            own_queue = getattr(self._broker, "queue_name", None)
            queue_name = message.labels.get(QUEUE_LABEL) or own_queue
        else:
            queue_name = queue_of(message)
        if self._can_delay:
            return queue_name, delay_of(message.task_name, message.labels)
        if DELAYED_LABEL in message.labels:
            raise InvalidOptionError(
                option="delay",
                problem="published messages are not stored, so they can't be delayed",
                advice="Send the task with a list or stream broker, or schedule it.",
            )
        return queue_name, 0.0

    async def status_async(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
        """Return the status of a task for an async broker."""
        from_backend = await backend_status(self._broker.result_backend, task_id)
        return self._status(task_id, queue_name, from_backend)

    def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
        """Return the status of a task for a blocking broker."""
        from_backend = blocking_backend_status(self._broker.result_backend, task_id)
        return self._status(task_id, queue_name, from_backend)

    def _status(self, task_id: str, queue_name: str | None, from_backend: TaskStatus) -> TaskStatus:
        # Without `track_tasks`, only the result backend knows about tasks.
        tracks = getattr(self._broker, "track_tasks", False)
        if from_backend.state is TaskState.DONE or not tracks:
            return from_backend
        queue_name = queue_name or getattr(self._broker, "queue_name", None)
        return self._sent._status(task_id, queue_name) or from_backend


def for_async_broker(
    replaced: AsyncBroker, runner: Runner, sent: SentTasks, mode: Mode
) -> dict[str, Any]:
    """Return replacements for an async broker.

    Args:
        replaced: the broker.
        runner: runs its tasks.
        sent: records what it sends.
        mode: what to do with the tasks.
    """
    recorder = _Recorder(replaced, runner, sent, mode)

    async def kick(message: BrokerMessage) -> None:
        if recorder.record(message):
            await runner.run_async(message)

    async def kick_many(messages: Sequence[BrokerMessage]) -> None:
        recorder.check(messages)
        for message in messages:
            await kick(message)

    async def startup() -> None:
        # Not the broker's own, which connects.
        if isinstance(replaced, TaskBroker):
            await TaskBroker.startup(replaced)
        else:
            await AsyncBroker.startup(replaced)
        if recorder.is_worker:
            await _fire(replaced, TaskiqEvents.WORKER_STARTUP)

    async def shutdown() -> None:
        if recorder.is_worker:
            await _fire(replaced, TaskiqEvents.WORKER_SHUTDOWN)
        await AsyncBroker.shutdown(replaced)

    # Brokers of other packages have none.
    status = {"status": recorder.status_async} if isinstance(replaced, TaskBroker) else {}
    return replacements_for(
        replaced,
        {"kick": kick, "kick_many": kick_many, "startup": startup, "shutdown": shutdown, **status},
    )


async def _fire(broker: AsyncBroker, event: TaskiqEvents) -> None:
    for handler in broker.event_handlers[event]:
        await maybe_awaitable(handler(broker.state))


def for_blocking_broker(
    replaced: SyncBroker, runner: Runner, sent: SentTasks, mode: Mode
) -> dict[str, Any]:
    """Return replacements for a blocking broker.

    Args:
        replaced: the broker.
        runner: runs its tasks.
        sent: records what it sends.
        mode: what to do with the tasks.
    """
    recorder = _Recorder(replaced, runner, sent, mode)

    def kick(_self: SyncBroker, message: BrokerMessage) -> None:
        if recorder.record(message):
            runner.run(message)

    def kick_many(messages: Sequence[BrokerMessage]) -> None:
        recorder.check(messages)
        for message in messages:
            kick(replaced, message)

    def startup() -> None:
        SyncBroker.startup(replaced)
        if recorder.is_worker:
            _fire_blocking(replaced, TaskiqEvents.WORKER_STARTUP)

    def shutdown() -> None:
        if recorder.is_worker:
            _fire_blocking(replaced, TaskiqEvents.WORKER_SHUTDOWN)
        SyncBroker.shutdown(replaced)

    def run_own_hooks(context: HookContext, hook: str) -> None:
        run_hooks(replaced, runner.broker, context, hook)

    return replacements_for(
        replaced,
        {
            "_run_own_hooks": run_own_hooks,
            "kick": MethodType(refusing_async_kickers(kick), replaced),
            "kick_many": kick_many,
            "startup": startup,
            "shutdown": shutdown,
            "status": recorder.status,
        },
    )


def _fire_blocking(broker: SyncBroker, event: TaskiqEvents) -> None:
    context = HookContext()
    for handler in broker.event_handlers[event]:
        context.run(handler, broker.state)
    context.export()
