"""What running tasks without Redis leaves of their functions, and tasks that are declared again."""

import sys
from typing import Any

import pytest
from taskiq import TaskiqDepends

from taskiq_redis import SyncInMemoryBroker, SyncRedisStreamBroker
from taskiq_redis.testing import swapped
from tests.memory.support import URL, offline

__all__ = ["offline"]


def test_task_can_be_declared_again_with_other_dependencies() -> None:
    broker = SyncInMemoryBroker()

    def first() -> int:
        return 1

    def second(number: int, added: int = TaskiqDepends(lambda: 5)) -> int:
        return number + added

    assert broker.register_task(first, "one").kiq().get_result().return_value == 1
    declared: Any = broker.register_task(second, "one")
    assert declared.kiq("2").get_result().return_value == 7


@pytest.mark.parametrize("is_swapped", [True, False])
def test_running_task_again_does_not_rename_its_function(is_swapped: bool) -> None:
    broker: Any = SyncRedisStreamBroker(URL) if is_swapped else SyncInMemoryBroker()

    @broker.task
    def one() -> int:
        return 1

    module = vars(sys.modules[__name__])
    before, known = one.original_func.__qualname__, set(module)
    for _ in range(3):
        if is_swapped:
            with swapped(broker, run=True):
                one.kiq()
        else:
            one.kiq()
    assert one.original_func.__qualname__ == before
    assert set(module) == known
