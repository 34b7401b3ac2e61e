"""Run hooks of middlewares and event handlers: in which context, and on which event loop."""

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from taskiq import AsyncBroker, TaskiqMiddleware
from taskiq.utils import maybe_awaitable

from taskiq_redis._core.process import process_id
from taskiq_redis._taskiq.portal import close_unstarted, resolve, resolve_on

T = TypeVar("T")

#: hooks that a client runs
CLIENT_HOOKS = ("startup", "pre_send", "post_send", "shutdown")

#: attribute of async brokers: the event loop that ran hooks last, and its process
_HOOKS_LOOP = "_hooks_loop"

_MISSING = object()


class HookContext:
    """One copy of the caller's context for hooks that belong together, such as those of a send.

    A variable that a hook sets in it, such as the current span, is visible only to the other hooks.
    They can reset it, whatever thread they run on.
    """

    def __init__(self) -> None:
        self._context = copy_context()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in this context, and return what it returns.

        Args:
            function: function to call.
            args: its arguments.
        """
        return self._context.run(function, *args)

    def run(
        self,
        hook: Callable[..., Any],
        *args: Any,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Any:
        """Run a hook, async or not, wait for it, and return its result.

        Args:
            hook: hook to run.
            args: its arguments.
            loop: event loop to run it on; None for this thread, or the portal if it is async.
        """
        if loop is None:
            value = self.call(hook, *args)
            if not inspect.isawaitable(value):
                return value
            try:
                return resolve(self.drive(value))
            finally:
                close_unstarted(value)
        return resolve_on(loop, self.drive(_call(hook, args)))

    async def run_async(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Run a hook, async or not, and return its result.

        Args:
            hook: hook to run.
            args: its arguments.
        """
        value = self.call(hook, *args)
        return await self.drive(value) if inspect.isawaitable(value) else value

    async def drive(self, awaitable: Awaitable[T]) -> T:
        """Return the result of an awaitable that runs in this context.

        Args:
            awaitable: the awaitable.
        """
        return await _drive(_await(awaitable), self._context)

    def refresh(self) -> None:
        """Copy the variables that the caller has changed since into this context."""
        for variable, value in copy_context().items():
            if self._context.get(variable, _MISSING) is not value:
                self._context.run(variable.set, value)

    def export(self) -> None:
        """Copy the variables that the hooks have changed into the context of the caller."""
        for variable, value in self._context.items():
            if variable.get(_MISSING) is not value:
                variable.set(value)


async def _call(hook: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return await maybe_awaitable(hook(*args))


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


@coroutine
def _drive(running: Coroutine[Any, Any, T], context: Context) -> Generator[Any, Any, T]:
    """Run each step of a coroutine in a context, within the current task.

    A task of its own for each would have a copy of the context before Python 3.11.
    """
    step: Callable[[], Any] = partial(running.send, None)
    while True:
        try:
            waited_for = context.run(step)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            sent = yield waited_for
        except GeneratorExit:
            context.run(running.close)
            raise
        except BaseException as error:  # noqa: BLE001 - the coroutine handles it
            step = partial(running.throw, error)
        else:
            step = partial(running.send, sent)


def overriding(middlewares: "list[TaskiqMiddleware]", hook: str) -> list[TaskiqMiddleware]:
    """Return the middlewares that have a hook of their own.

    Args:
        middlewares: middlewares of a broker.
        hook: name of the hook.
    """
    return [middleware for middleware in middlewares if overrides(type(middleware), hook)]


def overrides(kind: type[TaskiqMiddleware], hook: str) -> bool:
    """Return whether a class of middlewares has a hook of its own.

    Args:
        kind: the class.
        hook: name of the hook.
    """
    return getattr(kind, hook) is not getattr(TaskiqMiddleware, hook)


def _has_async_hooks(kind: type[TaskiqMiddleware]) -> bool:
    return any(inspect.iscoroutinefunction(getattr(kind, hook)) for hook in CLIENT_HOOKS)


def is_shared(middleware: TaskiqMiddleware) -> bool:
    """Return whether a middleware of a blocking broker belongs to an async broker.

    Args:
        middleware: the middleware.
    """
    return isinstance(getattr(middleware, "broker", None), AsyncBroker)


def record_hooks_loop(broker: AsyncBroker) -> None:
    """Record that an async broker runs its hooks on the running event loop.

    Args:
        broker: a broker; one without middlewares has no hooks that a twin could share.
    """
    if broker.middlewares:
        loop = asyncio.get_running_loop()
        known = vars(broker).get(_HOOKS_LOOP)
        if known is None or known[0]() is not loop:
            vars(broker)[_HOOKS_LOOP] = (weakref.ref(loop), process_id())


def loop_of(middleware: TaskiqMiddleware) -> asyncio.AbstractEventLoop | None:
    """Return the running event loop on which an async broker runs the hooks of a middleware.

    Args:
        middleware: the middleware; if it has no async hooks, any thread may run them.

    Returns:
        The loop; None if there is none, or if this thread runs it, and so can't wait for it.
    """
    if not is_shared(middleware) or not _has_async_hooks(type(middleware)):
        return None
    loop = loop_of_broker(middleware.broker)
    return None if loop is asyncio._get_running_loop() else loop


def loop_of_broker(broker: AsyncBroker) -> asyncio.AbstractEventLoop | None:
    """Return the event loop that ran hooks of an async broker last, or None if it has ended.

    Args:
        broker: the broker.
    """
    reference, process = vars(broker).get(_HOOKS_LOOP, (lambda: None, None))
    loop: asyncio.AbstractEventLoop | None = reference()
    # A forked child inherits a loop that seems to run.
    return loop if loop and process == process_id() and loop.is_running() else None
