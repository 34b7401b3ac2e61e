"""A broker whose middlewares, events and dependencies record their calls."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

from taskiq import (
    Context,
    TaskiqDepends,
    TaskiqEvents,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
    TaskiqState,
)

from tests.e2e.recorder import record
from tests.e2e.setting import SETTING


class SyncHooks(TaskiqMiddleware):
    """Plain functions for all hooks, which record their calls and label messages."""

    def startup(self) -> None:
        record("sync startup")

    def shutdown(self) -> None:
        record("sync shutdown")

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        record("sync pre_send", task=message.task_id)
        message.labels["sent by"] = "sync"
        return message

    def post_send(self, message: TaskiqMessage) -> None:
        record("sync post_send", task=message.task_id)

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        record("sync pre_execute", task=message.task_id)
        message.labels["executed by"] = "sync"
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record("sync post_execute", task=message.task_id)
        if not result.is_err:
            result.return_value = [*result.return_value, "sync post_execute"]

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record("sync post_save", task=message.task_id)

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        record("sync on_error", task=message.task_id, error=str(exception))


class AsyncHooks(TaskiqMiddleware):
    """Coroutines for all hooks, which record their calls and label messages."""

    async def startup(self) -> None:
        record("async startup")

    async def shutdown(self) -> None:
        record("async shutdown")

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        record("async pre_send", task=message.task_id)
        message.labels["sent by"] += ", async"
        return message

    async def post_send(self, message: TaskiqMessage) -> None:
        record("async post_send", task=message.task_id)

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        record("async pre_execute", task=message.task_id)
        message.labels["executed by"] += ", async"
        return message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record("async post_execute", task=message.task_id)
        if not result.is_err:
            result.return_value = [*result.return_value, "async post_execute"]

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record("async post_save", task=message.task_id)

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        record("async on_error", task=message.task_id, error=str(exception))


broker = SETTING.broker().with_middlewares(SyncHooks(), AsyncHooks())


@broker.on_event(TaskiqEvents.WORKER_STARTUP, TaskiqEvents.CLIENT_STARTUP)
async def set_state(state: TaskiqState) -> None:
    state.number = 41
    record("set_state")


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
def worker_startup(state: TaskiqState) -> None:
    state.number += 1
    record("worker startup")


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def worker_shutdown(state: TaskiqState) -> None:
    record("worker shutdown", number=state.number)


@broker.on_event(TaskiqEvents.CLIENT_STARTUP)
async def client_startup(state: TaskiqState) -> None:
    record("client startup")


@broker.on_event(TaskiqEvents.CLIENT_SHUTDOWN)
def client_shutdown(state: TaskiqState) -> None:
    record("client shutdown", number=state.number)


@broker.task(colour="red", weight=1.5, count=3, fresh=True, code=b"\xff")
async def labels(context: Context = TaskiqDepends()) -> list[Any]:
    """Return the received labels."""
    names = ("colour", "weight", "count", "fresh", "sent by", "executed by")
    found = context.message.labels
    assert found["code"] == b"\xff"
    return [{name: found[name] for name in names}]


@broker.task
async def fail() -> None:
    """Raise an error."""
    raise ValueError("as it should")


def one() -> int:
    return 1


async def two(first: int = TaskiqDepends(one)) -> int:
    return first + 1


def three(second: int = TaskiqDepends(two)) -> Generator[int, None, None]:
    record("three opened")
    try:
        yield second + 1
    finally:
        record("three closed")


async def four(third: int = TaskiqDepends(three)) -> AsyncGenerator[int, None]:
    record("four opened")
    try:
        yield third + 1
    except ValueError as error:
        record("four failed", error=str(error))
        raise
    finally:
        record("four closed")


class Five:
    """A class as a dependency."""

    def __init__(self, fourth: int = TaskiqDepends(four)) -> None:
        self.number = fourth + 1


@broker.task
async def depends(
    factor: int,
    fifth: Five = TaskiqDepends(),
    state: TaskiqState = TaskiqDepends(),
    context: Context = TaskiqDepends(),
) -> list[Any]:
    """Use dependencies of all kinds."""
    if factor == 0:
        raise ValueError("as it should")
    assert context.state is state
    assert context.broker is broker
    return [fifth.number * factor, state.number, context.message.task_name]


@broker.task
def depends_in_thread(third: int = TaskiqDepends(three)) -> list[Any]:
    """Use dependencies without an event loop."""
    return [third]


@broker.task
async def requeue(times: int, context: Context = TaskiqDepends()) -> list[Any]:
    """Requeue the message a number of times."""
    done = int(context.message.labels.get("X-Taskiq-requeue", 0))
    record("requeue", done=done, task=context.message.task_id)
    if done < times:
        await context.requeue()
    return [done]


@broker.task
async def reject(context: Context = TaskiqDepends()) -> None:
    """Refuse to run."""
    context.reject()
