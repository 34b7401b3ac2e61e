"""How many messages a worker fetches at a time."""

import pytest

from taskiq_redis._core import prefetch
from taskiq_redis._core.prefetch import PROMPT_HANDOVER, PrefetchSize


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(prefetch.time, "monotonic", lambda: now[0])
    return now


def fetch_at_once(batch: PrefetchSize, times: int) -> list[int]:
    """Fetch full batches, one right after the other, and return their sizes."""
    sizes = []
    for _ in range(times):
        sizes.append(batch.size)
        batch.record(sizes[-1], sizes[-1])
    return sizes


@pytest.mark.smoke
def test_it_grows_while_all_is_handed_over_at_once(clock: list[float]) -> None:
    batch = PrefetchSize(100)
    sizes = fetch_at_once(batch, 40)
    assert sizes[:8] == [1] * 8
    assert sizes == sorted(sizes)
    assert sizes[-1] == 100
    # Never more than a part of what was started before.
    for index, size in enumerate(sizes):
        assert size == 1 or size <= sum(sizes[:index]) / 4


def test_it_falls_back_when_the_worker_is_busy(clock: list[float]) -> None:
    batch = PrefetchSize(100)
    last = fetch_at_once(batch, 20)[-1]
    assert batch.size > 1
    clock[0] += last * PROMPT_HANDOVER * 1.5
    assert batch.size == 1
    batch.record(1, 1)
    assert batch.size == 1


def test_a_slow_worker_fetches_what_it_hands_over_at_once(clock: list[float]) -> None:
    """It may be the machine that is slow, and not the tasks."""
    batch, sizes = PrefetchSize(100), []
    fetch_at_once(batch, 40)
    for _ in range(20):
        clock[0] += 0.002 * batch._fetched
        sizes.append(batch.size)
        batch.record(sizes[-1], sizes[-1])
    assert all(20 <= size <= 40 for size in sizes), sizes


def test_it_falls_back_when_nothing_waits(clock: list[float]) -> None:
    batch = PrefetchSize(100)
    fetch_at_once(batch, 20)
    batch.record(batch.size, 0)
    assert batch.size == 1


def test_slow_arrivals_do_not_make_it_grow(clock: list[float]) -> None:
    batch = PrefetchSize(100)
    for _ in range(50):
        assert batch.size == 1
        batch.record(1, 1)
        clock[0] += 2 * PROMPT_HANDOVER


def test_without_a_limit_it_goes_on_growing(clock: list[float]) -> None:
    assert fetch_at_once(PrefetchSize(None), 60)[-1] > 1000
    assert fetch_at_once(PrefetchSize(1), 60)[-1] == 1
