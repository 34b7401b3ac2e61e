"""Replace brokers, result backends and schedule sources for a test."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from taskiq import AsyncBroker, ScheduleSource, TaskiqMiddleware
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.memory_schedules import MemorySchedules
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.hooks import is_shared
from taskiq_redis._taskiq.memory_broker import SyncInMemoryBroker, WorkerSide
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
#: attribute of a blocking broker: what its tasks see as their broker
_WORKER = "_swapped_worker"
#: attribute of what is replaced: its layers, the latest last
_LAYERS = "_swapped_layers"
_layers_lock = ForkSafeLock()
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
        #: by the ID of the async broker
        self._runners: dict[int, Runner] = {}
        #: schedules by the ID of the async source, or of a blocking one that has none
        self._schedules: dict[int, MemorySchedules] = {}

    def replace(self, given: Swappable) -> None:
        """Replace the methods of an object, and those of twins that are made of it later."""
        self._objects.append(given)
        self._replace_methods(given)

    def _replace_methods(self, given: Swappable) -> None:
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
                self._replace_methods(twin)

        observers.append(observe)
        self._stack.callback(observers.remove, observe)

    def _set(self, owner: object, attributes: dict[str, Any]) -> None:
        self._stack.callback(_replace(owner, attributes))

    def _results(self, replaced: Any) -> Results:
        return Results(replaced, self._store, self._sent._why_not_run)

    def _runner(self, broker: AsyncBroker) -> Runner:
        """Return what runs the tasks of a broker and of its twins."""
        runner = self._runners.get(id(broker))
        if runner is None:
            runner = Runner(broker, raise_errors=self._raise_errors, pool_size=POOL_SIZE)
            self._runners[id(broker)] = runner
            self._stack.callback(runner.close)
        return runner

    def _worker_of(self, broker: SyncBroker) -> AsyncBroker:
        """Return the async broker that the tasks of a blocking one see in their context."""
        source = source_of(broker)
        if isinstance(source, AsyncBroker):
            return source
        worker = _known_worker(broker) or WorkerSide(broker)
        # What tasks and middlewares send is recorded, too.
        self.replace(worker)
        for middleware in broker.middlewares:
            if middleware.broker is worker or not is_shared(middleware):
                middleware.set_broker(worker)
                self._stack.callback(_bind, middleware, broker)
        self._set(broker, {_WORKER: worker})
        return worker


def _known_worker(broker: SyncBroker) -> WorkerSide | None:
    """Return what a blocking broker has for a worker by itself, or in another `swapped`."""
    if isinstance(broker, SyncInMemoryBroker):
        return broker._own_worker
    return vars(broker).get(_WORKER)


def _bind(middleware: TaskiqMiddleware, broker: SyncBroker) -> None:
    """Bind a middleware to its broker again, or to the worker that another `swapped` uses."""
    sender: Any = _known_worker(broker) or broker
    middleware.set_broker(sender)


class _Layer:
    """What one `swapped` has replaced of an object.

    Args:
        values: what takes the place of attributes.
        before: what they were; `_MISSING` if there was nothing.
    """

    def __init__(self, values: dict[str, Any], before: dict[str, Any]) -> None:
        self.key = object()
        self.values = values
        self.before = before


def _replace(owner: object, values: dict[str, Any]) -> Callable[[], None]:
    """Replace attributes of an object, and return a function that restores them.

    That function holds no reference, so that code which makes a twin for each call can drop it.
    """
    attributes = vars(owner)
    with _layers_lock:
        layer = _Layer(values, {name: attributes.get(name, _MISSING) for name in values})
        attributes.update(values)
        attributes.setdefault(_LAYERS, []).append(layer)
    return partial(_restore, weakref.ref(owner), layer.key)


def _restore(reference: weakref.ReferenceType[object], key: object) -> None:
    """Restore an object, also below other layers that still replace it, as those of threads."""
    owner = reference()
    if owner is None:
        return
    attributes = vars(owner)
    with _layers_lock:
        layers: list[_Layer] = attributes[_LAYERS]
        index = next(index for index, layer in enumerate(layers) if layer.key is key)
        layer = layers.pop(index)
        for name, value in layer.values.items():
            upper = (each for each in layers[index:] if each.before.get(name) is value)
            target = next(upper, None)
            if target is not None:
                target.before[name] = layer.before[name]
            elif layer.before[name] is _MISSING:
                attributes.pop(name, None)
            else:
                attributes[name] = layer.before[name]
        if not layers:
            del attributes[_LAYERS]
