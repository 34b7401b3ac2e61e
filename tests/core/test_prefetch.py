"""The number of messages that a worker fetches at a time."""

import time

import pytest

from taskiq_redis._core.prefetch import PROMPT_HANDOVER, SMALLER_BATCHES, PrefetchSize


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def fetch_promptly(prefetch_size: PrefetchSize, times: int) -> list[int]:
    """Record full batches without delays, and return their sizes."""
    sizes = []
    for _ in range(times):
        sizes.append(prefetch_size.next_size())
        prefetch_size.record(sizes[-1], sizes[-1])
    return sizes


@pytest.mark.smoke
def test_size_grows_while_batches_are_handed_over_promptly(clock: list[float]) -> None:
    prefetch_size = PrefetchSize(100)
    sizes = fetch_promptly(prefetch_size, 40)
    assert sizes[:8] == [1] * 8
    assert sizes == sorted(sizes)
    assert sizes[-1] == 100
    # Never more than a quarter of the messages before.
    for index, size in enumerate(sizes):
        assert size == 1 or size <= sum(sizes[:index]) / 4


def test_size_falls_back_to_one_when_the_worker_is_busy(clock: list[float]) -> None:
    prefetch_size = PrefetchSize(100)
    last = fetch_promptly(prefetch_size, 20)[-1]
    assert prefetch_size.next_size() > 1
    clock[0] += last * PROMPT_HANDOVER * 1.5
    assert prefetch_size.next_size() == 1
    prefetch_size.record(1, 1)
    assert prefetch_size.next_size() == 1


def test_slow_worker_fetches_what_it_hands_over_promptly(clock: list[float]) -> None:
    """The machine may be slow, not the tasks."""
    prefetch_size, sizes = PrefetchSize(100), []
    fetch_promptly(prefetch_size, 40)
    for _ in range(20):
        clock[0] += 0.002 * prefetch_size._fetched
        sizes.append(prefetch_size.next_size())
        prefetch_size.record(sizes[-1], sizes[-1])
    assert all(20 <= size <= 40 for size in sizes), sizes


def test_size_falls_back_to_one_when_the_queue_is_empty(clock: list[float]) -> None:
    prefetch_size = PrefetchSize(100)
    fetch_promptly(prefetch_size, 20)
    prefetch_size.record(prefetch_size.next_size(), 0)
    assert prefetch_size.next_size() == 1


def test_size_does_not_grow_with_single_slow_messages(clock: list[float]) -> None:
    prefetch_size = PrefetchSize(100)
    for _ in range(50):
        assert prefetch_size.next_size() == 1
        prefetch_size.record(1, 1)
        clock[0] += 2 * PROMPT_HANDOVER


def test_size_grows_whatever_time_the_fetches_take(clock: list[float]) -> None:
    prefetch_size, sizes = PrefetchSize(100), []
    for _ in range(40):
        sizes.append(prefetch_size.next_size())
        clock[0] += 4 * PROMPT_HANDOVER
        prefetch_size.record(sizes[-1], sizes[-1])
    assert sizes[-1] == 100


def test_distant_worker_fetches_what_it_hands_over_during_a_round_trip(
    clock: list[float],
) -> None:
    prefetch_size, sizes = PrefetchSize(1000), []
    for _ in range(20):
        prefetch_size.record_round_trip(4 * PROMPT_HANDOVER)
    fetch_promptly(prefetch_size, 40)
    for _ in range(20):
        # As if each task took 2 ms, and there were room for one at a time.
        clock[0] += 0.002 * prefetch_size._fetched
        sizes.append(prefetch_size.next_size())
        prefetch_size.record(sizes[-1], sizes[-1])
    assert all(80 <= size <= 160 for size in sizes), sizes


def test_size_grows_faster_if_the_server_is_distant(clock: list[float]) -> None:
    near, distant = PrefetchSize(100), PrefetchSize(100)
    for _ in range(5):
        distant.record_round_trip(2 * PROMPT_HANDOVER)
    sizes = fetch_promptly(distant, 20)
    assert sizes[-1] == 100 > fetch_promptly(near, 20)[-1]
    # Never more than half of the messages before.
    for index, size in enumerate(sizes):
        assert size == 1 or size <= sum(sizes[:index]) / 2


def test_distant_worker_fetches_less_for_a_while_after_it_lacked_room(
    clock: list[float],
) -> None:
    prefetch_size = PrefetchSize(100)
    for _ in range(5):
        prefetch_size.record_round_trip(2 * PROMPT_HANDOVER)
    fetch_promptly(prefetch_size, 20)
    # The last messages had to wait for the acknowledgements of the first ones.
    clock[0] += 2.1 * PROMPT_HANDOVER
    sizes = fetch_promptly(prefetch_size, SMALLER_BATCHES + 1)
    assert all(80 <= size < 100 for size in sizes[:-1]), sizes
    assert sizes[-1] == 100


def test_one_late_reply_does_not_count_as_a_long_round_trip(clock: list[float]) -> None:
    prefetch_size = PrefetchSize(100)
    last = fetch_promptly(prefetch_size, 20)[-1]
    prefetch_size.record_round_trip(100.0)
    clock[0] += last * PROMPT_HANDOVER * 1.6
    assert prefetch_size.next_size() == 1


def test_size_is_bounded_only_by_the_limit(clock: list[float]) -> None:
    assert fetch_promptly(PrefetchSize(None), 60)[-1] > 1000
    assert fetch_promptly(PrefetchSize(1), 60)[-1] == 1
