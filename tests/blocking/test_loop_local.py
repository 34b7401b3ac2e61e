"""What threads share, while the first of them is still making it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskiq_redis._sync.loop_local import LoopLocal
from tests.waiting import wait_until

THREADS = 8


def test_threads_that_wait_for_one_attempt_fail_with_it() -> None:
    asking: list[int] = []
    attempts: list[int] = []

    def make() -> int:
        attempts.append(len(attempts))
        wait_until(lambda: len(asking) == THREADS)
        time.sleep(0.2)
        raise OSError("no server")

    owned = LoopLocal(make)

    def ask() -> int:
        asking.append(1)
        return owned.get()

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(ask) for _ in range(THREADS)]
        for future in futures:
            with pytest.raises(OSError, match="no server"):
                future.result()
    assert len(attempts) < THREADS


def test_a_failure_is_no_reason_to_fail_later() -> None:
    outcomes: Iterator[Any] = iter([OSError("no server"), 5])

    def make() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return int(outcome)

    owned = LoopLocal(make)
    with pytest.raises(OSError, match="no server"):
        owned.get()
    assert owned.get() == owned.get() == 5
