"""Dead letters: messages that are kept, but not run any more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from taskiq_redis._core.queued_task import Load, QueuedTask
from taskiq_redis._core.wire import time_of_id

#: fields that each dead letter has after the fields of the original entry
_FIELDS = ("dead-reason", "dead-deliveries", "dead-consumer", "dead-group", "dead-id")
#: fields that some dead letters have after those
ERROR_FIELD, TRACEBACK_FIELD, TOKEN_FIELD = "dead-error", "dead-traceback", "dead-token"
#: field of a dead letter whose task is tracked: the digest of the task ID
DIGEST_FIELD = "dead-task"
#: all fields of a dead letter that are not fields of the original entry
DEAD_LETTER_FIELDS = (*_FIELDS, ERROR_FIELD, TRACEBACK_FIELD, TOKEN_FIELD, DIGEST_FIELD)
#: field of a stream entry with the bytes of the message
DATA_FIELD = "data"
#: maximum number of digits of the number of deliveries
MAX_DIGITS = 18

#: returns a message without its signature, and a function that reads the task in it
OpenMessage = Callable[[bytes], tuple[bytes, Load]]


@dataclass(frozen=True, kw_only=True)
class DeadLetter(QueuedTask):
    """A message that is kept, but not run any more. See `QueuedTask` for the task in it.

    Args:
        id: ID of the dead letter, for `requeue_dead_letters` and `purge_dead_letters`.
        queue_name: stream or list that the message was in.
        data: the message as it was sent, without its signature if that is valid. None if the entry
            has no field ``data``.
        since: when it was moved to the dead letters, as `died_at`.
        due: None.
        owner: None.
        fields: all fields of the entry, as they are stored.
        reason: why the message isn't run.
        deliveries: number of failed deliveries: the worker didn't acknowledge the message.
        consumer: name of the last worker that received it; '' for a list.
        group: consumer group of that worker; '' for a list.
        entry_id: ID of the message in its stream; '' for a list.
        sent_at: when it was sent, by the server's clock. For a list, the same as `died_at`.
        died_at: when it was moved to the dead letters, by the server's clock.
        error: class and text of the exception that the task raised, up to 1,000 characters. None if
            the message is here for another reason.
        traceback: traceback of that exception, of which up to 20,000 characters are kept. None if
            the message is here for another reason.
        load: see `QueuedTask`.
    """

    fields: dict[str, bytes] = field(repr=False)
    reason: str
    consumer: str
    group: str
    entry_id: str
    sent_at: datetime
    died_at: datetime
    error: str | None = None
    traceback: str | None = None


def limit_arguments(number: int | None, ttl: float | None) -> list[int]:
    """Return the limits of a queue's dead letters, as arguments of the scripts that add one.

    Args:
        number: maximum number. None for no limit.
        ttl: s; how long each is kept. None for ever.
    """
    return [number or 0, 0 if ttl is None else max(1, round(ttl * 1000))]


def dead_letter_fields(
    reason: str, deliveries: int = 0, consumer: str = "", group: str = "", entry_id: str = ""
) -> list[str]:
    """Return names and values of the fields that a dead letter adds to the original entry.

    Args:
        reason: why the message isn't run.
        deliveries: number of failed deliveries. Default 0.
        consumer: name of the last worker that received it. Default '', for a list.
        group: its consumer group. Default '', for a list.
        entry_id: ID of the entry in its stream. Default '', for a list.
    """
    values = (reason, str(deliveries), consumer, group, entry_id)
    return [text for field in zip(_FIELDS, values, strict=True) for text in field]


def failure_fields(error: str, traceback: str) -> list[str]:
    """Return names and values of the fields that the dead letter of a failed task adds.

    Args:
        error: class and text of its exception.
        traceback: traceback of its exception.
    """
    return [ERROR_FIELD, error, TRACEBACK_FIELD, traceback]


def read_dead_letter(
    queue_name: str,
    letter_id: str,
    fields: Mapping[str, bytes],
    open_message: OpenMessage | None = None,
) -> DeadLetter:
    """Return a dead letter; fields that are missing or malformed are empty.

    Args:
        queue_name: queue that the message was in.
        letter_id: ID of the dead letter.
        fields: fields of the dead letter.
        open_message: returns a message without its signature, and a function that reads the task
            in it. Default: the message as it is, and none.
    """
    reason, deliveries, consumer, group, entry_id = (
        _text_in(fields, name) or "" for name in _FIELDS
    )
    original = {name: value for name, value in fields.items() if name not in DEAD_LETTER_FIELDS}
    data, load = original.get(DATA_FIELD), None
    if data is not None and open_message is not None:
        data, load = open_message(data)
    died_at = time_of_id(letter_id)
    return DeadLetter(
        id=letter_id,
        queue_name=queue_name,
        data=data,
        since=died_at,
        load=load,
        fields=original,
        reason=reason,
        deliveries=_number_in(deliveries),
        consumer=consumer,
        group=group,
        entry_id=entry_id,
        sent_at=time_of_id(entry_id or letter_id),
        died_at=died_at,
        error=_text_in(fields, ERROR_FIELD),
        traceback=_text_in(fields, TRACEBACK_FIELD),
    )


def _text_in(fields: Mapping[str, bytes], name: str) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode(errors="backslashreplace")


def _number_in(text: str) -> int:
    """Return the number in a text, or 0; no number of deliveries has many digits."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0
