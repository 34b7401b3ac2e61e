"""A scheduler whose broker writes the ID of each schedule, and when it was sent, to a file."""

import os
import time
from collections.abc import AsyncGenerator

from taskiq import AsyncBroker, BrokerMessage, TaskiqScheduler

from taskiq_redis import ListRedisScheduleSource


class FileBroker(AsyncBroker):
    """A broker that sends nothing."""

    async def kick(self, message: BrokerMessage) -> None:
        """Note the time."""
        sent = time.time()
        with open(os.environ["RECORD"], "a") as file:  # noqa: ASYNC230, PTH123 - one short line
            file.write(f"{message.labels['schedule_id']} {sent}\n")

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Receive nothing: no worker uses this broker."""
        for data in list[bytes]():
            yield data


scheduler = TaskiqScheduler(
    FileBroker(), [ListRedisScheduleSource(os.environ["SERVER"], socket_timeout=None)]
)
