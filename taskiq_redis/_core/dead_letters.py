"""What is known of a message that is not run any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

#: the fields that a dead letter has behind those of the entry that it was
NOTES = ("dead-reason", "dead-deliveries", "dead-consumer", "dead-group", "dead-id")
#: the field of a stream entry that holds the bytes of a message
DATA = "data"


@dataclass(frozen=True)
class DeadLetter:
    """A message that is kept, but not run any more.

    Args:
        id: its own, for `requeue` and `purge`.
        queue_name: the stream that it was in.
        data: the message as it was sent; None if the entry held none.
        fields: all fields of the entry.
        reason: why it is not run.
        deliveries: how many workers had it, and didn't acknowledge it.
        consumer: the last of them.
        group: their consumer group.
        entry_id: its id in the queue.
        sent_at: when it was sent, by the server's clock.
        died_at: when it was given up, by the server's clock.
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


def notes(reason: str, deliveries: int, consumer: str, group: str, entry_id: str) -> list[str]:
    """Return names and values of the fields that tell what happened to an entry.

    Args:
        reason: why it is not run.
        deliveries: how many have failed.
        consumer: who had it last.
        group: their consumer group.
        entry_id: its id.
    """
    values = (reason, str(deliveries), consumer, group, entry_id)
    return [text for note in zip(NOTES, values, strict=True) for text in note]


def read_dead_letter(queue_name: str, letter_id: str, fields: Mapping[str, bytes]) -> DeadLetter:
    """Read a dead letter; what somebody else has put there has empty notes.

    Args:
        queue_name: the stream that it was in.
        letter_id: its id.
        fields: its fields.
    """
    reason, deliveries, consumer, group, entry_id = (
        fields.get(note, b"").decode(errors="backslashreplace") for note in NOTES
    )
    original = {name: value for name, value in fields.items() if name not in NOTES}
    return DeadLetter(
        id=letter_id,
        queue_name=queue_name,
        data=original.get(DATA),
        fields=original,
        reason=reason,
        deliveries=int(deliveries) if deliveries.isdecimal() else 0,
        consumer=consumer,
        group=group,
        entry_id=entry_id,
        sent_at=_time_of(entry_id or letter_id),
        died_at=_time_of(letter_id),
    )


def _time_of(entry_id: str) -> datetime:
    """Return the time that an id of a stream entry begins with, in ms."""
    text = entry_id.partition("-")[0]
    try:
        return datetime.fromtimestamp(int(text) / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):  # anybody may add entries with any id
        return datetime.fromtimestamp(0, timezone.utc)
