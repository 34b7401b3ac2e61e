# Generated from taskiq_redis/_async/brokers/dead_letters.py by scripts/unasync.py; edit that.

"""Dead letters: messages that are not run any more, in a stream of their own per queue."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from taskiq import TaskiqMessage, TaskiqResult

from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import (
    DATA_FIELD,
    DEAD_LETTER_FIELDS,
    DIGEST_FIELD,
    DeadLetter,
    dead_letter_fields,
    read_dead_letter,
)
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis._core.task_status import task_digest
from taskiq_redis._core.texts import one_line, quote
from taskiq_redis._core.wire import StreamEntry, as_str, entries_of
from taskiq_redis._sync.brokers.acks import Acknowledger
from taskiq_redis._sync.brokers.consumer_groups import Consumer
from taskiq_redis._sync.brokers.leases import Fetched
from taskiq_redis._sync.brokers.records import Tracking
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import CommandRefusedError, DeadLetterError

MOVE_TO_DEAD_LETTERS = lua.load("group_progress", "task_records", "move_to_dead_letters")
REQUEUE = lua.load("task_records", "requeue")
PURGE = lua.load("purge")

#: maximum number of dead letters per command, which blocks the server while it runs
CHUNK = 100
#: s; how long moving an entry to the dead letters is retried
RETRY_TIMEOUT = 60.0

logger = logging.getLogger("taskiq_redis")


class DeadLetters:
    """Moves entries to the dead letters of their queue, and reads, requeues and purges those.

    Args:
        connection: where the streams are.
        acknowledger: acknowledges entries that were deleted.
        read_task: returns the task in an entry; None if it isn't one.
        result_backend: returns where error results are stored.
        tracking: whether tasks are recorded.
    """

    def __init__(
        self,
        connection: Connection,
        acknowledger: Acknowledger,
        read_task: Callable[[StreamEntry], TaskiqMessage | None],
        result_backend: Callable[[], SyncResultBackend[Any]],
        tracking: Tracking,
    ) -> None:
        self._connection = connection
        self._acknowledger = acknowledger
        self._read_task = read_task
        self._result_backend = result_backend
        self._tracking = tracking

    def describe(self, entry: StreamEntry) -> str:
        """Return a description of a message, for log messages."""
        task = self._read_task(entry)
        if task is None:
            return f"the entry {entry.id!r} of the stream {entry.stream!r}"
        return f"the task {quote(task.task_name)} with the id {quote(task.task_id)}"

    def add(
        self, consumer: Consumer, fetched: Fetched, *, delete: bool, reason: str | None = None
    ) -> None:
        """Move an entry that must not be run to the dead letters, or acknowledge a deleted entry.

        Args:
            consumer: the consumer that holds it.
            fetched: the entry.
            delete: whether to delete it from its stream, if no other group needs it.
            reason: why its message is refused. Default None: it has no message, or too many
                deliveries failed.
        """
        entry = fetched.entry
        if not entry.fields:
            with self._refusals_logged(entry):
                self._acknowledger.acknowledge(
                    entry.stream, consumer.group.name, entry.id, delete=False
                )
        elif reason is not None:
            self._move(consumer, fetched, consumer.name, reason, delete)
        elif DATA_FIELD not in entry.fields:
            reason = f"it has no field {DATA_FIELD!r}"
            self._move(consumer, fetched, fetched.former_owner, reason, delete)
        else:
            self._store_error(fetched)
            reason = f"{fetched.failures} deliveries have failed"
            self._move(consumer, fetched, fetched.former_owner, reason, delete)

    @contextmanager
    def _refusals_logged(self, entry: StreamEntry) -> Iterator[None]:
        """Log that Redis refuses a dead letter; the entry is delivered again.

        Raising this would keep further entries from being run.
        """
        try:
            yield
        except CommandRefusedError as error:
            logger.warning("No dead letter could be added for %s: %s", self.describe(entry), error)

    def _move(
        self, consumer: Consumer, fetched: Fetched, owner: str, reason: str, delete: bool
    ) -> None:
        """Move an entry, and log that unless another worker has moved it before (EVALSHA)."""
        entry, group = fetched.entry, consumer.group.name
        fields = dead_letter_fields(reason, fetched.failures, owner, group, entry.id)
        task = self._read_task(entry) if self._tracking.active else None
        if task is not None:
            fields += [DIGEST_FIELD, task_digest(task.task_id)]
        moved = False
        with self._refusals_logged(entry):
            moved = self._tracking.run(
                partial(
                    self._connection.run_script,
                    MOVE_TO_DEAD_LETTERS,
                    args=[group, consumer.name, entry.id, int(delete), *fields],
                    retry_timeout=RETRY_TIMEOUT,
                    waits_for_slot=False,
                ),
                [entry.stream, dead_letters_key(entry.stream)],
                entry.stream,
            )
        if moved:
            logger.error(
                "Added a dead letter to the queue %r: %s is not run, because %s. See "
                "`dead_letters()`, `requeue_dead_letters()` and `purge_dead_letters()`.",
                entry.stream,
                self.describe(entry),
                reason,
            )

    def _store_error(self, fetched: Fetched) -> None:
        """Store an error result for the waiters of a task that is not run any more."""
        entry = fetched.entry
        task = self._read_task(entry)
        if task is None:
            return
        error = DeadLetterError(
            deliveries=fetched.failures,
            consumer=fetched.former_owner,
            entry_id=entry.id,
            queue_name=entry.stream,
        )
        result = TaskiqResult[Any](
            is_err=True, return_value=None, execution_time=0, labels=task.labels, error=error
        )
        result_backend = self._result_backend()
        try:
            if not result_backend.is_result_ready(task.task_id):
                result_backend.set_result(task.task_id, result)
        except Exception:
            # The user's result backend may raise anything.
            logger.exception("No error result could be stored for %s.", self.describe(entry))

    def read(self, queue_name: str, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters of a queue (XRANGE)."""
        letters: list[DeadLetter] = []
        for entries in self._chunks(queue_name, limit):
            letters += [read_dead_letter(queue_name, entry.id, entry.fields) for entry in entries]
        return letters

    def requeue(self, queue_name: str, ids: tuple[str, ...]) -> int:
        """Add dead letters to their queue again, and return their number (EVALSHA of XADD, XDEL).

        Their error results are deleted before. One that can't be added is logged and kept.

        Args:
            queue_name: the queue.
            ids: their IDs. Empty for all.
        """
        keys = [queue_name, dead_letters_key(queue_name)]
        names = " ".join([*DEAD_LETTER_FIELDS, DIGEST_FIELD])
        number = 0
        for chunk in self._id_chunks(queue_name, ids):
            self._delete_errors(queue_name, chunk)
            run = partial(self._connection.run_script, REQUEUE, args=[names, *chunk])
            reply: Any = self._tracking.run(run, keys, queue_name)
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

    def _delete_errors(self, queue_name: str, ids: Iterable[str]) -> None:
        """Delete the error results of dead letters, so that waiters get new results."""
        # Backends of other packages overwrite them when the tasks have run.
        delete = getattr(self._result_backend(), "_delete_dead_letter_error", None)
        if delete is None:
            return
        key = dead_letters_key(queue_name)
        for letter_id in ids:
            rows: Any = self._connection.call(
                lambda client: client.xrange(key, letter_id, letter_id),  # noqa: B023 - called at once
                key=key,
            )
            for entry in entries_of(queue_name, rows):
                task = self._read_task(entry)
                try:
                    if task is not None:
                        delete(task.task_id)
                except Exception as error:  # noqa: BLE001 - a serializer may raise anything
                    logger.warning(
                        "The error result of %s could not be deleted; it is kept until the task "
                        "has run: %s",
                        self.describe(entry),
                        error,
                    )

    def purge(self, queue_name: str, ids: tuple[str, ...]) -> int:
        """Delete dead letters, and return their number (EVALSHA of XDEL).

        Args:
            queue_name: the queue.
            ids: their IDs. Empty for all.
        """
        keys = [dead_letters_key(queue_name)]
        return sum(
            [
                self._connection.run_script(PURGE, keys, [*chunk])
                for chunk in self._id_chunks(queue_name, ids)
            ]
        )

    def _id_chunks(self, queue_name: str, ids: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return the given IDs in chunks; without any, the IDs of all dead letters."""
        chosen = list(ids)
        if not ids:
            for entries in self._chunks(queue_name, None):
                chosen += [entry.id for entry in entries]
        return [tuple(chosen[first : first + CHUNK]) for first in range(0, len(chosen), CHUNK)]

    def _chunks(
        self, queue_name: str, limit: int | None
    ) -> Generator[list[StreamEntry], None, None]:
        start, key = "-", dead_letters_key(queue_name)
        while limit is None or limit > 0:
            count = CHUNK if limit is None else min(CHUNK, limit)
            first = start  # bound to this iteration
            rows: Any = self._connection.call(
                lambda client: client.xrange(key, first, "+", count),  # noqa: B023 - called at once
                key=key,
            )
            entries = entries_of(key, rows)
            if entries:
                yield entries
            if len(entries) < count:
                return
            start = f"({as_str(entries[-1].id)}"
            limit = None if limit is None else limit - count
