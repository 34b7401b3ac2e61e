"""Messages that are due later: how they come into their queue."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from taskiq_redis._async.connection import Client, evaluate
from taskiq_redis._core import lua
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key

PROMOTE = lua.load("promote")

#: s; how often a worker looks for messages that are due
INTERVAL = 0.5
#: s; the same for each worker, if there are many, so that all together don't look too often
INTERVAL_PER_WORKER = 0.05
#: s; the least time between two looks, when the time of the next message is known
SHORTEST = 0.05
#: most messages that are moved in one go
BATCH = 100


class AddCommand(NamedTuple):
    """The command that adds a message to a queue: ``name queue *arguments message``."""

    name: str
    arguments: tuple[str | int, ...] = ()


class Promoter:
    """Moves delayed messages of a queue into it when they are due.

    Args:
        queue_name: the queue.
        command: returns what adds a message.
    """

    def __init__(self, queue_name: str, command: Callable[[], AddCommand]) -> None:
        self._keys = [queue_name, delayed_key(queue_name)]
        self._command = command
        self._next_look = time.monotonic()

    def time_left(self) -> float:
        """Return the seconds until the next look."""
        return max(0.0, self._next_look - time.monotonic())

    def postpone(self, pause: float) -> None:
        """Look later, as Redis refuses it now."""
        self._next_look = time.monotonic() + pause

    async def promote(self, client: Client, workers: int = 1) -> None:
        """Move what is due (EVALSHA of ZRANGE, XADD or LPUSH, ZREM).

        Args:
            client: what to do it with.
            workers: how many do the same.
        """
        name, arguments = self._command()
        reply: Any = await evaluate(
            client, PROMOTE, self._keys, [BATCH, UNIQUE_BYTES, name, *arguments]
        )
        interval = max(INTERVAL, workers * INTERVAL_PER_WORKER)
        until_next = interval if reply < 0 else min(interval, reply / 1000)
        self._next_look = time.monotonic() + max(SHORTEST, until_next)
