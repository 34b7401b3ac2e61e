"""The base class of blocking brokers."""

import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import update_wrapper, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints, overload

import taskiq.kicker
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

from taskiq_redis._core.task_status import TaskStatus
from taskiq_redis._taskiq.backend_status import blocking_backend_status
from taskiq_redis._taskiq.decorated_task import SyncTaskiqDecoratedTask
from taskiq_redis._taskiq.hooks import HookContext, is_shared, overriding
from taskiq_redis._taskiq.kicker import SyncKicker
from taskiq_redis._taskiq.misuse import Blocking
from taskiq_redis._taskiq.result_backend import SyncDummyResultBackend, SyncResultBackend
from taskiq_redis._taskiq.sharing import default_name, share, undo_rename

if TYPE_CHECKING:
    from typing_extensions import Self

Params = ParamSpec("Params")
ReturnType = TypeVar("ReturnType")
AnyTask = SyncTaskiqDecoratedTask[Any, Any] | AsyncTaskiqDecoratedTask[Any, Any]
EventHandler = Callable[[TaskiqState], Awaitable[None] | None]

#: global variables of taskiq's kicker, by which a call of its code is recognized
TASKIQ_KICKER = vars(taskiq.kicker)

logger = logging.getLogger("taskiq_redis")


class SyncBroker(Blocking, ABC):
    """The blocking counterpart of taskiq's ``AsyncBroker``; threads may share it.

    Its tasks are registered with every async broker of the process, so a ``taskiq worker`` that
    imports their module runs them.

    Args:
        result_backend: backend for results; deprecated, use `with_result_backend`.
        task_id_generator: generator of task ids; deprecated, use `with_id_generator`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kick" in vars(cls):
            setattr(cls, "kick", refusing_async_kickers(vars(cls)["kick"]))  # noqa: B010 - typed

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
        _instrument(self)
        self.result_backend: SyncResultBackend[Any] = _checked(result_backend)
        #: class of the broker's tasks, whose `kicker()` sends them
        self.decorator_class: type[SyncTaskiqDecoratedTask[Any, Any]] = SyncTaskiqDecoratedTask
        self.serializer: TaskiqSerializer = JSONSerializer()
        self.formatter: TaskiqFormatter = _formatter(self)
        self.id_generator: Callable[[], str] = task_id_generator
        self.local_task_registry: dict[str, SyncTaskiqDecoratedTask[Any, Any]] = {}
        #: tasks of the async broker whose twin this is
        self.async_task_registry: dict[str, AsyncTaskiqDecoratedTask[Any, Any]] = {}
        self.event_handlers: defaultdict[TaskiqEvents, list[EventHandler]] = defaultdict(list)
        self.state: TaskiqState = TaskiqState()
        self.custom_dependency_context: dict[Any, Any] = {}
        self.dependency_overrides: dict[Any, Any] = {}
        self.is_worker_process: bool = False
        self.is_scheduler_process: bool = False
        #: context of the startup hooks, for those of the shutdown
        self._context: HookContext | None = None
        #: whether the list of middlewares is that of the async broker whose twin this is
        self._shares_middlewares = False

    @abstractmethod
    def kick(self, message: BrokerMessage) -> None:
        """Send a message.

        Args:
            message: formatted message, of which only the bytes are sent.
        """

    def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as possible.

        Args:
            messages: formatted messages.
        """
        for message in messages:
            self.kick(message)

    def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:  # noqa: ARG002
        """Return what the result backend knows about a task: its result, or its progress.

        Args:
            task_id: ID of the task.
            queue_name: its queue, which makes no difference here. Default this broker's.
        """
        return blocking_backend_status(self.result_backend, task_id)

    @abstractmethod
    def listen(self) -> Generator[bytes | AckableMessage, None, None]:
        """Yield messages as they arrive."""

    def startup(self) -> None:
        """Run the startup hooks of events, middlewares and the result backend.

        You can send tasks without it. A twin leaves out middlewares that belong to its async
        broker.

        Raises:
            TypeError: taskiq calls it, or the result backend is an async one.
        """
        self._check_caller()
        _checked(self.result_backend)
        context = HookContext()
        worker = self.is_worker_process
        self._fire(context, TaskiqEvents.WORKER_STARTUP if worker else TaskiqEvents.CLIENT_STARTUP)
        self._run_own_hooks(context, "startup")
        self.result_backend.startup()
        # As after the startup of an async broker, which runs in the caller's context.
        context.export()
        self._context = context

    def shutdown(self) -> None:
        """Run the shutdown hooks of events, middlewares and the result backend.

        They have the context of the startup hooks. A twin leaves out middlewares that belong to
        its async broker.
        """
        context, self._context = self._context or HookContext(), None
        context.refresh()
        worker = self.is_worker_process
        event = TaskiqEvents.WORKER_SHUTDOWN if worker else TaskiqEvents.CLIENT_SHUTDOWN
        self._fire(context, event)
        self._run_own_hooks(context, "shutdown")
        self.result_backend.shutdown()

    def _fire(self, context: HookContext, event: TaskiqEvents) -> None:
        for handler in self.event_handlers[event]:
            context.run(handler, self.state)

    def _run_own_hooks(self, context: HookContext, hook: str) -> None:
        for middleware in overriding(self.middlewares, hook):
            if not is_shared(middleware):
                context.run(getattr(middleware, hook))

    @overload
    def task(
        self, task_name: Callable[Params, ReturnType], **labels: Any
    ) -> SyncTaskiqDecoratedTask[Params, ReturnType]: ...

    @overload
    def task(
        self, task_name: str | None = None, **labels: Any
    ) -> Callable[[Callable[Params, ReturnType]], SyncTaskiqDecoratedTask[Params, ReturnType]]: ...

    def task(self, task_name: Any = None, **labels: Any) -> Any:
        """Declare a function as a task; a decorator, with or without parentheses.

        Args:
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.

        Raises:
            TypeError: the function is a task already.
        """
        if callable(task_name):
            return self.register_task(task_name, **labels)
        return lambda function: self.register_task(function, task_name, **labels)

    def register_task(
        self, func: Callable[Params, ReturnType], task_name: str | None = None, **labels: Any
    ) -> SyncTaskiqDecoratedTask[Params, ReturnType]:
        """Declare a function as a task.

        Args:
            func: function of the task.
            task_name: name of the task. Default ``module:function``.
            labels: labels of the task.

        Raises:
            TypeError: the function is a task already.
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
        share(self, task.task_name, task.original_func, task.labels, task.return_type)
        self.local_task_registry[name] = task
        return task

    def find_task(self, task_name: str) -> AnyTask | None:
        """Return the task with a name, or None.

        Search this broker, then the async broker whose twin it is, then the whole process.

        Args:
            task_name: name of the task.
        """
        return (
            self.local_task_registry.get(task_name)
            or self.async_task_registry.get(task_name)
            or AsyncBroker.global_task_registry.get(task_name)
        )

    def get_all_tasks(self) -> dict[str, AnyTask]:
        """Return all tasks that this broker can send, by name; its local tasks take precedence."""
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
        """Return a kicker that sends a task with this broker, wherever the task was declared.

        Args:
            task: a task of this or another broker, async or blocking; or the name of a task, which
                may be unknown to this process. A known task has its labels and its return type.

        Raises:
            TypeError: the argument is neither a task nor a name.
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
        """Return the task with a name, or a placeholder for a task that this process lacks."""
        return self.find_task(task_name) or self.decorator_class(
            broker=self, task_name=task_name, original_func=_placeholder, labels={}
        )

    def add_dependency_context(self, new_ctx: dict[Any, Any]) -> None:
        """Add values for dependencies.

        Args:
            new_ctx: values by type.
        """
        self.custom_dependency_context.update(new_ctx)

    def on_event(self, *events: TaskiqEvents) -> Callable[[EventHandler], EventHandler]:
        """Add the decorated function as a handler of events.

        Args:
            events: events to handle.
        """

        def add(handler: EventHandler) -> EventHandler:
            for event in events:
                self.add_event_handler(event, handler)
            return handler

        return add

    def add_event_handler(self, event: TaskiqEvents, handler: EventHandler) -> None:
        """Add a handler of an event.

        Args:
            event: event to handle.
            handler: function to call with the broker's state, async or not.
        """
        self.event_handlers[event].append(handler)

    def add_middlewares(self, *middlewares: TaskiqMiddleware) -> None:
        """Add middlewares, and bind them to this broker.

        A twin no longer gets those that are added to its async broker later.

        Args:
            middlewares: their hooks may be async or not.
        """
        if self._shares_middlewares:
            self.middlewares = list(self.middlewares)
            self._shares_middlewares = False
        given: tuple[object, ...] = middlewares
        for middleware in given:
            if not isinstance(middleware, TaskiqMiddleware):
                logger.warning("%r is not a TaskiqMiddleware and is ignored.", middleware)
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
            event: event to handle.
            handlers: functions to call with the broker's state, async or not.
        """
        for handler in handlers:
            self.add_event_handler(event, handler)
        return self

    def with_result_backend(self, result_backend: SyncResultBackend[Any]) -> "Self":
        """Set the result backend, and return the broker.

        Args:
            result_backend: blocking result backend.

        Raises:
            TypeError: the result backend is an async one.
        """
        self.result_backend = _checked(result_backend)
        return self

    def with_id_generator(self, task_id_generator: Callable[[], str]) -> "Self":
        """Set the generator of task ids, and return the broker.

        Args:
            task_id_generator: function that returns a new id; any thread may call it.
        """
        self.id_generator = task_id_generator
        return self

    def with_serializer(self, serializer: TaskiqSerializer) -> "Self":
        """Set the serializer of messages, and return the broker.

        Args:
            serializer: serializer that the workers use too. Default taskiq's ``JSONSerializer``.
        """
        self.serializer = serializer
        return self

    def with_formatter(self, formatter: TaskiqFormatter) -> "Self":
        """Set the formatter of messages, and return the broker.

        Args:
            formatter: formatter that the workers use too. Default taskiq's ``ProxyFormatter``.
        """
        self.formatter = formatter
        return self


def refusing_async_kickers(kick: Callable[..., None]) -> Callable[..., None]:
    """Return a `kick` that taskiq's kicker can't call: it would await None after the send.

    Args:
        kick: method of a blocking broker.
    """

    @wraps(kick)
    def checked_kick(self: Any, message: BrokerMessage) -> None:
        if sys._getframe(1).f_globals is TASKIQ_KICKER:
            raise TypeError(
                "taskiq's AsyncKicker, and so a Pipeline of taskiq-pipelines, can't send with "
                f"{type(self).__name__}, which is a blocking broker. Give it an async broker, such "
                "as the one whose twin this is, and await it: asyncio.run(pipeline.kiq(...))."
            )
        kick(self, message)

    return checked_kick


def _instrument(broker: Any) -> None:
    """Add taskiq's OpenTelemetry middleware, if `TaskiqInstrumentor().instrument()` was called.

    That reaches async brokers only.
    """
    module = sys.modules.get("taskiq.instrumentation")
    if module is not None:
        instrumentor = module.TaskiqInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument_broker(broker)


def _formatter(broker: Any) -> TaskiqFormatter:
    # It is typed for an async broker, but uses only the serializer.
    return ProxyFormatter(broker)


def _checked(result_backend: SyncResultBackend[Any]) -> SyncResultBackend[Any]:
    if not isinstance(result_backend, SyncResultBackend):
        raise TypeError(
            f"{type(result_backend).__name__} is not a blocking result backend. "
            "Give a Sync... backend, or the twin of yours: to_sync(result_backend)."
        )
    return result_backend


def _placeholder(*_args: Any, **_kwargs: Any) -> Any:
    raise NotImplementedError("This process knows only the name of the task; its workers run it.")


def _warn_deprecated(broker: object, parameter: str, method: str) -> None:
    """Warn as taskiq does, at the line that calls the constructor of the public class."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_locals.get("self") is broker:
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"`{parameter}` of the constructor is deprecated in taskiq. Use `{method}`.",
        TaskiqDeprecationWarning,
        stacklevel=level,
    )
