"""When a worker claims entries again whose tasks it doesn't know."""

import time

import pytest

from taskiq_redis._core.unknown_tasks import FIRST_ID, LIMIT, PAUSE, START, RefusedClaims

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
        assert claims.next_claim(START) == ALL
        claims.record_scan(LIMIT, ["5-9"], START)


def test_worker_claims_no_message_at_once_that_it_has_refused(clock: list[float]) -> None:
    claims = RefusedClaims()
    claims.record_refusal(is_new=True)
    assert claims.next_claim(START)[0] == 0
    clock[0] += PAUSE
    assert claims.next_claim(START) == ALL


def test_round_in_which_entries_were_refused_again_is_followed_by_a_pause(
    clock: list[float],
) -> None:
    claims = RefusedClaims()
    assert claims.next_claim(START) == ALL
    claims.record_scan(LIMIT, ["5-9", "5-10"], "(5-10")
    claims.record_refusal(is_new=False)
    claims.record_refusal(is_new=False)
    # In this round, only those that follow.
    assert claims.next_claim("(5-10") == (LIMIT - 2, "5-10")
    claims.record_scan(LIMIT - 2, [], START)
    assert claims.next_claim(START)[0] == 0
    clock[0] += PAUSE
    assert claims.next_claim(START) == ALL


def test_new_refusals_hold_up_no_round(clock: list[float]) -> None:
    claims = RefusedClaims()
    claims.record_refusal(is_new=True)
    clock[0] += PAUSE
    for _ in range(2 * LIMIT):
        claims.record_refusal(is_new=True)
    assert claims.next_claim(START) == ALL
    claims.record_scan(LIMIT, ["5-9"], "(6-0")
    claims.record_refusal(is_new=False)
    claims.record_refusal(is_new=True)
    assert claims.next_claim("(6-0") == (LIMIT - 1, "6-0")
    claims.record_scan(LIMIT - 1, [], START)
    assert claims.next_claim(START)[0] == 0


def test_a_round_through_many_refused_entries_has_pauses(clock: list[float]) -> None:
    claims, last = RefusedClaims(), ""
    for number in range(2):
        limit, _ = claims.next_claim(START)
        ids = [f"{number + 1}-{each}" for each in range(limit)]
        last = ids[-1]
        # The claim has stopped within a part of the scan.
        claims.record_scan(limit, ids, "(9-9")
        for _ in ids:
            claims.record_refusal(is_new=False)
        assert claims.next_claim("(9-9") == (0, last)
        claims.record_scan(0, [], START)
        clock[0] += PAUSE
        assert claims.next_claim(START) == (LIMIT, last)
    claims.record_scan(LIMIT, [], START)
    # Nothing was refused since the last pause, and the end is reached.
    assert claims.next_claim(START) == ALL


def test_round_leaves_out_no_entry_that_a_scan_has_passed_in_a_pause(clock: list[float]) -> None:
    claims = RefusedClaims()
    claims.record_scan(LIMIT, ["1-0"], "(1-0")
    claims.record_refusal(is_new=True)
    claims.record_scan(*claims.next_claim("(1-0")[:1], [], "(5-0")
    clock[0] += PAUSE
    assert claims.next_claim("(5-0")[0] == 0
    claims.record_scan(0, [], START)
    # The next scan goes on there.
    assert claims.next_claim(START) == (LIMIT, "1-0")
    claims.record_scan(LIMIT, [], "(0-5")
    assert claims.next_claim("(0-5") == (LIMIT, "1-0")
