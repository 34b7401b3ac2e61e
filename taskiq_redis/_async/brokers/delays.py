"""Move delayed messages into their queue when they are due, and notice when it is paused."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ClusterError, ResponseError

from taskiq_redis._async.brokers.task_records import WorkerTracking
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection, evaluate
from taskiq_redis._async.pipelines import ScriptCall
from taskiq_redis._core import lua
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key, paused_key
from taskiq_redis._core.redis_errors import (
    Outage,
    is_transient,
    keys_are_moving,
    translate,
    was_not_executed,
)
from taskiq_redis.exceptions import TaskIQRedisError

PROMOTE = lua.load("task_records", "promote")

#: s; interval between a worker's polls for due messages
INTERVAL = 0.5
#: s; minimum interval per worker, which bounds the total rate of many workers
INTERVAL_PER_WORKER = 0.05
#: s; maximum interval; a worker notices within this time that its queue is paused
LONGEST_INTERVAL = 1.0
#: s; minimum interval, if the due time of the next message is known
MIN_INTERVAL = 0.05
#: s; a poll that is overdue for this time is made before a prefetched message is handed over
OVERDUE = 0.5
#: s; how long such a poll is retried
RETRY_TIMEOUT = 1.0
#: s; pause after Redis has refused the script
REFUSED_PAUSE = 5.0
#: maximum number of messages per script
MOVE_LIMIT = 100

logger = logging.getLogger("taskiq_redis")


class Promoter:
    """Moves delayed messages of a queue into it when they are due, and notices when it is paused.

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
        tracking: WorkerTracking,
    ) -> None:
        self._connection = connection
        self._server = str(connection.server)
        self.queue_name = queue_name
        self._keys = [queue_name, delayed_key(queue_name), paused_key(queue_name)]
        self._tracking = tracking
        self._add_command = add_command
        self._next_poll = time.monotonic()
        #: whether the queue is paused, so that nothing may be fetched from it
        self.paused = False
        self._refusal = Outage(
            logger, f"Moving due messages to {queue_name!r} and checking whether it is paused"
        )

    def time_left(self) -> float:
        """Return the seconds until the next poll."""
        return max(0.0, self._next_poll - time.monotonic())

    @property
    def may_be_paused(self) -> bool:
        """Whether the queue is paused, or wasn't looked at for long."""
        return self.paused or time.monotonic() > self._next_poll + OVERDUE

    async def is_paused(self) -> bool:
        """Return whether the queue is paused, as of a second ago at most (EVALSHA).

        While Redis can't be reached, the queue counts as running.
        """
        if not self.paused:
            with suppress(TaskIQRedisError):
                await self._connection.call(
                    self.promote, key=self._keys, retry_timeout=RETRY_TIMEOUT, bounded=True
                )
            # After an outage, too: otherwise, each message would wait for the next try.
            self._next_poll = max(self._next_poll, time.monotonic())
        return self.paused

    async def promote(self, client: Client, workers: int = 1) -> None:
        """Move due messages and look for a pause, if the next poll is due.

        This runs EVALSHA of EXISTS, ZRANGE, XADD or LPUSH, and ZREM.

        If Redis refuses the script, or the keys are moving to another node of a cluster, log that
        once and leave the listener running.

        Args:
            client: runs the script.
            workers: number of workers that poll.
        """
        if self.time_left() > 0:
            return
        try:
            reply = await evaluate(*self.call(), client)
        except (ResponseError, ClusterError) as raised:
            reply = raised
        error = reply if isinstance(reply, Exception) else reply[1]
        if isinstance(error, Exception) and was_not_executed(error) and not keys_are_moving(error):
            raise error
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
        left = reply
        if not isinstance(reply, Exception):
            self.paused, left = reply[0] == 1, reply[1]
        if isinstance(left, Exception):
            moving = keys_are_moving(left)
            if is_transient(left) and not moving:
                return
            if self._tracking.end_if_refused(left):
                return
            if left is reply and not moving:
                # A pause can't be seen, nor its end.
                self.paused = False
            self._refusal.record_failure(translate(left, self._server, *self._keys))
            pause = REFUSED_PAUSE
        else:
            self._refusal.record_success()
            pause = min(max(INTERVAL, workers * INTERVAL_PER_WORKER), LONGEST_INTERVAL)
            if left >= 0:
                pause = max(MIN_INTERVAL, min(pause, left / 1000))
        self._next_poll = time.monotonic() + pause
