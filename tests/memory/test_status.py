"""The status and the progress of tasks that run, or wait, without Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqDepends
from taskiq.depends.progress_tracker import ProgressTracker

from taskiq_redis import (
    ListQueueBroker,
    PubSubBroker,
    RedisAsyncResultBackend,
    RedisStreamBroker,
    SyncInMemoryBroker,
    SyncRedisStreamBroker,
    TaskState,
    TaskStatus,
    to_sync,
)
from taskiq_redis.exceptions import TaskNotRunError
from taskiq_redis.testing import swapped
from tests._threads import TIMEOUT
from tests.memory.support import URL, offline

__all__ = ["offline"]

BROKERS: Any = (RedisStreamBroker, ListQueueBroker, PubSubBroker)
Tracker = ProgressTracker[int]


async def load(progress: Tracker = TaskiqDepends()) -> int:
    await progress.set_progress("loading", 1)
    return 1


def on_redis(kind: Any = RedisStreamBroker, **options: Any) -> Any:
    return kind(URL, **options).with_result_backend(RedisAsyncResultBackend(URL))


async def collect(found: AsyncIterator[Any]) -> list[Any]:
    return [progress.meta async for progress in found]


@pytest.mark.parametrize("kind", BROKERS)
def test_status_of_swapped_broker_is_what_results_tell(kind: Any) -> None:
    broker = on_redis(kind)
    task, twin = broker.register_task(load, "load"), to_sync(broker)
    with swapped(broker) as sent:
        recorded = twin.kicker(task).kiq()
        assert recorded.status().state is TaskState.UNKNOWN
        sent.run()
        assert recorded.status() == TaskStatus(TaskState.DONE)
        assert asyncio.run(broker.status(recorded.task_id)) == TaskStatus(TaskState.DONE)
        assert twin.status("other").state is TaskState.UNKNOWN


@pytest.mark.parametrize("kind", [RedisStreamBroker, ListQueueBroker])
def test_status_of_swapped_broker_that_tracks_tells_what_waits(kind: Any) -> None:
    broker = on_redis(kind, track_tasks=True)
    task, twin = broker.register_task(load, "load"), to_sync(broker)
    with swapped(broker) as sent:
        before = datetime.now(timezone.utc)
        queued, delayed = twin.kicker(task).kiq(), twin.kicker(task).with_delay(60).kiq()
        assert queued.status().state is TaskState.QUEUED
        assert asyncio.run(broker.status(queued.task_id)).state is TaskState.QUEUED
        assert twin.status(queued.task_id, "other").state is TaskState.UNKNOWN
        status = delayed.status()
        assert status.state is TaskState.DELAYED
        assert status.due is not None
        assert status.due >= before + timedelta(seconds=60)
        sent.run()
        assert delayed.status() == queued.status() == TaskStatus(TaskState.DONE)


def test_swapped_task_sees_that_it_runs() -> None:
    broker = on_redis(track_tasks=True)

    @broker.task
    async def own(task_id: str) -> str:
        status: TaskStatus = await broker.status(task_id)
        return status.state.value

    with swapped(broker, run=True):
        task = to_sync(broker).kicker(own).with_task_id("one").kiq("one")
        assert task.get_result().return_value == "RUNNING"


def test_progress_of_swapped_broker_is_followed() -> None:
    broker = on_redis()
    task, twin = broker.register_task(load, "load"), to_sync(broker)

    async def send() -> list[Any]:
        sent = await task.kiq()
        return await collect(sent.follow())

    with swapped(broker, run=True):
        assert [each.meta for each in twin.kicker(task).kiq().follow()] == [1]
        assert asyncio.run(send()) == [1]


def test_following_task_that_was_only_recorded_raises() -> None:
    broker = on_redis()
    task, twin = broker.register_task(load, "load"), to_sync(broker)

    async def send() -> None:
        await collect((await task.kiq()).follow())

    with swapped(broker):
        sent = twin.kicker(task).kiq()
        with pytest.raises(TaskNotRunError):
            list(sent.follow())
        with pytest.raises(TaskNotRunError):
            asyncio.run(send())


def test_waiting_for_cleared_task_raises() -> None:
    broker = on_redis()
    task, twin = broker.register_task(load, "load"), to_sync(broker)
    with swapped(broker) as sent:
        dropped = twin.kicker(task).with_task_id("one").kiq()
        sent.clear()
        with pytest.raises(TaskNotRunError, match="clear"):
            dropped.wait_result(timeout=TIMEOUT)
        again = twin.kicker(task).with_task_id("one").kiq()
        sent.run()
        assert again.wait_result(timeout=TIMEOUT).return_value == 1


def test_status_and_progress_in_memory() -> None:
    broker = SyncInMemoryBroker(hold_delayed=True)
    task = broker.register_task(load, "load")
    sent = task.kiq()
    assert sent.status() == TaskStatus(TaskState.DONE)
    assert [each.meta for each in sent.follow()] == [1]
    held = task.kicker().with_delay(60).kiq()
    assert held.status().state is TaskState.DELAYED
    with pytest.raises(TaskNotRunError):
        list(held.follow())
    broker.run_delayed()
    assert held.status() == TaskStatus(TaskState.DONE)


def test_async_task_does_not_wait_for_held_task() -> None:
    broker = SyncInMemoryBroker(hold_delayed=True)
    broker.register_task(load, "load")

    @broker.task
    async def parent(how: str) -> str:
        worker = broker._own_worker
        assert worker is not None
        found: Any = worker.find_task("load")
        held = await found.kicker().with_delay(60).kiq()
        assert (await held.status()).state is TaskState.DELAYED
        try:
            await (held.wait_result() if how == "wait" else collect(held.follow()))
        except TaskNotRunError:
            return "raised"
        return "waited"

    for how in ("wait", "follow"):
        assert parent.kiq(how).get_result().return_value == "raised"


def test_twin_of_taskiqs_broker_follows_and_tells_status() -> None:
    broker = InMemoryBroker()
    task, twin = broker.register_task(load, "load"), to_sync(broker)
    sent = twin.kicker(task).kiq()
    assert sent.status() == TaskStatus(TaskState.DONE)
    assert [each.meta for each in sent.follow()] == [1]


def test_swapped_results_of_blocking_broker_tell_status() -> None:
    broker = SyncRedisStreamBroker(URL).with_result_backend(to_sync(RedisAsyncResultBackend(URL)))
    task = broker.register_task(load, "load")
    with swapped(broker, run=True):
        assert task.kiq().status() == TaskStatus(TaskState.DONE)


def test_broker_in_memory_tells_status_from_swapped_results() -> None:
    results: Any = to_sync(RedisAsyncResultBackend(URL))
    broker = SyncInMemoryBroker().with_result_backend(results)
    task = broker.register_task(load, "load")
    with swapped(results):
        assert task.kiq().status() == TaskStatus(TaskState.DONE)
