"""A real worker runs what both twins send, and both read its results."""

import asyncio
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

import taskiq_redis
from taskiq_redis import SyncListQueueBroker, SyncPubSubBroker, SyncRedisStreamBroker, to_sync
from taskiq_redis._blocking import SyncBroker
from tests._async.support import build
from tests.e2e import tasks
from tests.e2e.conftest import Worker
from tests.servers import Topology, client_of, wait_until


def brokers(topology: Topology, name: str, mechanism: str) -> tuple[Any, SyncBroker]:
    """Make a broker like the worker's, and its twin."""
    broker = build(topology, mechanism, queue_name=name)
    broker.with_result_backend(build(topology, "results", prefix_str=name))
    return broker, to_sync(broker)


@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_both_twins_send_and_read(
    topology: Topology, name: str, worker: Worker, mechanism: str
) -> None:
    broker, sync_broker = brokers(topology, name, mechanism)

    async def from_asyncio() -> int:
        task = await tasks.add.kicker().with_broker(broker).kiq(1, 2)
        value: int = (await task.wait_result(timeout=30)).return_value
        await broker.shutdown()
        return value

    worker("--workers", "1", mechanism=mechanism)
    assert asyncio.run(from_asyncio()) == 3
    # A second event loop, on the same broker.
    assert asyncio.run(from_asyncio()) == 3
    assert sync_broker.kicker(tasks.add).kiq(2, 3).wait_result(timeout=30).return_value == 5
    by_name = sync_broker.kicker("tests.e2e.tasks:add_in_thread").kiq(3, 4)
    assert by_name.wait_result(timeout=30).return_value == 7
    shared = sync_broker.kicker(tasks.shared).kiq()
    assert shared.wait_result(timeout=30).return_value == "shared"
    sync_broker.shutdown()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_errors_and_progress_reach_blocking_code(
    topology: Topology, name: str, worker: Worker
) -> None:
    _, sync_broker = brokers(topology, name, "stream")
    worker("--workers", "1")
    result = sync_broker.kicker(tasks.fail).kiq().wait_result(timeout=30)
    assert isinstance(result.error, ValueError)
    task = sync_broker.kicker(tasks.report).kiq()
    wait_until(lambda: (progress := task.get_progress()) and progress.meta == 50, timeout=30)
    assert task.wait_result(timeout=30).return_value == "reported"
    sync_broker.shutdown()


def test_nothing_is_left_pending(topology: Topology, name: str, worker: Worker) -> None:
    _, sync_broker = brokers(topology, name, "stream")
    worker("--workers", "2")
    sent = [sync_broker.kicker(tasks.add).kiq(number, 1) for number in range(50)]
    values = [task.wait_result(timeout=30).return_value for task in sent]
    assert values == [number + 1 for number in range(50)]
    (group,) = client_of(topology).xinfo_groups(name)
    assert group["pending"] == 0
    assert client_of(topology).xlen(name) == 50
    sync_broker.shutdown()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_the_example_of_the_old_readme_runs_unchanged(
    topology: Topology, name: str, worker: Worker
) -> None:
    from taskiq import TaskiqScheduler

    from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker
    from taskiq_redis.schedule_source import RedisScheduleSource

    broker = RedisStreamBroker(url=topology.url)
    old_source = RedisScheduleSource(topology.url, prefix=f"{name}1")
    array_source = ListRedisScheduleSource(
        topology.url,
        prefix=f"{name}2",
    ).with_migrate_from(
        old_source,
        delete_schedules=True,
    )
    scheduler = TaskiqScheduler(broker, [array_source])

    async def migrate() -> list[ScheduledTask]:
        task = ScheduledTask(task_name="t", labels={}, args=[], kwargs={}, cron="* * * * *")
        await old_source.add_schedule(task)
        for source in scheduler.sources:
            await source.startup()
        found = await array_source.get_schedules()
        assert await old_source.get_schedules() == []
        for source in (array_source, old_source):
            await source.shutdown()
        return found

    assert len(asyncio.run(migrate())) == 1


def test_the_twins_of_all_brokers_have_their_options() -> None:
    url = "redis://127.0.0.1:1"
    stream = to_sync(taskiq_redis.RedisStreamBroker(url, queue_name="q", xread_block=77))
    assert isinstance(stream, SyncRedisStreamBroker)
    assert (stream.queue_name, stream.block) == ("q", 77)
    assert isinstance(to_sync(taskiq_redis.ListQueueBroker(url)), SyncListQueueBroker)
    assert isinstance(to_sync(taskiq_redis.PubSubBroker(url)), SyncPubSubBroker)
