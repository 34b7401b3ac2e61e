"""The counts of messages by consumer group, and the registrations of workers."""

from datetime import datetime, timezone
from typing import Any

import pytest

from taskiq_redis._core.queue_counts import GroupCount, queue_stats, worker_stats
from taskiq_redis._core.queue_stats import QueueStats, WorkerStats

NOW = 1_700_000_010_000
STATE = [NOW, 2, b"1700000015000", 3, 1]


def group(**more: Any) -> GroupCount:
    return GroupCount(b"g", **more)


def reply(
    *, all_delivered_counted: int = 1, delivered: int = 0, undelivered: int = 0, back: bytes = b""
) -> list[Any]:
    """Return what a call of the script returns for a group."""
    pending_by_consumer = [[b"a", 2], [b"back", 1]]
    return [
        b"g",
        b"5-0",
        b"4-0",
        b"(7-0",
        b"3-1",
        all_delivered_counted,
        delivered,
        undelivered,
        back,
        pending_by_consumer,
    ]


def test_counts_of_several_calls_are_added() -> None:
    count = group()
    assert count.arguments == [b"g", "0-0", "+", "0-0"]
    count.record(reply(all_delivered_counted=0, delivered=3, undelivered=4))
    assert count.arguments == [b"g", "4-0", "(7-0", "3-1"]
    count.record(
        [
            *reply(delivered=2, undelivered=1, back=b"2-0"),
            [b"a", b"back"],
            [b"b", b"9 1700000009999"],
        ]
    )
    stats = count.stats("back", 20, NOW)
    assert (stats.lag, stats.waiting, stats.running) == (15, 17, 4)
    assert [(each.name, each.running, each.registered) for each in stats.workers] == [
        ("a", 4, False),
        ("b", 0, True),
    ]
    assert count.first_back == "2-0"


def test_lag_is_counted_from_the_end_that_is_reached_first() -> None:
    count = group()
    count.record(reply(all_delivered_counted=0, delivered=3, undelivered=4))
    assert count.stats("back", 20, NOW).lag == 4


def test_lag_is_not_negative() -> None:
    # Entries that were counted may be deleted before the last call.
    count = group()
    count.record(reply(delivered=30))
    assert count.stats("back", 20, NOW).lag == 0


def test_state_of_a_queue() -> None:
    first, second = group(), GroupCount("f")
    first.record(reply(delivered=15, back=b"1700000000000-1"))
    second.record([b"f", b"1700000006000-0", b"4-0", b"+", b"0-0", 1, 19, 0, b"", []])
    stats = queue_stats("stream", "q", STATE, 20, "1-0", [first, second], "back")
    assert [each.name for each in stats.groups] == ["f", "g"]
    assert (stats.waiting, stats.running, stats.delayed, stats.dead) == (6, 2, 2, 3)
    assert (stats.next_due, stats.paused) == (5.0, True)
    # That of the entry 5-0.
    assert stats.oldest_age == (NOW - 5) / 1000


@pytest.mark.parametrize(("due", "left"), [(b"-inf", 0.0), (b"inf", float("inf")), (b"", None)])
def test_any_score_of_a_delayed_message_is_a_due_time(due: bytes, left: float | None) -> None:
    stats = queue_stats("list", "q", [NOW, 0, due, 0, 0], 7)
    assert stats == QueueStats("q", "list", waiting=7, delayed=0, dead=0, next_due=left)


def test_stream_without_groups_waits_as_a_whole() -> None:
    stats = queue_stats("stream", "q", STATE, 3, "1700000009000-0")
    assert (stats.waiting, stats.running, stats.oldest_age) == (3, 0, 1.0)
    future = queue_stats("stream", "q", STATE, 3, f"{2**64 - 1}-0")
    assert future.oldest_age == 0.0


def test_registration_is_read() -> None:
    read = worker_stats("w", 3, f"1500 {NOW - 1000} {NOW - 5000} 42 2.0.0 my host", NOW)
    assert read == WorkerStats(
        "w",
        3,
        registered=True,
        host="my host",
        pid=42,
        version="2.0.0",
        started=datetime.fromtimestamp(1_700_000_005, timezone.utc),
        lease=1.5,
        lease_age=1.0,
    )
    assert read.is_alive
    assert not worker_stats("w", 0, f"1000 {NOW - 1000}", NOW).is_alive
    assert worker_stats("w", 0, f"1000 {NOW + 5}", NOW).lease_age == 0.0


@pytest.mark.parametrize(
    "registration", ["", " ", "x", "1", "1 ", "1 x", "-1 5", "1" * 5000, "1 " + "1" * 5000, "² ³"]
)
def test_malformed_registration_is_ignored(registration: str) -> None:
    assert worker_stats("w", 1, registration, NOW) == WorkerStats("w", 1, registered=False)


@pytest.mark.parametrize("rest", ["", " ", " x", " x y", "  ", f" {'9' * 18} {'9' * 5000}  "])
def test_malformed_rest_of_a_registration_is_unknown(rest: str) -> None:
    read = worker_stats("w", 1, f"1000 {NOW}{rest}", NOW)
    assert (read.registered, read.lease) == (True, 1.0)
    assert (read.started, read.pid, read.host) == (None, None, None)
