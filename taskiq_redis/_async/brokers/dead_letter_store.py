"""The dead letters of a queue: add, read, requeue and purge them."""

import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from typing import Any

from taskiq import TaskiqMessage, TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers.task_records import WorkerTracking
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection, evaluate
from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import (
    DATA_FIELD,
    DEAD_LETTER_FIELDS,
    DIGEST_FIELD,
    ERROR_FIELD,
    TOKEN_FIELD,
    dead_letter_fields,
    failure_fields,
)
from taskiq_redis._core.keys import dead_letters_key, unknown_tasks_key
from taskiq_redis._core.redis_errors import is_passing
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._core.task_status import task_digest
from taskiq_redis._core.texts import one_line, quote
from taskiq_redis._core.wire import StreamEntry, as_str, entries_of
from taskiq_redis._taskiq.failed_tasks import Failure
from taskiq_redis.exceptions import DeadLetterError, TaskIQRedisError

ADD_DEAD_LETTER = lua.load("dead_letter_limits", "task_records", "add_dead_letter")
REQUEUE = lua.load("task_records", "requeue")
PURGE = lua.load("purge")

#: ID of an entry of a stream: two numbers of 64 bits
ENTRY_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")

#: maximum number of dead letters per command, which blocks the server while it runs
CHUNK = 100
#: s; how long adding a dead letter is retried
RETRY_TIMEOUT = 60.0
#: reply of the scripts if they have added a dead letter, but may not delete older ones
LIMITS_REFUSED = 2

#: what `dead_letter_fields` says about the original entry: number of failed deliveries, consumer,
#: group, and ID
Origin = tuple[int, str, str, str]
#: origin of the messages of a list
NO_ORIGIN: Origin = (0, "", "", "")

logger = logging.getLogger("taskiq_redis")


def log_dead_letter(queue_name: str, what: str, reason: str) -> None:
    """Log that a dead letter was added.

    Args:
        queue_name: its queue.
        what: a description of the message.
        reason: why the message isn't run.
    """
    logger.error(
        "Added a dead letter to the queue %r: %s is not run, because %s. See `dead_letters()`, "
        "`requeue_dead_letters()` and `purge_dead_letters()`.",
        queue_name,
        what,
        reason,
    )


def describe_task(task: TaskiqMessage) -> str:
    """Return a description of a task, for log messages."""
    return f"the task {quote(task.task_name)} with the id {quote(task.task_id)}"


def failure_reason(failure: Failure) -> str:
    """Return why a task that has failed for good is not run, as the reason of a dead letter."""
    return f"its last run raised {failure.kind}"


def fields_of_failure(failure: Failure, origin: Origin) -> list[str | bytes]:
    """Return names and values of the fields that the dead letter of a failed task has.

    Args:
        failure: the failure.
        origin: see `Origin`.
    """
    fields = dead_letter_fields(failure_reason(failure), *origin)
    return [*fields, *failure_fields(failure.error, failure.traceback)]


class NewDeadLetter:
    """A message that becomes a dead letter, although Redis doesn't hold it any more.

    Args:
        queue_name: its queue.
        data: the message as it was sent, with its signature.
    """

    def __init__(self, queue_name: str, data: bytes) -> None:
        self.queue_name = queue_name
        self.data = data
        #: by which Redis recognizes it if it is added again, after a lost reply
        self.token = secrets.token_hex(8)
        #: number of times that the script was sent
        self.tries = 0


