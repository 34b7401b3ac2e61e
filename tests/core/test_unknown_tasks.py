"""When a worker claims entries again whose tasks it doesn't know."""

import time

import pytest

from taskiq_redis._core.unknown_tasks import FIRST_ID, LIMIT, PAUSE, RefusedClaims

ALL = (LIMIT, FIRST_ID)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_worker_that_knows_all_tasks_claims_at_once(clock: list[float]) -> None:
    claims = RefusedClaims()
    for _ in range(3):
        assert claims.next_claim() == ALL
        claims.record_end()


def test_refused_entries_are_claimed_again_after_a_pause(clock: list[float]) -> None:
    claims = RefusedClaims()
    claims.record_refusal("5-10")
    claims.record_refusal("5-9")
    # In this round, only those that follow.
    assert claims.next_claim() == (LIMIT - 2, "5-10")
    claims.record_end()
    assert claims.next_claim()[0] == 0
    # New entries that arrive during the pause.
    claims.record_refusal("7-0")
    claims.record_end()
    clock[0] += PAUSE
    assert claims.next_claim() == ALL


def test_many_refused_entries_are_claimed_with_pauses(clock: list[float]) -> None:
    claims, last = RefusedClaims(), ""
    for _ in range(2):
        limit, after = claims.next_claim()
        first = int(after.partition("-")[0]) + 1
        for number in range(first, first + limit):
            last = f"{number}-0"
            claims.record_refusal(last)
        assert claims.next_claim() == (0, last)
        claims.record_end()
        clock[0] += PAUSE
        assert claims.next_claim() == (LIMIT, last)
    claims.record_end()
    # Nothing was refused since the last pause, and the end is reached.
    assert claims.next_claim() == ALL
