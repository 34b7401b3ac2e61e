"""Dead letters: messages that are kept, but not run any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

#: fields of a dead letter that follow the fields of the original entry
DEAD_LETTER_FIELDS = ("dead-reason", "dead-deliveries", "dead-consumer", "dead-group", "dead-id")
#: further field of a dead letter whose task is tracked: the digest of the task ID
DIGEST_FIELD = "dead-task"
#: field of a stream entry with the bytes of the message
DATA_FIELD = "data"
#: maximum number of digits of the number of deliveries
MAX_DIGITS = 18


@dataclass(frozen=True)
class DeadLetter:
    """A message that is kept, but not run any more.

    Args:
        id: ID of the dead letter, for `requeue_dead_letters` and `purge_dead_letters`.
        queue_name: stream that the message was in.
        data: the message as it was sent, without its signature if that is valid. None if the entry
            has no field ``data``.
        fields: all fields of the entry, as they are stored.
        reason: why the message isn't run.
        deliveries: number of failed deliveries: the worker didn't acknowledge the message.
        consumer: name of the last worker that received it.
        group: consumer group of that worker.
        entry_id: ID of the message in its stream.
        sent_at: when it was sent, by the server's clock.
        died_at: when it was moved to the dead letters, by the server's clock.
    """

    id: str
    queue_name: str
    data: bytes | None
    fields: dict[str, bytes]
    reason: str
    deliveries: int
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


def read_dead_letter(queue_name: str, letter_id: str, fields: Mapping[str, bytes]) -> DeadLetter:
    """Return a dead letter; fields that are missing or malformed are empty.

    Args:
        queue_name: stream that the message was in.
        letter_id: ID of the dead letter.
        fields: fields of the dead letter.
    """
    reason, deliveries, consumer, group, entry_id = (
        fields.get(name, b"").decode(errors="backslashreplace") for name in DEAD_LETTER_FIELDS
    )
    added = {*DEAD_LETTER_FIELDS, DIGEST_FIELD}
    original = {name: value for name, value in fields.items() if name not in added}
    return DeadLetter(
        id=letter_id,
        queue_name=queue_name,
        data=original.get(DATA_FIELD),
        fields=original,
        reason=reason,
        deliveries=_number_in(deliveries),
        consumer=consumer,
        group=group,
        entry_id=entry_id,
        sent_at=_time_of(entry_id or letter_id),
        died_at=_time_of(letter_id),
    )


def _number_in(text: str) -> int:
    """Return the number in a text, or 0; no number of deliveries has many digits."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


def _time_of(entry_id: str) -> datetime:
    """Return the time in an entry ID, which begins with ms of Unix time."""
    text = entry_id.partition("-")[0]
    try:
        return datetime.fromtimestamp(int(text) / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):  # XADD accepts any number as the time
        return datetime.fromtimestamp(0, timezone.utc)
