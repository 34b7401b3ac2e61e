"""Notice tasks that have failed for good: they raised, and no middleware sends them again."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskiq import SmartRetryMiddleware, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.utils import maybe_awaitable

from taskiq_redis._core.texts import quote
from taskiq_redis._core.tracebacks import traceback_of

#: maximum number of characters of the description of an error
MAX_ERROR = 1000

logger = logging.getLogger("taskiq_redis")


@dataclass(frozen=True)
class Failure:
    """What is known about a task that has failed for good.

    Args:
        task_name: name of the task.
        task_id: its ID.
        kind: name of the class of its exception.
        error: class and text of its exception.
        traceback: traceback of its exception.
    """

    task_name: str
    task_id: str
    kind: str
    error: str
    traceback: str

    def __str__(self) -> str:
        """Return a description for log messages, without texts of the task."""
        if not self.task_name:
            return "a message"
        return f"the task {quote(self.task_name)} with the id {quote(self.task_id)}"


#: adds a dead letter for a failure; may be async
Keep = Callable[[Failure], Any]


class TaskRun:
    """One run of a task in taskiq's receiver.

    Args:
        keep: adds the dead letter if it fails. None while Redis holds the message, so that the
            acknowledgement adds it.
    """

    __slots__ = ("_exception", "_result", "keep", "sent_again", "task_id", "task_name", "unwatch")

    def __init__(self, keep: Keep | None = None) -> None:
        self.keep = keep
        self.task_name = ""
        #: None until the receiver has parsed the message
        self.task_id: str | None = None
        #: whether the task was sent again, with the same ID
        self.sent_again = False
        #: prevents the call of a function at the end of the receiver's task
        self.unwatch: Callable[[], object] | None = None
        self._exception: BaseException | None = None
        self._result: TaskiqResult[Any] | None = None

    def record(self, result: TaskiqResult[Any] | None, exception: BaseException) -> None:
        """Record that the task raised; middlewares may still change the result.

        Args:
            result: result of the task. None if the receiver has ended without one.
            exception: exception of the task.
        """
        self._result, self._exception = result, exception

    def failure(self) -> Failure | None:
        """Return the failure of the task; None if it hasn't failed, or not for good."""
        exception, result = self._exception, self._result
        if exception is None or isinstance(exception, NoResultError) or self.sent_again:
            return None
        # A retry replaces the error. A middleware may also replace it by a return value.
        if result is not None and (not result.is_err or isinstance(result.error, NoResultError)):
            return None
        return Failure(
            self.task_name,
            self.task_id or "",
            type(exception).__name__,
            _text_of(lambda: _describe(exception)),
            _text_of(lambda: traceback_of(exception)),
        )

    def forget(self) -> None:
        """Forget the failure, since a dead letter was added for it."""
        self._exception = self._result = None

    async def keep_failure(self) -> None:
        """Add a dead letter if the task has failed and Redis doesn't hold its message."""
        failure = self.failure()
        if failure is not None and self.keep is not None:
            await maybe_awaitable(self.keep(failure))
            self.forget()

    def watch(self) -> None:
        """Add the dead letter if the receiver's task, which calls this, fails.

        Then a hook has raised before `post_execute`, or a dependency has.
        """
        task = asyncio.current_task()
        if task is not None and self.unwatch is None:
            task.add_done_callback(self._receiver_done)
            self.unwatch = partial(task.remove_done_callback, self._receiver_done)

    def _receiver_done(self, task: "asyncio.Task[Any]") -> None:
        # `exception()` would mark the exception as retrieved, and asyncio would not log it.
        exception = None if task.cancelled() else task._exception
        if self.keep is None or exception is None:
            return
        if self._exception is None:
            self.record(None, exception)
        if self.failure() is not None:
            keeping = task.get_loop().create_task(_keep_logged(self))
            _keeping.add(keeping)
            keeping.add_done_callback(_keeping.discard)


