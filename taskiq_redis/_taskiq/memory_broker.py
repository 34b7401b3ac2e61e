"""A blocking broker that runs tasks itself, for tests."""

from collections.abc import Generator
from copy import copy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from taskiq import (
    AckableMessage,
    AsyncBroker,
    AsyncTaskiqDecoratedTask,
    BrokerMessage,
    InMemoryBroker,
    TaskiqEvents,
    TaskiqMiddleware,
)

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.task_status import TaskState, TaskStatus
from taskiq_redis._taskiq.async_broker import TaskBroker
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.hooks import HookContext, is_shared, overriding
from taskiq_redis._taskiq.memory_results import BackendView, SyncInMemoryResultBackend
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.runner import Runner, join_task_groups
from taskiq_redis._taskiq.sharing import undo_rename
from taskiq_redis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from typing_extensions import Self

CANNOT_LISTEN = "A broker in memory runs tasks when they are sent. Nothing can listen to it."


class SyncInMemoryBroker(SyncBroker):
    """The blocking counterpart of taskiq's ``InMemoryBroker``: it runs tasks itself, for tests.

    taskiq's receiver runs the tasks, so dependencies, middlewares, labels, retries and timeouts
    work as in a worker. Sync tasks run in the thread that sends them, and see its database
    transaction. Async tasks, dependencies and hooks run on the event loop of one other thread.

    A task that fails has an error result, as in production. Delays are skipped: a delayed task, or
    a retry, runs at once.

    Args:
        sync_tasks_pool_size: number of threads for sync tasks that don't run in place. Default 4.
        max_stored_results: number of results to keep, -1 for all. Default 100, as in taskiq.
        cast_types: whether arguments are converted to the types of the task's parameters.
            Default True.
        propagate_exceptions: whether generators among the dependencies get the exception of their
            task. Default True.
        in_place: whether `kiq` waits until the task, and all that it sent, have ended. Otherwise,
            tasks run in the background, and `wait_all` waits for them. Default True.
        raise_errors: whether `kiq` raises the exception of a task that failed, after its last
            retry. Default False.
        hold_delayed: whether delayed tasks and retries wait until `run_delayed` is called. Default
            False: they run at once.

    Raises:
        InvalidOptionError: `raise_errors` needs `in_place`.
    """

    def __init__(
        self,
        sync_tasks_pool_size: int = 4,
        max_stored_results: int = 100,
        cast_types: bool = True,
        propagate_exceptions: bool = True,
        *,
        in_place: bool = True,
        raise_errors: bool = False,
        hold_delayed: bool = False,
    ) -> None:
        if raise_errors and not in_place:
            raise InvalidOptionError(
                option="raise_errors",
                problem="`kiq` returns before the task has ended",
                advice="Leave out `in_place=False`.",
            )
        super().__init__()
        worker = WorkerSide(self)
        self._runner = worker.runner = Runner(
            worker,
            in_place=in_place,
            raise_errors=raise_errors,
            hold_delayed=hold_delayed,
            pool_size=sync_tasks_pool_size,
            validate_params=cast_types,
            propagate_exceptions=propagate_exceptions,
        )
        # An instrumentation may have added some.
        for middleware in self.middlewares:
            middleware.set_broker(worker)
        self.with_result_backend(SyncInMemoryResultBackend(max_stored_results))

    @property
    def in_place(self) -> bool:
        """Whether `kiq` waits until the task has ended."""
        return self._runner.in_place

    @property
    def raise_errors(self) -> bool:
        """Whether `kiq` raises the exception of a task that failed."""
        return self._runner.raise_errors

    @property
    def hold_delayed(self) -> bool:
        """Whether delayed tasks wait until `run_delayed` is called."""
        return self._runner.hold_delayed

    def kick(self, message: BrokerMessage) -> None:
        """Run a message, or start to run it.

        Args:
            message: formatted message.

        Raises:
            UnknownTaskError: this process has no task of that name.
            InvalidOptionError: the label `delay` is not a number of seconds.
        """
        self._runner.kick(message)

    def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
        """Return what is known about a task: whether it has a result or progress, or is held.

        Args:
            task_id: ID of the task.
            queue_name: its queue, which makes no difference here.
        """
        status = super().status(task_id, queue_name)
        if status.state is TaskState.UNKNOWN and self._runner.is_held(task_id):
            return TaskStatus(TaskState.DELAYED)
        return status

    def listen(self) -> Generator[bytes | AckableMessage, None, None]:
        """Raise an error: the broker runs tasks when they are sent.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(CANNOT_LISTEN)

    def run_delayed(self) -> int:
        """Run the tasks that `hold_delayed` held, the shortest delay first.

        Tasks that they delay, such as their next retries, wait for the next call.

        Returns:
            The number of tasks that were run, or started.
        """
        held = self._runner.take_held()
        for message in held:
            self._runner.run(message)
        return len(held)

    def wait_all(self) -> None:
        """Wait until all tasks have ended that run in the background, and those that they sent.

        Raises:
            RuntimeError: an async task calls, and would wait for itself.
        """
        self._runner.wait_all()

    def startup(self) -> None:
        """Run the startup hooks of events, middlewares and the result backend.

        Those of clients and of workers. A twin leaves out middlewares and events that belong to
        its async broker.

        Raises:
            TypeError: taskiq calls it, or the result backend is an async one.
        """
        super().startup()
        if self._context is not None:
            self._fire(self._context, TaskiqEvents.WORKER_STARTUP)
            self._context.export()

    def shutdown(self) -> None:
        """Wait for running tasks, run the shutdown hooks, and end the threads of tasks.

        The broker can be used again.
        """
        self._runner.close()
        context = self._context or HookContext()
        self._fire(context, TaskiqEvents.WORKER_SHUTDOWN)
        super().shutdown()

    def _run_own_hooks(self, context: HookContext, hook: str) -> None:
        run_hooks(self, self._own_worker, context, hook)

    @property
    def _own_worker(self) -> "WorkerSide | None":
        """The broker that the tasks see; None in a twin of an async broker."""
        worker = self._runner.broker
        return worker if isinstance(worker, WorkerSide) else None

    def add_middlewares(self, *middlewares: TaskiqMiddleware) -> None:
        """Add middlewares; those of clients and those of workers all run here.

        A twin no longer gets those that are added to its async broker later.

        Args:
            middlewares: their hooks may be async or not.
        """
        super().add_middlewares(*middlewares)
        worker = self._own_worker
        if worker is not None:
            # They run in the worker, and send retries with it.
            for middleware in self.middlewares:
                middleware.set_broker(worker)

    def with_result_backend(self, result_backend: SyncResultBackend[Any]) -> "Self":
        """Set the result backend, and return the broker.

        Args:
            result_backend: blocking result backend. Default a `SyncInMemoryResultBackend`.

        Raises:
            TypeError: the result backend is an async one.
        """
        super().with_result_backend(result_backend)
        if isinstance(result_backend, SyncInMemoryResultBackend):
            result_backend._why_not_run = self._why_not_run
        return self

    def _why_not_run(self, task_id: str) -> str | None:
        if self._runner.is_held(task_id):
            return "it is delayed, and `hold_delayed` holds it until you call `run_delayed()`"
        return None


def run_hooks(
    broker: SyncBroker, worker: AsyncBroker | None, context: HookContext, hook: str
) -> None:
    """Run a hook of the middlewares that belong to a blocking broker, or to its own worker side.

    Args:
        broker: the blocking broker.
        worker: the broker that the tasks see. If it is no `WorkerSide`, it starts its middlewares
            itself.
        context: context of the hooks.
        hook: name of the hook.
    """
    for middleware in overriding(broker.middlewares, hook):
        owner = middleware.broker
        if not is_shared(middleware) or (isinstance(owner, WorkerSide) and owner is worker):
            context.run(getattr(middleware, hook))


class WorkerSide(TaskBroker):
    """The async broker that tasks and middlewares of a blocking broker in memory see.

    Args:
        owner: the blocking broker.
    """

    def __init__(self, owner: SyncBroker) -> None:
        self._owner = owner
        #: runs what tasks and middlewares send
        self.runner: Runner
        self._lock = ForkSafeLock()
        #: tasks of the blocking broker, as async tasks
        self._tasks: WeakKeyDictionary[Any, AsyncTaskiqDecoratedTask[Any, Any]] = (
            WeakKeyDictionary()
        )
        super().__init__()
        for name in _SHARED:
            # Its constructor has set them.
            vars(self).pop(name, None)
        self.result_backend = BackendView(lambda: owner.result_backend)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _SHARED:
                return getattr(self._owner, name)
            raise AttributeError(name)

    async def kick(self, message: BrokerMessage) -> None:
        """Run a message beside the task that sends it.

        Args:
            message: formatted message.
        """
        await self.runner.kick_async(message)

    async def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
        """Return what the blocking broker knows about a task."""
        return self._owner.status(task_id, queue_name)

    def listen(self) -> Any:
        """Raise an error: tasks run when they are sent."""
        raise RuntimeError(CANNOT_LISTEN)

    def find_task(self, task_name: str) -> AsyncTaskiqDecoratedTask[Any, Any] | None:
        """Return the task with a name as an async task, or None.

        Args:
            task_name: name of the task.
        """
        found = self._owner.find_task(task_name)
        if found is None or isinstance(found, AsyncTaskiqDecoratedTask):
            return found
        with self._lock:
            own = self._tasks.get(found)
            if own is None:
                # taskiq adds a suffix to the name of the function, each time.
                undo_rename(found.original_func)
                own = self._tasks[found] = self.decorator_class(
                    broker=self,
                    task_name=found.task_name,
                    original_func=found.original_func,
                    labels=copy(found.labels),
                    return_type=found.return_type,
                )
        return own


#: attributes of a worker side that are those of its owner, also if they are replaced
_SHARED = {
    "_queue_of",
    "custom_dependency_context",
    "dependency_overrides",
    "event_handlers",
    "formatter",
    "id_generator",
    "middlewares",
    "queue_name",
    "serializer",
    "state",
    "track_tasks",
}


def twin_of_broker(source: InMemoryBroker) -> SyncInMemoryBroker:
    """Return a blocking broker that runs the tasks of an async one.

    Args:
        source: taskiq's broker in memory.
    """
    twin = SyncInMemoryBroker()
    receiver = source.receiver
    twin._runner = Runner(
        source,
        validate_params=receiver.validate_params,
        propagate_exceptions=receiver.propagate_exceptions,
        pool_size=source.executor._max_workers,
    )
    join_task_groups(source, twin._runner)
    return twin
