# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportMissingTypeStubs=false
"""Tests without Redis as users write them, which mypy and pyright check and nobody runs."""

from typing import Any

from taskiq import InMemoryBroker
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from typing_extensions import assert_type

from taskiq_redis import (
    InMemoryScheduleSource,
    RedisStreamBroker,
    SyncInMemoryBroker,
    SyncInMemoryResultBackend,
    SyncInMemoryScheduleSource,
    SyncTaskiqTask,
    to_sync,
)
from taskiq_redis.testing import RecordedTask, SentTasks, swapped

broker = RedisStreamBroker("redis://localhost:6379")


@broker.task
async def add(a: int, b: int) -> int:
    return a + b


def twins() -> None:
    assert_type(to_sync(InMemoryBroker()), SyncInMemoryBroker)
    results: InmemoryResultBackend[int] = InmemoryResultBackend()
    assert_type(to_sync(results), SyncInMemoryResultBackend[int])
    assert_type(to_sync(InMemoryScheduleSource()), SyncInMemoryScheduleSource)


def sending() -> None:
    memory = SyncInMemoryBroker(raise_errors=True)
    assert_type(memory.kicker(add).kiq(1, 2), SyncTaskiqTask[int])
    assert_type(memory.run_delayed(), int)
    memory.kicker(add).kiq("1", 2)  # type: ignore[call-overload]


async def swapping() -> None:
    with swapped(broker, to_sync(broker), InMemoryScheduleSource(), run=True) as sent:
        assert_type(sent, SentTasks)
        assert_type(sent[0], RecordedTask)
        assert_type(sent.only(add).args, list[Any])
        assert_type(sent.of("tasks:add"), list[RecordedTask])
        assert_type(await sent.run_async(), int)
    with swapped(1):  # type: ignore[arg-type]
        pass