#: tasks that add dead letters, of all event loops
_keeping: set["asyncio.Task[None]"] = set()
#: the run in the current task of taskiq's receiver
_current: ContextVar[TaskRun | None] = ContextVar("taskiq_redis_run", default=None)


def current_run() -> TaskRun | None:
    """Return the run of the task that taskiq's receiver handles in this context, if any."""
    return _current.get()


def begin_run(keep: Keep) -> None:
    """Begin a run, in the task of taskiq's receiver, before it has parsed the message.

    Args:
        keep: adds the dead letter if it fails.
    """
    run = TaskRun(keep)
    run.watch()
    _current.set(run)


class FailedTasks(TaskiqMiddleware):
    """Records which tasks fail for good, for dead letters.

    It is the last middleware. So its `on_error` and `post_execute` run first, and its other hooks
    run last.
    """

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Begin the run of a task.

        Args:
            message: message of the task.
        """
        run = _current.get()
        if run is None or run.task_id is not None:
            run = TaskRun()
            run.watch()
            _current.set(run)
        run.task_name, run.task_id = message.task_name, message.task_id
        return message

    def on_error(
        self,
        message: TaskiqMessage,  # noqa: ARG002 - taskiq passes it
        result: TaskiqResult[Any],
        exception: BaseException,
    ) -> None:
        """Record that a task raised.

        Args:
            message: message of the task.
            result: result of the task.
            exception: exception of the task.
        """
        run = _current.get()
        if run is not None:
            run.record(result, exception)

    def post_send(self, message: TaskiqMessage) -> None:
        """Record that a task sends itself again, or that a middleware does.

        Args:
            message: message of the task that was sent.
        """
        run = _current.get()
        if run is not None and run.task_id == message.task_id:
            run.sent_again = True

    async def post_execute(
        self,
        message: TaskiqMessage,  # noqa: ARG002 - taskiq passes it
        result: TaskiqResult[Any],  # noqa: ARG002 - taskiq passes it
    ) -> None:
        """Add a dead letter for a task that has failed, if its message was acknowledged before.

        Args:
            message: message of the task.
            result: result of the task.
        """
        run = _current.get()
        if run is not None and run.unwatch is not None:
            await run.keep_failure()
            run.unwatch()

    # Not a coroutine function: blocking twins would then run all hooks on the event loop.
    def shutdown(self) -> Any:
        """Wait until all dead letters are added."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # That of a blocking broker: only tasks of an event loop add some in the background.
            return None
        keeping = [task for task in tuple(_keeping) if task.get_loop() is loop]
        return asyncio.wait(keeping) if keeping else None


async def _keep_logged(run: TaskRun) -> None:
    try:
        await run.keep_failure()
    except Exception:
        logger.exception("No dead letter could be added for a task that has failed.")


def notice_failed_tasks(broker: Any) -> None:
    """Record which tasks fail for good in a worker.

    Args:
        broker: broker of the worker.
    """
    middlewares = broker.middlewares
    if any(isinstance(middleware, FailedTasks) for middleware in middlewares):
        return
    for middleware in middlewares:
        if isinstance(middleware, SmartRetryMiddleware):
            _watch_retries(middleware)
    middlewares.append(FailedTasks())


def _watch_retries(middleware: SmartRetryMiddleware) -> None:
    """Record each retry of a middleware, which may add a schedule instead of sending the task."""
    on_send = middleware.on_send

    async def watched(*args: Any, **kwargs: Any) -> None:
        await on_send(*args, **kwargs)
        run = _current.get()
        if run is not None:
            run.sent_again = True

    vars(middleware)["on_send"] = watched


def _describe(exception: BaseException) -> str:
    text = "".join(traceback.format_exception_only(type(exception), exception)).strip()
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}..."


def _text_of(describe: Callable[[], str]) -> str:
    """Return a text that can be encoded; exceptions of users may raise when they are printed."""
    try:
        return describe().encode(errors="backslashreplace").decode()
    except Exception as error:  # noqa: BLE001 - code of the user may raise anything
        return f"<it can't be printed: {type(error).__name__}>"
