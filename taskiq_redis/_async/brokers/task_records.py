"""Record tracked tasks beside their queue, so that `status` can tell more about them."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from taskiq_redis._async.batcher import Request
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import evaluate
from taskiq_redis._core import lua
from taskiq_redis._core.keys import tasks_key
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._core.task_status import make_tracked, task_digest
from taskiq_redis._core.wire import as_str
from taskiq_redis.exceptions import CommandRefusedError

ENQUEUE_TRACKED = lua.load("producer_sequence", "task_records", "enqueue_tracked")
DELAY_TRACKED = lua.load("producer_sequence", "task_records", "delay_tracked")

logger = logging.getLogger("taskiq_redis")


class WorkerTracking:
    """Whether the scripts of a worker update the records of tasks.

    Args:
        active: whether tasks are tracked.
    """

    def __init__(self, active: bool) -> None:
        self.active = active

    def keys_of(self, queue_name: str) -> list[str]:
        """Return the further keys of a script: those of the records of a queue.

        Args:
            queue_name: the queue.
        """
        return [tasks_key(queue_name)] if self.active else []

    def end_if_refused(self, error: object) -> bool:
        """End the tracking, and return True, if it is on and Redis refuses the rights for it.

        Args:
            error: the error of a script that got the records.
        """
        if not self.active or not isinstance(error, NoPermissionError):
            return False
        self.active = False
        logger.warning(
            "This worker doesn't track tasks, since Redis refuses it: %s. Grant the key %s and "
            "ZADD.",
            error,
            tasks_key("<queue>"),
        )
        return True

    async def run(
        self, run: Callable[[list[str]], Awaitable[Any]], keys: list[str], queue_name: str
    ) -> Any:
        """Run a script with the records of a queue, or without them if that is refused.

        Args:
            run: runs the script with the given KEYS.
            keys: its other keys.
            queue_name: the queue.
        """
        if self.active:
            try:
                return await run([*keys, *self.keys_of(queue_name)])
            except CommandRefusedError as error:
                if not self.end_if_refused(error.__cause__):
                    raise
        return await run(keys)


class TrackedRequest(Request):
    """The request that adds a message whose task is tracked.

    Args:
        data: the message.
        delay: s; how long it waits in Redis before it is added to the queue.
        retry_timeout: s; how long to retry.
        task_id: ID of its task.
    """

    __slots__ = ("digest",)

    def __init__(self, data: bytes, delay: float, retry_timeout: float, task_id: str) -> None:
        #: the digest of the task ID; that of a delayed message is in its prefix
        self.digest = "" if delay > 0 else task_digest(task_id)
        if delay > 0:
            data = make_tracked(data, task_id)
        args = (round(delay * 1000), data) if delay > 0 else (data,)
        super().__init__(args, retry_timeout, len(data))


class TaskRecorder:
    """Adds batches of messages by scripts that also record their tasks, if this user may do that.

    Args:
        ttl: s; how long tasks are recorded.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = round(ttl * 1000)
        self._refusal = ScriptRefusal(logger, "Tasks are tracked again")

    async def send(
        self,
        send: Callable[..., Awaitable[None]],
        records: str,
        number: int,
        requests: list[Request],
        retry_timeout: float,
    ) -> None:
        """Add a batch and record its tasks; only add it if Redis refuses to record them.

        Args:
            send: adds the batch; with `records`, it records the tasks.
            records: Redis key of the records.
            number: number of the batch.
            requests: the messages.
            retry_timeout: s; how long to retry.
        """
        deadline = time.monotonic() + retry_timeout
        refusal = None
        if not self._refusal.active or self._refusal.may_retry():
            try:
                await send(number, requests, retry_timeout, records=records)
            except CommandRefusedError as error:
                if not isinstance(error.__cause__, NoPermissionError):
                    raise
                refusal = error
            else:
                return
        await send(number, requests, max(0.0, deadline - time.monotonic()))
        # If that is refused as well, the records were not the reason.
        if refusal is not None:
            self._record_refusal(refusal)

    async def add(
        self,
        keys: list[str],
        args: list[str | bytes | int],
        delayed: bool,
        requests: Sequence[Any],
        client: Client,
    ) -> Any:
        """Add a batch, and record its tasks (EVALSHA).

        Args:
            keys: KEYS of the script.
            args: the first ARGV of the script.
            delayed: whether the messages have a delay.
            requests: the messages, each a `TrackedRequest`.
            client: runs the script.
        """
        args.append(self._ttl)
        if delayed:
            for request in requests:
                args += request.args
            return await evaluate(DELAY_TRACKED, keys, args, client)
        for request in requests:
            args += (*request.args, request.digest)
        return await evaluate(ENQUEUE_TRACKED, keys, args, client)

    def record_reply(self, reply: Any) -> None:
        """Record the reply of a script: 1, or a list with the reason why tasks are not recorded."""
        if isinstance(reply, list):
            self._record_refusal(as_str(reply[0]))
        elif self._refusal.active:
            self._refusal.record_success()

    def record_plain(self) -> None:
        """Record that messages are sent by plain commands, since Redis refuses the scripts."""
        self._refusal.record_refusal(
            "Tasks are not tracked while messages are sent by plain commands."
        )

    def _record_refusal(self, reason: object) -> None:
        self._refusal.record_refusal(
            "Tasks are sent, but not tracked, since Redis refuses it: %s Grant ZADD, ZRANGE, ZREM, "
            "PEXPIRE and the key %s.",
            reason,
            tasks_key("<queue>"),
        )
