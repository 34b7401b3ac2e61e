"""A worker that looks, at each step of a task, how many messages of its group are pending."""

from typing import Any

from taskiq import Context, TaskiqDepends, TaskiqMessage, TaskiqMiddleware, TaskiqResult

from tests.e2e.recorder import record
from tests.e2e.setting import SETTING
from tests.servers import client_of


def look(step: str, message: TaskiqMessage) -> None:
    """Record what XPENDING says."""
    pending = client_of(SETTING.topology).xpending(SETTING.name, "taskiq")["pending"]
    record(step, task=message.task_id, pending=pending)


class Look(TaskiqMiddleware):
    """Looks before and after what taskiq does with a message."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        look("fetched", message)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        look("executed", message)

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        look("saved", message)


broker = SETTING.broker().with_middlewares(Look())


async def run(how: str, context: Context) -> None:
    look("running", context.message)
    if how == "acknowledge":
        assert context.is_ackable
        await context.ack()
        await context.ack()
        assert context.is_acked
        look("acknowledged", context.message)
    if how == "fail":
        raise ValueError("as it should")


@broker.task
async def plain(how: str = "", context: Context = TaskiqDepends()) -> None:
    """Be acknowledged when the command line says."""
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
