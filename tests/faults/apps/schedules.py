"""A scheduler whose broker records each firing in a file, instead of sending a task.

Extras of the setting:
    source: kind of schedule source; default `indexed`.
    pause: s; how long sending takes after the firing is recorded.
    dies_after: number of firings after which the process kills itself, before they are confirmed.
    queue: URL of a Redis server with a queue, to which tasks are really sent before the record.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from signal import SIGKILL

from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqScheduler

from taskiq_redis import ListQueueBroker
from tests.e2e.recorder import record
from tests.e2e.setting import SETTING

PAUSE = SETTING.extras.get("pause", 0.0)
DIES_AFTER = SETTING.extras.get("dies_after")


class FileBroker(AsyncBroker):
    """A broker that appends the ID of each schedule to the records."""

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0

    async def kick(self, message: BrokerMessage) -> None:
        """Record a firing."""
        record("fired", id=message.labels["schedule_id"])
        self._sent += 1
        if self._sent == DIES_AFTER:
            os.kill(os.getpid(), SIGKILL)
        await asyncio.sleep(PAUSE)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Receive nothing: no worker uses this broker."""
        for data in list[bytes]():
            yield data


class RecordingQueue(ListQueueBroker):
    """A list that also records what was sent to it."""

    async def kick(self, message: BrokerMessage) -> None:
        """Send a task, and record the firing."""
        await super().kick(message)
        record("fired", id=message.labels["schedule_id"])


def make_broker() -> AsyncBroker:
    """Return the broker that the setting asks for."""
    if "queue" not in SETTING.extras:
        return FileBroker()
    return RecordingQueue(SETTING.extras["queue"], queue_name=SETTING.name, **SETTING.options)


scheduler = TaskiqScheduler(
    make_broker(), [SETTING.source(SETTING.extras.get("source", "indexed"))]
)
