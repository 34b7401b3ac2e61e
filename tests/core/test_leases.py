"""Leases without Redis: what a worker holds, and when it may claim."""

import time

import pytest

from taskiq_redis._core.leases import LeaseTable, PoisonSlot, RenewalState, renewal_timeout
from taskiq_redis._core.wire import StreamEntry

#: s
LEASE = 10.0


def entry(entry_id: str, stream: str = "s") -> StreamEntry:
    return StreamEntry(stream, entry_id, {"data": b""})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_entry_is_leased_from_hand_over_to_release() -> None:
    table = LeaseTable()
    first, second = entry("1-0"), entry("2-0")
    table.add_fetched([first, second])
    assert len(table) == 0
    table.lease(first, tracked=True)
    assert ("s", "1-0") in table
    assert ("s", "2-0") not in table
    assert table.leased("s") == ["1-0"]
    assert table.leased("other") == []
    assert table.release(("s", "1-0")) is first
    assert table.release(("s", "1-0")) is None
    assert not table


def test_entries_that_were_not_started_are_fetched_or_pending_ones() -> None:
    table = LeaseTable()
    started, unacked = entry("1-0"), entry("2-0")
    table.add_fetched([started, unacked, entry("3-0"), entry("4-0", "other")])
    table.lease(started, tracked=True)
    table.lease(unacked, tracked=True)
    assert table.end(unacked, failed=False)
    assert table.not_started("s", ["1-0", "2-0", "9-0"]) == {"3-0", "9-0"}
    assert table.not_started("other", []) == {"4-0"}


def test_unacked_entry_is_not_renewed_and_can_be_fetched_again() -> None:
    table = LeaseTable()
    unacked = entry("1-0")
    table.lease(unacked, tracked=True)
    assert table.end(unacked, failed=False)
    assert not table.end(unacked, failed=False)
    assert table.leased("s") == []
    table.add_fetched([entry("1-0")])
    assert table.not_started("s", []) == {"1-0"}


def test_unacked_entry_is_returned_once_and_forgotten_when_it_is_gone() -> None:
    table = LeaseTable()
    first, second = entry("1-0"), entry("2-0")
    for each in (first, second):
        table.lease(each, tracked=True)
        assert table.end(each, failed=False)
    assert table.unacked("s") == ["1-0", "2-0"]
    assert table.unacked("other") == []
    assert table.record_unacked("s", ["1-0", "2-0"], gone={"1-0"}) == [second]
    assert table.record_unacked("s", ["1-0", "2-0"], gone=()) == []
    assert table.unacked("s") == ["2-0"]
    assert table.not_started("s", ["1-0", "2-0"]) == {"1-0"}
    assert table.record_unacked("s", ["2-0"], gone=["2-0"]) == []
    assert table.unacked("s") == []


def test_unacked_entry_of_a_reader_is_not_returned() -> None:
    table = LeaseTable()
    table.lease(entry("1-0"), tracked=False)
    table.end_untracked()
    assert table.record_unacked("s", table.unacked("s"), gone=()) == []
    assert table.unacked("s") == ["1-0"]


def test_failed_entry_is_renewed_until_it_is_handed_back() -> None:
    table = LeaseTable()
    failed = entry("1-0")
    table.lease(failed, tracked=True)
    assert table.end(failed, failed=True)
    assert table.has_entries_to_hand_back
    assert table.leased("s") == ["1-0"]
    assert table.pop_failed() is failed
    assert table.pop_failed() is None
    assert table.leased("s") == []


def test_cancelled_entry_fails_unless_the_worker_stops_soon(clock: list[float]) -> None:
    table = LeaseTable()
    first, second, failed, running = (entry(f"{number}-0") for number in range(4))
    for each in (first, second, failed, running):
        table.lease(each, tracked=True)
    assert table.end(first, failed=True, cancelled=True)
    assert table.end(failed, failed=True)
    assert table.pop_failed(wait=5.0) is failed
    assert table.pop_failed(wait=5.0) is None
    clock[0] += 5
    assert table.pop_failed(wait=5.0) is first
    assert table.end(second, failed=True, cancelled=True)
    assert table.pop_cut_short(running=False) == [second]
    assert table.pop_failed() is None
    assert table.leased("s") == [running.id]


def test_running_entries_are_cut_short_by_a_stop() -> None:
    table = LeaseTable()
    running, failed, held = (entry(f"{number}-0") for number in range(3))
    for each in (running, failed, held):
        table.lease(each, tracked=each is not held)
    assert table.end(failed, failed=True)
    before = table.has_running_entries
    assert table.pop_cut_short(running=False) == []
    assert table.pop_cut_short(running=True) == [running]
    assert (before, table.has_running_entries) == (True, False)
    assert table.pop_failed() is failed
    # Code that iterates over `listen` may still acknowledge it.
    assert table.leased("s") == [held.id]


