# Generated from taskiq_redis/_async/brokers/failed_tasks.py by scripts/unasync.py; edit that.

"""Keep the messages of tasks that have failed for good as dead letters."""

import logging

from taskiq_redis._core.dead_letters import dead_letter_fields, failure_fields
from taskiq_redis._core.redis_errors import is_passing
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._sync.brokers.consumer_groups import Consumer
from taskiq_redis._sync.brokers.dead_entries import DeadLetters
from taskiq_redis._sync.brokers.dead_letter_store import DeadLetterStore, NewLetter, log_dead_letter
from taskiq_redis._sync.brokers.listeners import Fetched
from taskiq_redis._taskiq.failed_tasks import Failure, TaskRun
from taskiq_redis.exceptions import CommandRefusedError

logger = logging.getLogger("taskiq_redis")


class FailedEntries:
    """Moves the entries of failed tasks to the dead letters, in place of acknowledging them.

    Args:
        dead_letters: the dead letters.
    """

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters
        self._refusal = ScriptRefusal(logger, "Failed tasks become dead letters again")

    def move(
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
        failure, refusal = run.failure(), self._refusal
        if failure is None or (refusal.active and not refusal.may_retry()):
            return False
        fields = _fields_of(failure, fetched, consumer)
        try:
            moved = self._dead_letters.move(consumer, fetched.entry, fields, delete, is_passing)
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
            self._dead_letters.keep(NewLetter(fetched.entry.stream, data), fields)
        if moved:
            log_dead_letter(fetched.entry.stream, str(failure), _reason(failure))
        return True

    def keep(
        self, consumer: Consumer, fetched: Fetched, letter: NewLetter, failure: Failure
    ) -> None:
        """Add a dead letter for a task that fails after its entry was acknowledged.

        Args:
            consumer: the consumer that held the entry.
            fetched: the entry.
            letter: its message.
            failure: the failure.
        """
        if self._dead_letters.keep(letter, _fields_of(failure, fetched, consumer)):
            log_dead_letter(letter.queue_name, str(failure), _reason(failure))


def keep_failed_message(store: DeadLetterStore, letter: NewLetter, failure: Failure) -> None:
    """Add a dead letter for a failed task whose message was in a list.

    Args:
        store: the dead letters.
        letter: the message.
        failure: the failure.
    """
    fields = dead_letter_fields(_reason(failure), 0, "", "", "")
    if store.keep(letter, [*fields, *failure_fields(failure.error, failure.traceback)]):
        log_dead_letter(letter.queue_name, str(failure), _reason(failure))


def _fields_of(failure: Failure, fetched: Fetched, consumer: Consumer) -> list[str | bytes]:
    fields = dead_letter_fields(
        _reason(failure), fetched.failures, consumer.name, consumer.group.name, fetched.entry.id
    )
    return [*fields, *failure_fields(failure.error, failure.traceback)]


def _reason(failure: Failure) -> str:
    return f"its last run raised {failure.kind}"
