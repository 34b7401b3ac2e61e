"""A value that threads share, while one of them still creates it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskiq_redis._sync.loop_local import LoopLocal
from tests.waiting import wait_until

THREADS = 8


def test_failed_attempt_is_raised_in_all_waiting_threads() -> None:
    callers: list[int] = []
    attempts: list[int] = []

    def make() -> int:
        attempts.append(len(attempts))
        wait_until(lambda: len(callers) == THREADS)
        time.sleep(0.2)
        raise OSError("no server")

    local = LoopLocal(make)

    def get() -> int:
        callers.append(1)
        return local.get()

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(get) for _ in range(THREADS)]
        for future in futures:
            with pytest.raises(OSError, match="no server"):
                future.result()
    assert len(attempts) < THREADS


def test_failed_attempt_is_retried_by_next_call() -> None:
    outcomes: Iterator[Any] = iter([OSError("no server"), 5])

    def make() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return int(outcome)

    local = LoopLocal(make)
    with pytest.raises(OSError, match="no server"):
        local.get()
    assert local.get() == local.get() == 5
