# Generated from taskiq_redis/_async/brokers/dead_entries.py by scripts/unasync.py; edit that.

"""Move entries of streams that are not run any more to the dead letters."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from taskiq import TaskiqMessage

from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import DATA_FIELD, dead_letter_fields
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis._core.redis_errors import Predicate, is_passing, is_transient
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers.acks import Acknowledger
from taskiq_redis._sync.brokers.consumer_groups import Consumer
from taskiq_redis._sync.brokers.dead_letter_store import (
    RETRY_TIMEOUT,
    DeadLetterStore,
    NewDeadLetter,
    Origin,
    failure_reason,
    fields_of_failure,
    log_dead_letter,
)
from taskiq_redis._sync.brokers.listeners import Fetched
from taskiq_redis._sync.brokers.task_records import WorkerTracking
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.failed_tasks import TaskRun
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import CommandRefusedError, DeadLetterError

MOVE = lua.load("group_progress", "dead_letter_limits", "task_records", "move_to_dead_letters")

logger = logging.getLogger("taskiq_redis")


class DeadEntries(DeadLetterStore):
    """Moves entries of streams to the dead letters of their queue, and manages these.

    Args:
        connection: where the streams are.
        limits: returns how many dead letters are kept, and how long; see `limit_arguments`.
        acknowledger: acknowledges entries that were deleted.
        read_task: returns the task in an entry; None if it isn't one.
        result_backend: returns where error results are stored.
        tracking: whether tasks are recorded.
    """

    def __init__(
        self,
        connection: Connection,
        limits: Callable[[], list[int]],
        acknowledger: Acknowledger,
        read_task: Callable[[StreamEntry], TaskiqMessage | None],
        result_backend: Callable[[], SyncResultBackend[Any]],
        tracking: WorkerTracking,
    ) -> None:
        super().__init__(connection, limits, "XADD", read_task, result_backend, tracking)
        self._acknowledger = acknowledger
        self._failed_refusal = ScriptRefusal(logger, "Failed tasks become dead letters again")

    def add(
        self,
        consumer: Consumer,
        fetched: Fetched,
        *,
        delete: bool,
        reason: str | None = None,
        error: DeadLetterError | None = None,
    ) -> None:
        """Move an entry that must not be run to the dead letters, or acknowledge a deleted entry.

        Args:
            consumer: the consumer that holds it.
            fetched: the entry.
            delete: whether to delete it from its stream, if no other group needs it.
            reason: why its message is refused. Default None: it has no message, or too many
                deliveries failed.
            error: the error result for waiters, if there is a reason. Default none.
        """
        entry = fetched.entry
        if not entry.fields:
            with self._refusals_logged(entry):
                self._acknowledger.acknowledge(
                    entry.stream, consumer.group.name, entry.id, delete=False
                )
        elif reason is not None:
            if error is not None:
                self._store_error_of(entry, error)
            self._move(consumer, fetched, consumer.name, reason, delete)
        elif DATA_FIELD not in entry.fields:
            reason = f"it has no field {DATA_FIELD!r}"
            self._move(consumer, fetched, fetched.former_owner, reason, delete)
        else:
            error = DeadLetterError(
                deliveries=fetched.failures,
                consumer=fetched.former_owner,
                entry_id=entry.id,
                queue_name=entry.stream,
            )
            self._store_error_of(entry, error)
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
        moved = 0
        with self._refusals_logged(entry):
            moved = self.move(consumer, entry, fields, delete)
        if moved > 0:
            log_dead_letter(entry.stream, self.describe(entry), reason)

    def move(
        self,
        consumer: Consumer,
        entry: StreamEntry,
        fields: Sequence[str | bytes],
        delete: bool,
        is_retried: Predicate = is_transient,
    ) -> int:
        """Acknowledge an entry and add it to the dead letters, if the consumer still holds it.

        Args:
            consumer: the consumer.
            entry: the entry.
            fields: names and values of the fields that a dead letter has; see `dead_letter_fields`.
            delete: whether to delete the entry from its stream, if no other group needs it.
            is_retried: returns whether to retry after an error.

        Returns:
            A positive number; 0 if the consumer doesn't hold it; or -1 if the entry was deleted
            from its stream, and so was only acknowledged.

        Raises:
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis refuses it.
        """
        run = partial(
            self._connection.run_script,
            MOVE,
            args=[
                consumer.group.name,
                consumer.name,
                entry.id,
                int(delete),
                *self._limits(),
                *fields,
                *self._tracked_fields(entry),
            ],
            is_retried=is_retried,
            retry_timeout=RETRY_TIMEOUT,
            waits_for_slot=False,
        )
        keys = [entry.stream, dead_letters_key(entry.stream)]
        moved: int = self._tracking.run(run, keys, entry.stream)
        self._check_limits(entry.stream, moved)
        return moved

    def move_failed(
        self, run: TaskRun, consumer: Consumer, fetched: Fetched, data: bytes, delete: bool
    ) -> bool:
        """Move the entry of a task that has failed for good; return whether it was acknowledged.

        If Redis refuses that, log it once. The caller then acknowledges the entry: the task must
        not run again.

        Args:
            run: the run of the task.
            consumer: the consumer that holds the entry.
            fetched: the entry.
            data: its message, with its signature.
            delete: whether to delete the entry from its stream, if no other group needs it.

        Raises:
            ServerUnavailableError: Redis could not be reached for a minute.
        """
        failure, refusal = run.failure(), self._failed_refusal
        if failure is None or (refusal.active and not refusal.may_retry()):
            return False
        fields = fields_of_failure(failure, origin_of(consumer, fetched))
        try:
            moved = self.move(consumer, fetched.entry, fields, delete, is_passing)
        except CommandRefusedError as error:
            refusal.record_refusal(
                "Failed tasks of the queue %r are acknowledged without becoming dead letters: %s",
                fetched.entry.stream,
                error,
            )
            return False
        run.forget()
        refusal.record_success()
        fetched.release()
        if moved < 0:
            # `maxlen` or another program has deleted the entry, but this worker has its message.
            self.add_message(NewDeadLetter(fetched.entry.stream, data), fields)
        if moved:
            log_dead_letter(fetched.entry.stream, str(failure), failure_reason(failure))
        return True

    def _store_error_of(self, entry: StreamEntry, error: DeadLetterError) -> None:
        task = self._read_task(entry)
        if task is not None:
            self.store_error(task, error)


def origin_of(consumer: Consumer, fetched: Fetched) -> Origin:
    """Return the origin of the dead letter of an entry.

    Args:
        consumer: the consumer that holds it.
        fetched: the entry.
    """
    return fetched.failures, consumer.name, consumer.group.name, fetched.entry.id
