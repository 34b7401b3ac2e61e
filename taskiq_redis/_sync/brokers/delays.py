# Generated from taskiq_redis/_async/brokers/delays.py by scripts/unasync.py; edit that.

"""Messages that are due later: how they come into their queue."""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from taskiq_redis._core import lua
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key
from taskiq_redis._core.redis_errors import Outage, translate, was_not_executed
from taskiq_redis._sync.connection import Client, Connection, evaluate

PROMOTE = lua.load("promote")

#: s; how often a worker looks for messages that are due
INTERVAL = 0.5
#: s; the same for each worker, if there are many, so that all together don't look too often
INTERVAL_PER_WORKER = 0.05
#: s; the least time between two looks, when the time of the next message is known
SHORTEST = 0.05
#: s; the pause after Redis has refused it
REFUSED_PAUSE = 5.0
#: most messages that are moved in one go
BATCH = 100

logger = logging.getLogger("taskiq_redis")


class AddCommand(NamedTuple):
    """The command that adds a message to a queue: ``name queue *arguments message``."""

    name: str
    arguments: tuple[str | int, ...] = ()

    @property
    def words(self) -> tuple[str | int, ...]:
        """All but the queue and the message."""
        return (self.name, *self.arguments)


class Promoter:
    """Moves delayed messages of a queue into it when they are due.

    Args:
        connection: where the queue is.
        queue_name: its key.
        command: returns what adds a message.
    """

    def __init__(
        self, connection: Connection, queue_name: str, command: Callable[[], AddCommand]
    ) -> None:
        self._server = str(connection.server)
        self._keys = [queue_name, delayed_key(queue_name)]
        self._command = command
        self._next_look = time.monotonic()
        self._refusal = Outage(logger, f"Moving what is due to {queue_name!r}")

    def time_left(self) -> float:
        """Return the seconds until the next look."""
        return max(0.0, self._next_look - time.monotonic())

    def promote(self, client: Client, workers: int = 1) -> None:
        """Move what is due, if it is time to look (EVALSHA of ZRANGE, XADD or LPUSH, ZREM).

        That Redis refuses it is logged, and no reason to run nothing.

        Args:
            client: what to do it with.
            workers: how many do the same.
        """
        if self.time_left() > 0:
            return
        try:
            pause = self._promote(client, max(INTERVAL, workers * INTERVAL_PER_WORKER))
        except ResponseError as error:
            if was_not_executed(error):
                raise
            self._refusal.failed(translate(error, self._server, *self._keys))
            pause = REFUSED_PAUSE
        else:
            self._refusal.succeeded()
        self._next_look = time.monotonic() + pause

    def _promote(self, client: Client, interval: float) -> float:
        """Move what is due, and return the seconds until the next look."""
        name, arguments = self._command()
        reply: Any = evaluate(client, PROMOTE, self._keys, [BATCH, UNIQUE_BYTES, name, *arguments])
        return interval if reply < 0 else max(SHORTEST, min(interval, reply / 1000))
