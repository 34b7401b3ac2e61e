"""`swapped` within another one, and beside another one that ends earlier."""

import gc
import weakref
from contextlib import ExitStack
from typing import Any

import pytest
from taskiq import SimpleRetryMiddleware

from taskiq_redis import (
    RedisAsyncResultBackend,
    RedisStreamBroker,
    SyncInMemoryBroker,
    SyncRedisAsyncResultBackend,
    SyncRedisStreamBroker,
    to_sync,
)
from taskiq_redis.testing import SentTasks, swapped
from tests.memory.support import URL, offline

__all__ = ["offline"]


def one() -> int:
    return 1


def test_blocks_that_end_in_another_order_leave_nothing() -> None:
    broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
    objects: list[Any] = [broker, broker.result_backend, to_sync(broker)]
    objects.append(objects[-1].result_backend)
    before = [dict(vars(each)) for each in objects]
    first, second, third = ExitStack(), ExitStack(), ExitStack()
    sent = [each.enter_context(swapped(broker)) for each in (first, second, third)]
    task = objects[2].kicker(broker.register_task(one, "one"))
    second.close()
    task.kiq()
    third.close()
    task.kiq()
    assert [len(each) for each in sent] == [1, 0, 1]
    first.close()
    assert [dict(vars(each)) for each in objects] == before


def test_replacement_by_others_between_blocks_stays() -> None:
    broker: Any = SyncRedisStreamBroker(URL)
    with swapped(broker):
        own = broker.kick = object()
        with swapped(broker):
            assert broker.kick is not own
        assert broker.kick is own
    assert "kick" not in vars(broker)


def test_twins_that_are_made_meanwhile_are_not_kept() -> None:
    broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
    task = broker.register_task(one, "one")
    with swapped(broker, run=True):
        twins = list[weakref.ref[Any]]()
        for _ in range(3):
            twin = to_sync(broker)
            assert twin.kicker(task).kiq().get_result().return_value == 1
            twins += [weakref.ref(twin), weakref.ref(twin.result_backend)]
            del twin
        gc.collect()
        assert [twin for twin in twins if twin() is not None] == []


def with_retries(kind: Any) -> tuple[Any, Any, list[int]]:
    """Return a broker, its middleware, and the runs of its task "fail", which fails twice."""
    retries, runs = SimpleRetryMiddleware(default_retry_count=5), list[int]()
    broker = kind(URL) if kind is SyncRedisStreamBroker else kind()
    broker.add_middlewares(retries)
    if kind is SyncRedisStreamBroker:
        broker.with_result_backend(SyncRedisAsyncResultBackend(URL))

    @broker.task(task_name="fail", retry_on_error=True)
    def fail() -> int:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError
        return len(runs)

    return broker, retries, runs


def names(sent: SentTasks) -> list[str]:
    return [each.task_name for each in sent]


@pytest.mark.parametrize("kind", [SyncRedisStreamBroker, SyncInMemoryBroker])
def test_retries_are_recorded_by_innermost_block(kind: Any) -> None:
    broker, retries, runs = with_retries(kind)
    bound = retries.broker
    with swapped(broker) as outer:
        with swapped(broker, run=True) as inner:
            assert broker.find_task("fail").kiq().get_result().return_value == 3
        assert names(inner) == ["fail"] * 3
        assert names(outer) == []
        runs.clear()
        broker.find_task("fail").kiq()
        assert outer.run() == 1
        assert names(outer) == ["fail"] * 2
    assert retries.broker is bound


def test_middleware_stays_bound_while_a_block_lasts() -> None:
    broker, retries, _ = with_retries(SyncRedisStreamBroker)
    first, second = ExitStack(), ExitStack()
    first.enter_context(swapped(broker))
    second.enter_context(swapped(broker, run=True))
    first.close()
    assert broker.find_task("fail").kiq().get_result().return_value == 3
    second.close()
    assert retries.broker is broker
