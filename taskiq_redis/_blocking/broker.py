"""What a blocking broker is."""

import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints, overload

from taskiq import (
    AckableMessage,
    AsyncBroker,
    AsyncTaskiqDecoratedTask,
    BrokerMessage,
    TaskiqEvents,
    TaskiqMiddleware,
    TaskiqState,
)
from taskiq.abc.broker import default_id_generator
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.serializers import JSONSerializer
from taskiq.warnings import TaskiqDeprecationWarning

from taskiq_redis._blocking.decor import SyncTaskiqDecoratedTask
from taskiq_redis._blocking.kicker import SyncKicker
from taskiq_redis._blocking.portal import resolve
from taskiq_redis._blocking.result_backend import SyncDummyResultBackend, SyncResultBackend
from taskiq_redis._blocking.sharing import default_name, share, undo_rename

if TYPE_CHECKING:
    from typing_extensions import Self

Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")
AnyTask = SyncTaskiqDecoratedTask[Any, Any] | AsyncTaskiqDecoratedTask[Any, Any]
EventHandler = Callable[[TaskiqState], Awaitable[None] | None]

logger = logging.getLogger("taskiq_redis")


class SyncBroker(ABC):
    """The blocking counterpart of taskiq's ``AsyncBroker``; it may be shared by threads.

    A task that is declared on it is known to every async broker of the process, so a ``taskiq
    worker`` that imports its module runs it.

    Args:
        result_backend: where results go; better set by `with_result_backend`.
        task_id_generator: makes the ids of new tasks; better set by `with_id_generator`.
    """

    def __init__(
        self,
        result_backend: SyncResultBackend[Any] | None = None,
        task_id_generator: Callable[[], str] | None = None,
    ) -> None:
        if result_backend is None:
            result_backend = SyncDummyResultBackend()
        else:
            _warn_deprecated(self, "result_backend", "with_result_backend")
        if task_id_generator is None:
            task_id_generator = default_id_generator
        else:
            _warn_deprecated(self, "task_id_generator", "with_id_generator")
        self.middlewares: list[TaskiqMiddleware] = []
        self.result_backend = _checked(result_backend)
        #: makes the tasks of this broker, and by their `kicker()` everything that it sends
        self.decorator_class: type[SyncTaskiqDecoratedTask[Any, Any]] = SyncTaskiqDecoratedTask
        self.serializer: TaskiqSerializer = JSONSerializer()
        self.formatter: TaskiqFormatter = _formatter(self)
        self.id_generator = task_id_generator
        self.local_task_registry: dict[str, SyncTaskiqDecoratedTask[Any, Any]] = {}
        #: the tasks of the async broker whose twin this is
        self.async_task_registry: dict[str, AsyncTaskiqDecoratedTask[Any, Any]] = {}
        self.event_handlers: defaultdict[TaskiqEvents, list[EventHandler]] = defaultdict(list)
        self.state = TaskiqState()
        self.custom_dependency_context: dict[Any, Any] = {}
        self.dependency_overrides: dict[Any, Any] = {}
        self.is_worker_process = False
        self.is_scheduler_process = False

    @abstractmethod
    def kick(self, message: BrokerMessage) -> None:
        """Send a message.

        Args:
            message: what the formatter made; only its bytes travel.
        """

    def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as the broker can.

        Args:
            messages: what the formatter made.
        """
        for message in messages:
            self.kick(message)

    @abstractmethod
    def listen(self) -> Generator[bytes | AckableMessage, None, None]:
        """Yield messages as they come."""

    def startup(self) -> None:
        """Run the startup hooks of events, middlewares and the result backend.

        Sending needs no startup.
        """
        worker = self.is_worker_process
        self._fire(TaskiqEvents.WORKER_STARTUP if worker else TaskiqEvents.CLIENT_STARTUP)
        for middleware in self.middlewares:
            if type(middleware).startup is not TaskiqMiddleware.startup:
                resolve(middleware.startup())
        self.result_backend.startup()

    def shutdown(self) -> None:
        """Run the shutdown hooks of events, middlewares and the result backend."""
        worker = self.is_worker_process
        self._fire(TaskiqEvents.WORKER_SHUTDOWN if worker else TaskiqEvents.CLIENT_SHUTDOWN)
        for middleware in self.middlewares:
            if type(middleware).shutdown is not TaskiqMiddleware.shutdown:
                resolve(middleware.shutdown())
        self.result_backend.shutdown()

    def _fire(self, event: TaskiqEvents) -> None:
        for handler in self.event_handlers[event]:
            resolve(handler(self.state))

    def __enter__(self) -> "Self":
        self.startup()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @overload
    def task(
        self, task_name: Callable[Params, ReturnType], **labels: Any
    ) -> SyncTaskiqDecoratedTask[Params, ReturnType]: ...

    @overload
    def task(
        self, task_name: str | None = None, **labels: Any
    ) -> Callable[[Callable[Params, ReturnType]], SyncTaskiqDecoratedTask[Params, ReturnType]]: ...

    def task(self, task_name: Any = None, **labels: Any) -> Any:
        """Declare a function to be a task; a decorator, with or without parentheses.

        Args:
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.

        Raises:
            TypeError: it is a task already.
        """
        if callable(task_name):
            return self.register_task(task_name, **labels)
        return lambda function: self.register_task(function, task_name, **labels)

    def register_task(
        self, func: Callable[Params, ReturnType], task_name: str | None = None, **labels: Any
    ) -> SyncTaskiqDecoratedTask[Params, ReturnType]:
        """Declare a function to be a task.

        Args:
            func: the function.
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.

        Raises:
            TypeError: it is a task already.
        """
        if isinstance(func, SyncTaskiqDecoratedTask | AsyncTaskiqDecoratedTask):
            raise TypeError(f"{func!r} is a task already. Send it by `broker.kicker(task)`.")
        undo_rename(func)
        name = default_name(func) if task_name is None else task_name
        task = self.decorator_class(
            broker=self,
            task_name=name,
            original_func=func,
            labels=labels,
            return_type=get_type_hints(func).get("return"),
        )
        update_wrapper(task, func)
        share(task)
        self.local_task_registry[name] = task
        return task

    def find_task(self, task_name: str) -> AnyTask | None:
        """Find a task by its name: here, on the async broker whose twin this is, or anywhere.

        Args:
            task_name: its name.
        """
        return (
            self.local_task_registry.get(task_name)
            or self.async_task_registry.get(task_name)
            or AsyncBroker.global_task_registry.get(task_name)
        )

    def get_all_tasks(self) -> dict[str, AnyTask]:
        """Return all tasks that this broker can send, by name; its own ones come first."""
        return {
            **AsyncBroker.global_task_registry,
            **self.async_task_registry,
            **self.local_task_registry,
        }

    @overload
    def kicker(
        self, task: SyncTaskiqDecoratedTask[Params, ReturnType]
    ) -> SyncKicker[Params, ReturnType]: ...

    @overload
    def kicker(
        self, task: AsyncTaskiqDecoratedTask[Params, ReturnType]
    ) -> SyncKicker[Params, ReturnType]: ...

    @overload
    def kicker(self, task: str) -> SyncKicker[..., Any]: ...

    def kicker(self, task: Any) -> Any:
        """Return what sends a task with this broker, wherever the task was declared.

        Args:
            task: a task of this or another broker, async or not; or the name of one, which
                needn't be known here. A name that is known brings its labels and return type.

        Raises:
            TypeError: it is something else, such as a function that is no task.
        """
        found = self._known(task) if isinstance(task, str) else task
        if not isinstance(found, SyncTaskiqDecoratedTask | AsyncTaskiqDecoratedTask):
            raise TypeError(
                f"{found!r} is not a task. Declare it with @broker.task, or give a task's name."
            )
        own = self.decorator_class(
            broker=self,
            task_name=found.task_name,
            original_func=found.original_func,
            labels=found.labels,
            return_type=found.return_type,
        )
        return own.kicker()

    def _known(self, task_name: str) -> AnyTask:
        """Find a task, or make one of nothing but its name."""
        return self.find_task(task_name) or self.decorator_class(
            broker=self, task_name=task_name, original_func=_elsewhere, labels={}
        )

    def add_dependency_context(self, new_ctx: dict[Any, Any]) -> None:
        """Add values for dependencies.

        Args:
            new_ctx: by type.
        """
        self.custom_dependency_context.update(new_ctx)

    def on_event(self, *events: TaskiqEvents) -> Callable[[EventHandler], EventHandler]:
        """Call a function when something happens; a decorator.

        Args:
            events: what happens.
        """

        def add(handler: EventHandler) -> EventHandler:
            for event in events:
                self.add_event_handler(event, handler)
            return handler

        return add

    def add_event_handler(self, event: TaskiqEvents, handler: EventHandler) -> None:
        """Call a function when something happens.

        Args:
            event: what happens.
            handler: the function, async or not; it gets the broker's state.
        """
        self.event_handlers[event].append(handler)

    def add_middlewares(self, *middlewares: TaskiqMiddleware) -> None:
        """Add middlewares, and bind them to this broker.

        Args:
            middlewares: their hooks may be async or not.
        """
        given: tuple[object, ...] = middlewares
        for middleware in given:
            if not isinstance(middleware, TaskiqMiddleware):
                logger.warning("%r is not a TaskiqMiddleware, and is left out.", middleware)
                continue
            broker: Any = self
            middleware.set_broker(broker)
            self.middlewares.append(middleware)

    def with_middlewares(self, *middlewares: TaskiqMiddleware) -> "Self":
        """Add middlewares, and return the broker.

        Args:
            middlewares: their hooks may be async or not.
        """
        self.add_middlewares(*middlewares)
        return self

    def with_event_handlers(self, event: TaskiqEvents, *handlers: EventHandler) -> "Self":
        """Add handlers of an event, and return the broker.

        Args:
            event: what happens.
            handlers: functions, async or not; they get the broker's state.
        """
        for handler in handlers:
            self.add_event_handler(event, handler)
        return self

    def with_result_backend(self, result_backend: SyncResultBackend[Any]) -> "Self":
        """Set where results go, and return the broker.

        Args:
            result_backend: a blocking result backend.

        Raises:
            TypeError: it is an async one.
        """
        self.result_backend = _checked(result_backend)
        return self

    def with_id_generator(self, task_id_generator: Callable[[], str]) -> "Self":
        """Set what makes the ids of new tasks, and return the broker.

        Args:
            task_id_generator: returns a new id at each call; called by any thread.
        """
        self.id_generator = task_id_generator
        return self

    def with_serializer(self, serializer: TaskiqSerializer) -> "Self":
        """Set what turns messages into bytes, and return the broker.

        Args:
            serializer: the one that the workers have. Default taskiq's ``JSONSerializer``.
        """
        self.serializer = serializer
        return self

    def with_formatter(self, formatter: TaskiqFormatter) -> "Self":
        """Set what makes a broker's message of taskiq's, and return the broker.

        Args:
            formatter: the one that the workers have. Default taskiq's ``ProxyFormatter``.
        """
        self.formatter = formatter
        return self


def _formatter(broker: Any) -> TaskiqFormatter:
    # It asks its broker for the serializer only.
    return ProxyFormatter(broker)


def _checked(result_backend: SyncResultBackend[Any]) -> SyncResultBackend[Any]:
    if not isinstance(result_backend, SyncResultBackend):
        raise TypeError(
            f"{type(result_backend).__name__} is not a blocking result backend. "
            "Give a Sync... backend, or the twin of yours: to_sync(result_backend)."
        )
    return result_backend


def _elsewhere(*_args: Any, **_kwargs: Any) -> Any:
    raise NotImplementedError("Only the name of this task is known here; its workers can run it.")


def _warn_deprecated(broker: object, parameter: str, method: str) -> None:
    """Warn as taskiq does, and name the line that called the constructor of the public class."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_locals.get("self") is broker:
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"`{parameter}` of the constructor is deprecated in taskiq. Use `{method}`.",
        TaskiqDeprecationWarning,
        stacklevel=level,
    )
