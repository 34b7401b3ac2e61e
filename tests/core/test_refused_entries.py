"""When a worker claims entries again whose tasks it doesn't know."""

import time

import pytest

from taskiq_redis._core.refused_entries import FIRST_ID, LIMIT, PAUSE, RefusedWalk

ALL = (LIMIT, FIRST_ID)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_worker_that_knows_all_tasks_claims_at_once(clock: list[float]) -> None:
    walk = RefusedWalk()
    for _ in range(3):
        assert walk.next_claim() == ALL
        walk.record_end()


def test_refused_entries_are_claimed_again_after_a_pause(clock: list[float]) -> None:
    walk = RefusedWalk()
    walk.record_refusal("5-10")
    walk.record_refusal("5-9")
    # In this round, only those that follow.
    assert walk.next_claim() == (LIMIT - 2, "5-10")
    walk.record_end()
    assert walk.next_claim()[0] == 0
    # New entries that arrive during the pause.
    walk.record_refusal("7-0")
    walk.record_end()
    clock[0] += PAUSE
    assert walk.next_claim() == ALL


def test_a_round_through_many_refused_entries_has_pauses(clock: list[float]) -> None:
    walk, last = RefusedWalk(), ""
    for _ in range(2):
        limit, after = walk.next_claim()
        first = int(after.partition("-")[0]) + 1
        for number in range(first, first + limit):
            last = f"{number}-0"
            walk.record_refusal(last)
        assert walk.next_claim() == (0, last)
        walk.record_end()
        clock[0] += PAUSE
        assert walk.next_claim() == (LIMIT, last)
    walk.record_end()
    # Nothing was refused since the last pause, and the end is reached.
    assert walk.next_claim() == ALL
