"""Replace brokers, result backends and schedule sources for a test."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from taskiq import AsyncBroker, ScheduleSource
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.memory_schedules import MemorySchedules
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.hooks import is_shared
from taskiq_redis._taskiq.memory_broker import WorkerSide
from taskiq_redis._taskiq.result_backend import SyncDummyResultBackend, SyncResultBackend
from taskiq_redis._taskiq.runner import Runner
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis._taskiq.twin_records import observers, relatives_of, source_of
from taskiq_redis.testing._replacements import (
    Mode,
    for_async_broker,
    for_blocking_broker,
    for_results,
    for_source,
)
from taskiq_redis.testing._results import Results
from taskiq_redis.testing._sent import SentTasks

Swappable = (
    AsyncBroker
    | SyncBroker
    | AsyncResultBackend[Any]
    | SyncResultBackend[Any]
    | ScheduleSource
    | SyncScheduleSource
)

_KINDS = (
    AsyncBroker,
    SyncBroker,
    AsyncResultBackend,
    SyncResultBackend,
    ScheduleSource,
    SyncScheduleSource,
)
#: number of threads for sync tasks that async code sends; each may wait for another one
POOL_SIZE = 100

_MISSING = object()
_lock = ForkSafeLock()


@contextmanager
def swapped(
    *objects: Swappable, run: bool = False, raise_errors: bool = False, hold_delayed: bool = False
) -> Iterator[SentTasks]:
    """Replace brokers, result backends and schedule sources, so that a test needs no Redis.

    The objects stay the same, so tasks that were declared on a broker before are sent by what takes
    its place. That also replaces the result backend of a broker, all blocking twins that `to_sync`
    has made of these objects or makes meanwhile, and the async objects whose twins they are.
    Results and schedules are in memory, and are gone when the block ends. Methods that need Redis,
    such as `listen`, raise `NeedsRedisError`.

    It is for the whole process: all threads and event loops. It can be nested.

    Args:
        objects: what to replace: brokers, result backends and schedule sources, async or blocking.
        run: whether to run the tasks, too, by taskiq's receiver. `kiq` returns when a task, and all
            that it sent, have ended. Sync tasks that blocking code sends run in its thread.
            Default False: only record them.
        raise_errors: whether `kiq` raises the exception of a task that failed after its last
            retry. Default False: it is in the result.
        hold_delayed: whether tasks and retries with a delay are only recorded until you call
            `sent.run()`. Default False: with `run=True`, they run at once.

    Yields:
        The tasks that were sent.

    Raises:
        TypeError: an object is none of these.
    """
    sent = SentTasks()
    with ExitStack() as stack:
        swap = _Swap(stack, sent, Mode(run=run, hold_delayed=hold_delayed), raise_errors)
        with _lock:
            for each in list(_with_relatives(objects)):
                swap.replace(each)
            swap.replace_new_twins()
        yield sent


def _with_relatives(objects: Iterable[object]) -> Iterator[Any]:
    """Return each object once, with its twins, and brokers with their result backends."""
    seen: set[int] = set()
    waiting = list(objects)
    if not waiting:
        raise TypeError("Give the brokers, result backends and schedule sources to replace.")
    while waiting:
        given = waiting.pop(0)
        if id(given) in seen:
            continue
        if not isinstance(given, _KINDS):
            raise TypeError(
                f"{given!r} is not a broker, a result backend or a schedule source, so it can't be "
                "replaced for a test."
            )
        seen.add(id(given))
        yield given
        waiting += relatives_of(given)
        if isinstance(given, AsyncBroker | SyncBroker):
            waiting.append(given.result_backend)


class _Swap:
    """The replacements of one test.

    Args:
        stack: restores the objects.
        sent: records what is sent.
        mode: what to do with the tasks.
        raise_errors: whether sending a task raises what the task raised.
    """

    def __init__(self, stack: ExitStack, sent: SentTasks, mode: Mode, raise_errors: bool) -> None:
        self._stack = stack
        self._sent = sent
        self._mode = mode
        self._raise_errors = raise_errors
        self._store: InmemoryResultBackend[Any] = InmemoryResultBackend(max_stored_results=-1)
        self._objects: list[object] = []
        #: schedules by the ID of the async source, or of a blocking one that has none
        self._schedules: dict[int, MemorySchedules] = {}

    def replace(self, given: Swappable) -> None:
        """Replace the methods of an object."""
        self._objects.append(given)
        if isinstance(given, DummyResultBackend | SyncDummyResultBackend):
            return
        if isinstance(given, AsyncBroker):
            runner = self._runner(given)
            self._set(given, for_async_broker(given, runner, self._sent, self._mode))
        elif isinstance(given, SyncBroker):
            worker = self._worker_of(given)
            replacements = for_blocking_broker(given, self._runner(worker), self._sent, self._mode)
            self._set(given, replacements)
        elif isinstance(given, AsyncResultBackend | SyncResultBackend):
            self._set(given, for_results(given, self._results(given)))
        else:
            shared = self._schedules.setdefault(id(source_of(given) or given), MemorySchedules())
            self._set(given, for_source(given, shared))

    def replace_new_twins(self) -> None:
        """From now on, replace the methods of twins when they are made of replaced objects."""

        def observe(source: object, twin: Any) -> None:
            if any(source is each for each in self._objects):
                self.replace(twin)

        observers.append(observe)
        self._stack.callback(observers.remove, observe)

    def _set(self, owner: object, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            before = vars(owner).get(name, _MISSING)
            vars(owner)[name] = value
            self._stack.callback(_restore, owner, name, before)

    def _results(self, replaced: Any) -> Results:
        return Results(replaced, self._store, self._sent._why_not_run)

    def _runner(self, broker: AsyncBroker) -> Runner:
        runner = Runner(broker, raise_errors=self._raise_errors, pool_size=POOL_SIZE)
        self._stack.callback(runner.close)
        return runner

    def _worker_of(self, broker: SyncBroker) -> AsyncBroker:
        """Return the async broker that the tasks of a blocking one see in their context."""
        source = source_of(broker)
        if isinstance(source, AsyncBroker):
            return source
        worker = WorkerSide(broker)
        # What tasks and middlewares send is recorded, too.
        self.replace(worker)
        for middleware in broker.middlewares:
            if not is_shared(middleware):
                middleware.set_broker(worker)
                blocking: Any = broker
                self._stack.callback(middleware.set_broker, blocking)
        return worker


def _restore(owner: object, name: str, before: Any) -> None:
    if before is _MISSING:
        vars(owner).pop(name, None)
    else:
        vars(owner)[name] = before
