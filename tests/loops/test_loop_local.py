"""One value per event loop, or per process."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._sync import loop_local as blocking
from tests._threads import together
from tests.forks import in_child
from tests.loops.support import NewLoop, each_loop_kind, run, run_without_cleanup
from tests.waiting import TIMEOUT


class Values:
    """Makes numbers as values, and records which are closed or discarded."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.closed: list[int] = []
        self.discarded: list[int] = []
        self.local = LoopLocal(self.make, self.close, self.discarded.append)

    def make(self) -> int:
        return next(self._numbers)

    async def close(self, value: int) -> None:
        await asyncio.sleep(0)
        self.closed.append(value)

    async def get(self) -> int:
        return self.local.get()


@pytest.fixture
def values() -> Values:
    return Values()


@each_loop_kind
def test_loop_keeps_its_value_until_it_is_closed(values: Values, new_loop: NewLoop) -> None:
    async def use() -> int:
        value = values.local.get()
        await asyncio.sleep(0)
        assert values.local.get() == value
        assert values.closed == list(range(1, value))
        return value

    assert [run(use, new_loop) for _ in range(3)] == [1, 2, 3]
    assert values.closed == [1, 2, 3]
    assert values.discarded == []


@each_loop_kind
def test_value_of_unfinished_loop_is_discarded_by_the_next_loop(
    values: Values, new_loop: NewLoop
) -> None:
    assert [run_without_cleanup(values.get, new_loop) for _ in range(3)] == [1, 2, 3]
    assert values.discarded == [1, 2]
    assert values.closed == []


def test_concurrent_loops_have_separate_values(values: Values) -> None:
    barrier = threading.Barrier(3, timeout=TIMEOUT)

    async def use() -> int:
        value = values.local.get()
        barrier.wait()
        assert values.local.get() == value
        barrier.wait()
        return value

    assert sorted(together(*[lambda: asyncio.run(use())] * 3)) == [1, 2, 3]


def test_value_made_outside_a_loop_belongs_to_the_first_loop(values: Values) -> None:
    assert values.local.get() == values.local.get() == 1
    assert [asyncio.run(values.get()) for _ in range(2)] == [1, 2]
    assert values.closed == [1, 2]
    assert values.local.get() == 3


def test_popped_value_is_not_closed(values: Values) -> None:
    async def use() -> list[Any]:
        return [values.local.pop(), values.local.get(), values.local.pop(), values.local.pop()]

    assert asyncio.run(use()) == [None, 1, 1, None]
    assert values.closed == values.discarded == []


def test_value_can_be_replaced(values: Values) -> None:
    async def use() -> list[Any]:
        return [values.local.swap(10), values.local.swap(20), values.local.get()]

    assert asyncio.run(use()) == [None, 10, 20]
    assert values.closed == [20]


def test_failed_creation_is_tried_again() -> None:
    outcomes: Iterator[Any] = iter([ZeroDivisionError(), 1])

    def make() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    for local in (LoopLocal(make), blocking.LoopLocal(make)):
        outcomes = iter([ZeroDivisionError(), 1])
        with pytest.raises(ZeroDivisionError):
            local.get()
        assert local.get() == 1


def test_threads_share_one_value_per_process() -> None:
    numbers = count(1)

    def make() -> int:
        # Other threads ask for the value while it is made.
        threading.Event().wait(0.01)
        return next(numbers)

    local = blocking.LoopLocal(make)
    assert together(*[local.get] * 16) == [1] * 16
    assert local.pop() == 1
    assert local.get() == 2


@pytest.mark.parametrize("kind", [LoopLocal, blocking.LoopLocal])
def test_forked_child_has_its_own_value(kind: Any) -> None:
    numbers = count(1)
    discarded: list[int] = []
    local = kind(lambda: next(numbers), None, discarded.append)
    assert local.get() == 1

    def check_in_child() -> None:
        assert local.get() == 2
        assert discarded == [1]

    assert in_child(check_in_child) == 0
    assert local.get() == 1
    assert discarded == []
