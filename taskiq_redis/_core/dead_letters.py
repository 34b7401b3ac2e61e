"""Dead letters: messages that are kept, but not run any more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from taskiq_redis._core.queued_task import Load, QueuedTask
from taskiq_redis._core.wire import time_of_id

#: fields of a dead letter that follow the fields of the original entry
DEAD_LETTER_FIELDS = ("dead-reason", "dead-deliveries", "dead-consumer", "dead-group", "dead-id")
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
        queue_name: queue that the message was in.
        data: the message as it was sent, without its signature if that is valid. None if the entry
            has no field ``data``.
        since: when it was moved to the dead letters, as `died_at`.
        due: None.
        owner: None.
        fields: all fields of the entry, as they are stored.
        reason: why the message isn't run.
        deliveries: number of failed deliveries: the worker didn't acknowledge the message.
        consumer: name of the last worker that received it.
        group: consumer group of that worker.
        entry_id: ID of the message in its stream.
        sent_at: when it was sent, by the server's clock.
        died_at: when it was moved to the dead letters, by the server's clock.
        load: see `QueuedTask`.
    """

    fields: dict[str, bytes] = field(repr=False)
    reason: str
    consumer: str
    group: str
    entry_id: str
    sent_at: datetime
    died_at: datetime


def dead_letter_fields(
    reason: str, deliveries: int, consumer: str, group: str, entry_id: str
) -> list[str]:
    """Return names and values of the fields that a dead letter adds to the original entry.

    Args:
        reason: why the message isn't run.
        deliveries: number of failed deliveries.
        consumer: name of the last worker that received it.
        group: its consumer group.
        entry_id: ID of the entry in its stream.
    """
    values = (reason, str(deliveries), consumer, group, entry_id)
    return [text for field in zip(DEAD_LETTER_FIELDS, values, strict=True) for text in field]


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
        fields.get(name, b"").decode(errors="backslashreplace") for name in DEAD_LETTER_FIELDS
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
    )


def _number_in(text: str) -> int:
    """Return the number in a text, or 0; no number of deliveries has many digits."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0
