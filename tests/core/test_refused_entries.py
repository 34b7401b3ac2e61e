"""When a worker claims entries again whose tasks it doesn't know."""

import time

import pytest

from taskiq_redis._core.refused_entries import FIRST_ID, LIMIT, PAUSE, START, RefusedWalk

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
        assert walk.next_claim(START) == ALL
        walk.record_scan(LIMIT, ["5-9"], START)


def test_worker_claims_no_message_at_once_that_it_has_refused(clock: list[float]) -> None:
    walk = RefusedWalk()
    walk.record_refusal(is_new=True)
    assert walk.next_claim(START)[0] == 0
    clock[0] += PAUSE
    assert walk.next_claim(START) == ALL


def test_round_in_which_entries_were_refused_again_is_followed_by_a_pause(
    clock: list[float],
) -> None:
    walk = RefusedWalk()
    assert walk.next_claim(START) == ALL
    walk.record_scan(LIMIT, ["5-9", "5-10"], "(5-10")
    walk.record_refusal(is_new=False)
    walk.record_refusal(is_new=False)
    # In this round, only those that follow.
    assert walk.next_claim("(5-10") == (LIMIT - 2, "5-10")
    walk.record_scan(LIMIT - 2, [], START)
    assert walk.next_claim(START)[0] == 0
    clock[0] += PAUSE
    assert walk.next_claim(START) == ALL


def test_new_refusals_hold_up_no_round(clock: list[float]) -> None:
    walk = RefusedWalk()
    walk.record_refusal(is_new=True)
    clock[0] += PAUSE
    for _ in range(2 * LIMIT):
        walk.record_refusal(is_new=True)
    assert walk.next_claim(START) == ALL
    walk.record_scan(LIMIT, ["5-9"], "(6-0")
    walk.record_refusal(is_new=False)
    walk.record_refusal(is_new=True)
    assert walk.next_claim("(6-0") == (LIMIT - 1, "6-0")
    walk.record_scan(LIMIT - 1, [], START)
    assert walk.next_claim(START)[0] == 0


def test_a_round_through_many_refused_entries_has_pauses(clock: list[float]) -> None:
    walk, last = RefusedWalk(), ""
    for number in range(2):
        limit, _ = walk.next_claim(START)
        ids = [f"{number + 1}-{each}" for each in range(limit)]
        last = ids[-1]
        # The claim has stopped within a part of the scan.
        walk.record_scan(limit, ids, "(9-9")
        for _ in ids:
            walk.record_refusal(is_new=False)
        assert walk.next_claim("(9-9") == (0, last)
        walk.record_scan(0, [], START)
        clock[0] += PAUSE
        assert walk.next_claim(START) == (LIMIT, last)
    walk.record_scan(LIMIT, [], START)
    # Nothing was refused since the last pause, and the end is reached.
    assert walk.next_claim(START) == ALL


def test_round_leaves_out_no_entry_that_a_scan_has_passed_in_a_pause(clock: list[float]) -> None:
    walk = RefusedWalk()
    walk.record_scan(LIMIT, ["1-0"], "(1-0")
    walk.record_refusal(is_new=True)
    walk.record_scan(*walk.next_claim("(1-0")[:1], [], "(5-0")
    clock[0] += PAUSE
    assert walk.next_claim("(5-0")[0] == 0
    walk.record_scan(0, [], START)
    # The next scan goes on there.
    assert walk.next_claim(START) == (LIMIT, "1-0")
    walk.record_scan(LIMIT, [], "(0-5")
    assert walk.next_claim("(0-5") == (LIMIT, "1-0")