def test_acknowledgement_after_a_failure_prevents_the_hand_back() -> None:
    table = LeaseTable()
    failed = entry("1-0")
    table.lease(failed, tracked=True)
    table.end(failed, failed=True)
    table.release(("s", "1-0"))
    assert table.pop_failed() is None


def test_end_of_an_earlier_delivery_does_not_end_a_later_one() -> None:
    table = LeaseTable()
    earlier, later = entry("1-0"), entry("1-0")
    table.lease(earlier, tracked=True)
    table.release(("s", "1-0"))
    table.lease(later, tracked=True)
    assert not table.end(earlier, failed=True)
    assert table.leased("s") == ["1-0"]


def test_worker_claims_nothing_until_others_could_renew(clock: list[float]) -> None:
    state = RenewalState(LEASE)
    assert state.may_claim_until() == 0
    state.record(100.0, 5_000, 0)
    assert state.may_claim_until() == 0
    clock[0] += LEASE / 2
    state.record(clock[0], 10_000, 5_000)
    assert state.may_claim_until() == 10_000 + 5_000


def test_worker_claims_nothing_without_recent_renewal(clock: list[float]) -> None:
    state = RenewalState(LEASE)
    for _ in range(3):
        state.record(clock[0], round(clock[0] * 1000), round((clock[0] - LEASE / 3) * 1000))
        clock[0] += LEASE / 3
    assert state.may_claim_until()
    clock[0] += LEASE
    assert state.may_claim_until() == 0


@pytest.mark.parametrize("outage", ["of the worker", "of the server"])
def test_worker_waits_half_a_lease_after_a_gap(clock: list[float], outage: str) -> None:
    state = RenewalState(LEASE)
    state.record(clock[0], 100_000, 97_000)
    clock[0] += LEASE / 2
    state.record(clock[0], 105_000, 100_000)
    assert state.may_claim_until()
    clock[0] += LEASE if outage == "of the worker" else 1
    now = round(clock[0] * 1000)
    state.record(clock[0], now, now - (3_000 if outage == "of the worker" else 9_000))
    assert state.may_claim_until() == 0
    clock[0] += LEASE / 2
    assert state.may_claim_until()


def test_slot_has_room_for_one_suspect() -> None:
    slot = PoisonSlot()
    assert slot.reserve()
    assert not slot.reserve()
    slot.assign(entry("1-0"))
    assert not slot.reserve()
    slot.free(("s", "2-0"))
    assert not slot.reserve()
    slot.free(("s", "1-0"))
    assert slot.reserve()
    slot.assign(None)
    assert slot.reserve()


def test_discarded_entry_is_returned_unless_it_was_acknowledged() -> None:
    table = LeaseTable()
    first, second = entry("1-0"), entry("2-0")
    for each in (first, second):
        table.lease(each, tracked=True)
        table.drop(each, was_read=False)
    table.release(("s", "1-0"))
    assert table.pop_discarded() is second
    assert table.pop_discarded() is None
    assert not table.has_entries_to_hand_back
    assert len(table) == 0


def test_dropped_entry_that_was_read_is_returned_to_end_its_lease() -> None:
    table = LeaseTable()
    dropped = entry("1-0")
    table.lease(dropped, tracked=True)
    table.drop(dropped, was_read=True)
    assert table.has_entries_to_hand_back
    assert table.pop_discarded() is None
    assert table.pop_dropped() is dropped
    assert table.pop_dropped() is None
    assert len(table) == 1


def test_untracked_leases_end_with_the_reader() -> None:
    table = LeaseTable()
    tracked, untracked = entry("1-0"), entry("2-0")
    table.lease(tracked, tracked=True)
    table.lease(untracked, tracked=False)
    assert table.end_untracked() == [("s", "2-0")]
    assert table.leased("s") == ["1-0"]
    assert table.not_started("s", ["1-0", "2-0"]) == set()


def test_end_after_a_failure_changes_nothing() -> None:
    table = LeaseTable()
    failed = entry("1-0")
    table.lease(failed, tracked=True)
    assert table.end(failed, failed=True)
    assert not table.end(failed, failed=False)
    assert table.pop_failed() is failed


@pytest.mark.parametrize(
    ("lease", "timeout"), [(0.6, 0.3), (1.0, 0.5), (3.0, 0.5), (15.0, 2.5), (600.0, 5.0)]
)
def test_renewal_and_a_second_try_are_in_time(lease: float, timeout: float) -> None:
    assert renewal_timeout(lease) == timeout
    # A renewal starts every third.
    assert lease / 3 + timeout < lease
