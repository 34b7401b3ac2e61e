"""Tasks that take time, crash, or are never acknowledged."""

import asyncio
import os
import time
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware

from tests.e2e.recorder import record
from tests.e2e.setting import SETTING

broker = SETTING.broker()


@broker.task
async def work(number: int, seconds: float = 0.0) -> int:
    """Take some time."""
    record("started", number=number)
    await asyncio.sleep(seconds)
    record("ended", number=number)
    return number


@broker.task
async def block(number: int, seconds: float) -> int:
    """Take some time, and block the event loop meanwhile."""
    record("started", number=number)
    time.sleep(seconds)  # noqa: ASYNC251 - on purpose
    record("ended", number=number)
    return number


@broker.task
async def die(number: int) -> None:
    """End the process like a crash in C code."""
    record("died", number=number)
    # Let tasks that were fetched together start.
    await asyncio.sleep(0.05)
    os._exit(1)


class Failing(TaskiqMiddleware):
    """Raises before tasks that have the label `break_middleware`."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Raise."""
        if message.labels.get("break_middleware"):
            record("broken", number=message.args[0])
            raise RuntimeError("as it should")
        return message


if SETTING.extras.get("failing_middleware"):
    broker.add_middlewares(Failing())


def numbers_of(records: Any, what: str) -> list[int]:
    """Return the numbers of the tasks that have recorded something, in order."""
    return [line["number"] for line in records.of(what)]