class DeadLetterStore:
    """Adds dead letters to a queue, and reads, requeues and purges them.

    Args:
        connection: where the queues are.
        limits: returns how many dead letters are kept, and how long; see `limit_arguments`.
        add_command: name of the command that adds a message to a queue, XADD or LPUSH.
        read_task: returns the task in an entry; None if it isn't one.
        result_backend: returns where error results are stored.
        tracking: whether tasks are recorded.
    """

    def __init__(
        self,
        connection: Connection,
        limits: Callable[[], list[int]],
        add_command: str,
        read_task: Callable[[StreamEntry], TaskiqMessage | None],
        result_backend: Callable[[], AsyncResultBackend[Any]],
        tracking: WorkerTracking,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._add_command = add_command
        self._read_task = read_task
        self._result_backend = result_backend
        self._tracking = tracking
        self._refusal = ScriptRefusal(logger, "Dead letters are limited again")

    def _check_limits(self, queue_name: str, reply: int) -> None:
        """Log once if a script has added a dead letter, but could not limit their number."""
        if reply == LIMITS_REFUSED:
            self._refusal.record_refusal(
                "`max_dead_letters` and `dead_letter_ttl` have no effect on the queue %r, because "
                "this user may not delete dead letters. Grant XTRIM and XLEN.",
                queue_name,
            )
        elif reply == 1:
            self._refusal.record_success()

    async def add_message(self, letter: NewDeadLetter, fields: Iterable[str | bytes]) -> bool:
        """Add a message to the dead letters once, and return whether it was added (EVALSHA).

        If Redis can't be reached for a minute, or refuses it, log that. This doesn't raise, since
        the caller can do nothing about it.

        Args:
            letter: the message.
            fields: names and values of the fields that a dead letter has; see `dead_letter_fields`.
        """
        key = dead_letters_key(letter.queue_name)
        entry = StreamEntry(letter.queue_name, "", {DATA_FIELD: letter.data})
        words = [DATA_FIELD, letter.data, *fields, *self._tracked_fields(entry)]
        words += [TOKEN_FIELD, letter.token]

        async def add(keys: list[str], client: Client) -> Any:
            letter.tries += 1
            # redis-py may have sent the script more than once per try.
            repeated = letter.tries > 1 or self._connection.may_repeat
            args = [*self._limits(), int(repeated), letter.token, *words]
            return await evaluate(ADD_DEAD_LETTER, keys, args, client)

        async def run(keys: list[str]) -> Any:
            return await self._connection.call(
                partial(add, keys),
                key=keys,
                size=len(letter.data),
                is_retried=is_passing,
                retry_timeout=RETRY_TIMEOUT,
            )

        try:
            reply = await self._tracking.run(run, [key], letter.queue_name)
        except TaskIQRedisError as error:
            logger.error(  # noqa: TRY400 - its traceback adds nothing
                "No dead letter could be added to the queue %r: a message of %d bytes is lost. %s",
                letter.queue_name,
                len(letter.data),
                error,
            )
            return False
        self._check_limits(letter.queue_name, reply)
        return True

    async def keep_failed(self, letter: NewDeadLetter, origin: Origin, failure: Failure) -> None:
        """Add a dead letter for a task that has failed, whose message Redis doesn't hold any more.

        Args:
            letter: the message.
            origin: see `Origin`.
            failure: the failure.
        """
        if await self.add_message(letter, fields_of_failure(failure, origin)):
            log_dead_letter(letter.queue_name, str(failure), failure_reason(failure))

    async def store_error(self, task: TaskiqMessage, error: DeadLetterError) -> None:
        """Store an error result for the waiters of a task that is not run any more.

        Args:
            task: the task.
            error: the error.
        """
        result = TaskiqResult[Any](
            is_err=True, return_value=None, execution_time=0, labels=task.labels, error=error
        )
        result_backend = self._result_backend()
        try:
            if not await result_backend.is_result_ready(task.task_id):
                await result_backend.set_result(task.task_id, result)
        except Exception:
            # The user's result backend may raise anything.
            logger.exception("No error result could be stored for %s.", describe_task(task))

    def _tracked_fields(self, entry: StreamEntry) -> list[str | bytes]:
        """Return the field by which scripts find the record of a task; nothing if it has none."""
        task = self._read_task(entry) if self._tracking.active else None
        return [] if task is None else [DIGEST_FIELD, task_digest(task.task_id)]

    async def requeue(self, queue_name: str, ids: tuple[str, ...], task_name: str | None) -> int:
        """Add dead letters to their queue again, and return their number (EVALSHA).

        Their error results are deleted before. One that can't be added is logged and kept.

        Args:
            queue_name: the queue.
            ids: their IDs. Empty for all.
            task_name: only those of this task. None for all.
        """
        keys, names = [queue_name, dead_letters_key(queue_name)], " ".join(DEAD_LETTER_FIELDS)
        if self._add_command == "LPUSH":
            keys.append(unknown_tasks_key(queue_name))
        number = 0
        for chunk in await self._id_chunks(queue_name, ids, task_name):
            await self._delete_errors(queue_name, chunk)
            arguments: list[str | bytes | int] = [names, self._add_command, *chunk]
            run = partial(self._connection.run_script, REQUEUE, args=arguments)
            reply: Any = await self._tracking.run(run, keys, queue_name)
            done, refused, reason = reply
            number += done
            if refused:
                logger.warning(
                    "Dead letters of the queue %r can't be requeued, and are kept: %s. The reason "
                    "of the last one: %s. `purge_dead_letters()` deletes them.",
                    queue_name,
                    ", ".join(map(as_str, refused)),
                    one_line(as_str(reason)),
                )
        return number

    async def _delete_errors(self, queue_name: str, ids: Iterable[str]) -> None:
        """Delete the error results of dead letters, so that waiters get new results."""
        # Backends of other packages overwrite them when the tasks have run.
        delete = getattr(self._result_backend(), "_delete_dead_letter_error", None)
        if delete is None:
            return
        key = dead_letters_key(queue_name)
        for letter_id in ids:
            rows: Any = await self._connection.call(
                lambda client: client.xrange(key, letter_id, letter_id),  # noqa: B023 - called at once
                key=key,
            )
            for entry in entries_of(queue_name, rows):
                task = self._read_task(entry)
                try:
                    if task is not None:
                        await delete(task.task_id, ERROR_FIELD in entry.fields)
                except Exception as error:  # noqa: BLE001 - a serializer may raise anything
                    logger.warning(
                        "The error result of %s could not be deleted; it is kept until the task "
                        "has run: %s",
                        self.describe(entry),
                        error,
                    )

    def describe(self, entry: StreamEntry) -> str:
        """Return a description of a message, for log messages."""
        task = self._read_task(entry)
        if task is None:
            return f"the entry {entry.id!r} of the stream {entry.stream!r}"
        return describe_task(task)

    async def purge(self, queue_name: str, ids: tuple[str, ...], task_name: str | None) -> int:
        """Delete dead letters, and return their number (EVALSHA of XDEL).

        Args:
            queue_name: the queue.
            ids: their IDs. Empty for all.
            task_name: only those of this task. None for all.
        """
        keys = [dead_letters_key(queue_name)]
        return sum(
            [
                await self._connection.run_script(PURGE, keys, [*chunk])
                for chunk in await self._id_chunks(queue_name, ids, task_name)
            ]
        )

    async def _id_chunks(
        self, queue_name: str, ids: tuple[str, ...], task_name: str | None
    ) -> list[tuple[str, ...]]:
        """Return the given IDs in chunks; without any, the IDs of all dead letters, or a task's.

        What can't be the ID of an entry is left out: Redis would refuse the whole command.
        """
        chosen = [each for each in ids if ENTRY_ID.fullmatch(each)]
        if not ids:
            async for entries in self._chunks(queue_name):
                chosen += [
                    entry.id for entry in entries if self._is_of_task(queue_name, entry, task_name)
                ]
        return [tuple(chosen[first : first + CHUNK]) for first in range(0, len(chosen), CHUNK)]

    def _is_of_task(self, queue_name: str, entry: StreamEntry, task_name: str | None) -> bool:
        """Return whether a dead letter is that of a task; any is if the name is None."""
        if task_name is None:
            return True
        # Signatures are those of the queue.
        task = self._read_task(StreamEntry(queue_name, entry.id, entry.fields))
        return task is not None and task.task_name == task_name

    async def _chunks(self, queue_name: str) -> AsyncGenerator[list[StreamEntry], None]:
        start, key = "-", dead_letters_key(queue_name)
        while True:
            first = start  # bound to this iteration
            rows: Any = await self._connection.call(
                lambda client: client.xrange(key, first, "+", CHUNK),  # noqa: B023 - called at once
                key=key,
            )
            entries = entries_of(key, rows)
            if entries:
                yield entries
            if len(entries) < CHUNK:
                return
            start = f"({as_str(entries[-1].id)}"
