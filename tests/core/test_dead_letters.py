"""Fields of dead letters."""

from datetime import datetime, timezone

from taskiq_redis._core.dead_letters import (
    DEAD_LETTER_FIELDS,
    dead_letter_fields,
    failure_fields,
    limit_arguments,
    read_dead_letter,
)

FIELDS = {"data": b"\xff", "more": b"x"}


def test_fields_are_read_back() -> None:
    written = dead_letter_fields("it was bad", 5, "me", "taskiq", "1700000000000-3")
    written += failure_fields("ValueError: no", "Traceback\n...")
    assert (*written[::2], "dead-token", "dead-task") == DEAD_LETTER_FIELDS
    fields = dict(zip(written[::2], (text.encode() for text in written[1::2]), strict=True))
    letter = read_dead_letter("queue", "1700000001500-0", {**FIELDS, **fields})
    assert (letter.id, letter.queue_name) == ("1700000001500-0", "queue")
    assert (letter.data, letter.fields) == (b"\xff", FIELDS)
    assert (letter.reason, letter.deliveries) == ("it was bad", 5)
    assert (letter.consumer, letter.group) == ("me", "taskiq")
    assert letter.entry_id == "1700000000000-3"
    assert (letter.error, letter.traceback) == ("ValueError: no", "Traceback\n...")
    assert letter.sent_at == datetime.fromtimestamp(1_700_000_000, timezone.utc)
    assert letter.died_at == datetime.fromtimestamp(1_700_000_001.5, timezone.utc)


def test_missing_and_malformed_fields_are_read_as_empty() -> None:
    letter = read_dead_letter("queue", "5-0", {"dead-deliveries": b"\xff"})
    assert (letter.data, letter.fields) == (None, {})
    assert (letter.deliveries, letter.reason, letter.entry_id) == (0, "", "")
    assert (letter.error, letter.traceback) == (None, None)
    assert letter.sent_at == letter.died_at == datetime.fromtimestamp(0.005, timezone.utc)


def test_id_that_is_not_a_time_is_read_as_the_epoch() -> None:
    letter = read_dead_letter("queue", f"{2**64 - 1}-0", {})
    assert letter.died_at == datetime.fromtimestamp(0, timezone.utc)


def test_limits_are_numbers_for_the_scripts() -> None:
    assert limit_arguments(None, None) == [0, 0]
    assert limit_arguments(7, 1.5) == [7, 1500]
    assert limit_arguments(1, 0.0001) == [1, 1]
