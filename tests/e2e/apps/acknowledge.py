"""A worker that records the number of pending messages at each step of a task."""

from typing import Any

from taskiq import Context, TaskiqDepends, TaskiqMessage, TaskiqMiddleware, TaskiqResult

from tests.e2e.recorder import record
from tests.e2e.setting import SETTING
from tests.servers import client_of


def record_pending(step: str, message: TaskiqMessage) -> None:
    """Record the number of pending messages."""
    pending = client_of(SETTING.topology).xpending(SETTING.name, "taskiq")["pending"]
    record(step, task=message.task_id, pending=pending)


class PendingRecorder(TaskiqMiddleware):
    """Records pending messages before and after the task runs, and after its result is saved."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        record_pending("fetched", message)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record_pending("executed", message)

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        record_pending("saved", message)


broker = SETTING.broker().with_middlewares(PendingRecorder())


async def run(how: str, context: Context) -> None:
    record_pending("running", context.message)
    if how == "acknowledge":
        assert context.is_ackable
        await context.ack()
        await context.ack()
        assert context.is_acked
        record_pending("acknowledged", context.message)
    if how == "fail":
        raise ValueError("as it should")


@broker.task
async def plain(how: str = "", context: Context = TaskiqDepends()) -> None:
    """Declare no `ack_type`, so that the command line's applies."""
    await run(how, context)


@broker.task(ack_type="when_received")
async def when_received(how: str = "", context: Context = TaskiqDepends()) -> None:
    await run(how, context)


@broker.task(ack_type="when_executed")
async def when_executed(how: str = "", context: Context = TaskiqDepends()) -> None:
    await run(how, context)


@broker.task(ack_type="when_saved")
async def when_saved(how: str = "", context: Context = TaskiqDepends()) -> None:
    await run(how, context)


@broker.task(ack_type="manual")
async def manual(how: str = "", context: Context = TaskiqDepends()) -> None:
    await run(how, context)
