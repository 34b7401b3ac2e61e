# Generated from taskiq_redis/_async/brokers/delays.py by scripts/unasync.py; edit that.

"""Move delayed messages into their queue when they are due."""

import logging
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ClusterError, ResponseError

from taskiq_redis._core import lua
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key
from taskiq_redis._core.redis_errors import (
    Outage,
    is_transient,
    keys_are_moving,
    translate,
    was_not_executed,
)
from taskiq_redis._sync.brokers.records import Tracking
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection, evaluate
from taskiq_redis._sync.pipelines import ScriptCall

PROMOTE = lua.load("task_records", "promote")

#: s; interval between a worker's polls for due messages
INTERVAL = 0.5
#: s; minimum interval per worker, which bounds the total rate of many workers
INTERVAL_PER_WORKER = 0.05
#: s; minimum interval, if the due time of the next message is known
MIN_INTERVAL = 0.05
#: s; pause after Redis has refused the script
REFUSED_PAUSE = 5.0
#: maximum number of messages per script
MOVE_LIMIT = 100

logger = logging.getLogger("taskiq_redis")


class Promoter:
    """Moves delayed messages of a queue into it when they are due.

    Args:
        connection: where the queue is.
        queue_name: Redis key of the queue.
        add_command: returns the words of the command that adds a message: ``name, *arguments``.
        tracking: whether the tasks of the messages are recorded.
    """

    def __init__(
        self,
        connection: Connection,
        queue_name: str,
        add_command: Callable[[], tuple[str | int, ...]],
        tracking: Tracking,
    ) -> None:
        self._server = str(connection.server)
        self._keys = [queue_name, delayed_key(queue_name)]
        self._tracking = tracking
        self._add_command = add_command
        self._next_poll = time.monotonic()
        self._refusal = Outage(logger, f"Moving due messages to {queue_name!r}")

    def time_left(self) -> float:
        """Return the seconds until the next poll."""
        return max(0.0, self._next_poll - time.monotonic())

    def promote(self, client: Client, workers: int = 1) -> None:
        """Move due messages, if the next poll is due (EVALSHA of ZRANGE, XADD or LPUSH, ZREM).

        If Redis refuses the script, or the keys are moving to another node of a cluster, log that
        once and leave the listener running.

        Args:
            client: runs the script.
            workers: number of workers that poll.
        """
        if self.time_left() > 0:
            return
        try:
            reply = evaluate(*self.call(), client)
        except (ResponseError, ClusterError) as error:
            if was_not_executed(error) and not keys_are_moving(error):
                raise
            reply = error
        self.record(reply, workers)

    def call(self) -> ScriptCall:
        """Return the script that moves due messages."""
        name, *arguments = self._add_command()
        keys = [*self._keys, *self._tracking.keys_of(self._keys[0])]
        return ScriptCall(PROMOTE, keys, [MOVE_LIMIT, UNIQUE_BYTES, name, *arguments])

    def record(self, reply: Any, workers: int) -> None:
        """Record the reply to the script, or why Redis refuses it, and schedule the next poll.

        Args:
            reply: the reply, or the exception: if that isn't a refusal, the poll is still due.
            workers: number of workers that poll.
        """
        if isinstance(reply, Exception):
            if is_transient(reply) and not keys_are_moving(reply):
                return
            if self._tracking.give_up(reply):
                return
            self._refusal.record_failure(translate(reply, self._server, *self._keys))
            pause = REFUSED_PAUSE
        else:
            self._refusal.record_success()
            pause = max(INTERVAL, workers * INTERVAL_PER_WORKER)
            if reply >= 0:
                pause = max(MIN_INTERVAL, min(pause, reply / 1000))
        self._next_poll = time.monotonic() + pause
