"""What a blocking broker is."""

import logging
import os
import sys
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
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
from taskiq.brokers.shared_broker import async_shared_broker
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.serializers import JSONSerializer
from taskiq.warnings import TaskiqDeprecationWarning

from taskiq_redis._blocking.decor import SyncTaskiqDecoratedTask
from taskiq_redis._blocking.kicker import SyncKicker
from taskiq_redis._blocking.portal import resolve
from taskiq_redis._blocking.result_backend import SyncDummyResultBackend, SyncResultBackend

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
        if result_backend is not None:
            _deprecated("result_backend", "with_result_backend")
        if task_id_generator is not None:
            _deprecated("task_id_generator", "with_id_generator")
        self.middlewares: list[TaskiqMiddleware] = []
        self.result_backend: SyncResultBackend[Any] = _checked(
            result_backend or SyncDummyResultBackend()
        )
        self.decorator_class = SyncTaskiqDecoratedTask
        self.serializer: TaskiqSerializer = JSONSerializer()
        self.formatter: TaskiqFormatter = _formatter(self)
        self.id_generator = task_id_generator or default_id_generator
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
        """
        name = task_name or _task_name(func)
        return_type = get_type_hints(func).get("return")
        task = self.decorator_class(self, name, func, labels, return_type)
        update_wrapper(task, func)
        self.local_task_registry[name] = task
        self._share(name, func, labels, return_type)
        return task

    def _share(
        self, name: str, func: Callable[..., Any], labels: dict[str, Any], return_type: Any
    ) -> None:
        """Make a task known to async workers; taskiq renames the function for its process pool."""
        if name not in AsyncBroker.global_task_registry:
            AsyncBroker.global_task_registry[name] = async_shared_broker.decorator_class(
                broker=async_shared_broker,
                task_name=name,
                original_func=func,
                labels=dict(labels),
                return_type=return_type,
            )

    def find_task(self, task_name: str) -> AnyTask | None:
        """Find a task by its name: here, on the async broker whose twin this is, or anywhere.

        Args:
            task_name: its name.
        """
        return self.get_all_tasks().get(task_name)

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
        found = self.find_task(task) if isinstance(task, str) else task
        if found is None:
            return SyncKicker(task, self, {})
        if not isinstance(found, SyncTaskiqDecoratedTask | AsyncTaskiqDecoratedTask):
            raise TypeError(
                f"{found!r} is not a task. Declare it with @broker.task, or give a task's name."
            )
        return SyncKicker(found.task_name, self, dict(found.labels), found.return_type)

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
        """Add middlewares, and return the broker."""
        self.add_middlewares(*middlewares)
        return self

    def with_event_handlers(self, event: TaskiqEvents, *handlers: EventHandler) -> "Self":
        """Add handlers of an event, and return the broker."""
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
        """Set what makes the ids of new tasks, and return the broker."""
        self.id_generator = task_id_generator
        return self

    def with_serializer(self, serializer: TaskiqSerializer) -> "Self":
        """Set what turns messages into bytes, and return the broker."""
        self.serializer = serializer
        return self

    def with_formatter(self, formatter: TaskiqFormatter) -> "Self":
        """Set what makes a broker's message of taskiq's, and return the broker."""
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


def _task_name(func: Callable[..., Any]) -> str:
    """Name a task as taskiq does, so that workers find it by that name."""
    module = func.__module__
    if module == "__main__":
        path = os.path.normpath(sys.argv[0]).removesuffix(".py")
        module = ".".join(path.split(os.path.sep))
    name = func.__name__
    return f"{module}:lambda_{uuid.uuid4().hex}" if name == "<lambda>" else f"{module}:{name}"


def _deprecated(parameter: str, method: str) -> None:
    warnings.warn(
        f"`{parameter}` of the constructor is deprecated in taskiq. Use `{method}`.",
        TaskiqDeprecationWarning,
        stacklevel=3,
    )
