"""Workers of your own: subclasses that find tasks themselves, and receivers in your programs."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq import AckableMessage
from taskiq.api import run_receiver_task
from taskiq.kicker import AsyncKicker

from taskiq_redis import ListQueueBroker, RedisStreamBroker
from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._core.keys import delayed_key
from tests._aio import TIMEOUT, collect, wait_until
from tests._async.pending import pending_of
from tests._async.support import build, length, redis_of
from tests.loops.support import until
from tests.loops.test_receivers import receiving
from tests.servers import Topology

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


class LocalTasks:
    """Finds only tasks of its own, without the method that it overrides."""

    local_task_registry: dict[str, Any]

    def find_task(self, task_name: str) -> Any:
        return self.local_task_registry.get(task_name)


class LocalStream(RedisStreamBroker):
    """Finds only tasks of its own."""

    find_task = LocalTasks.find_task


class LocalList(LocalTasks, ListQueueBroker):
    """Finds only tasks of its own, by a method of another base class."""


class OwnReads(RedisStreamBroker):
    """Reads the stream with its own commands."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                fetched: Any = await redis.xreadgroup(
                    self.consumer_group_name, self.consumer_name, {self.queue_name: ">"}, block=100
                )
                for stream, entries in fetched or ():
                    for entry_id, fields in entries:
                        acknowledge = self._ack_generator(id=entry_id, queue_name=stream)
                        yield AckableMessage(data=fields[b"data"], ack=acknowledge)


def worker(kind: Any, topology: Topology, name: str) -> Any:
    """Return a broker of a worker process."""
    broker = kind(topology.url, queue_name=name)
    broker.is_worker_process = True
    return broker


async def send_unknown(broker: Any, task_name: str) -> None:
    """Send a task that no worker knows."""
    await AsyncKicker[..., Any](task_name, broker, {}).kiq()


async def test_stream_keeps_unknown_tasks_although_find_task_is_overridden(
    topology: Topology, name: str
) -> None:
    broker = worker(LocalStream, topology, name)
    await broker.startup()
    async with receiving(broker):
        await send_unknown(broker, f"other:{name}")
        await until(lambda: {(HANDED_BACK, 0)} == set(pending_of(topology, name).values()))
    await broker.shutdown()
    assert length(topology, "stream", name) == 1


async def test_list_keeps_unknown_tasks_although_find_task_is_inherited_from_elsewhere(
    topology: Topology, name: str
) -> None:
    broker = worker(LocalList, topology, name)
    await broker.startup()
    async with receiving(broker):
        await send_unknown(broker, f"other:{name}")
        await until(lambda: redis_of(topology).zcard(delayed_key(name)) == 1)
    await broker.shutdown()


async def test_worker_that_reads_the_stream_itself_says_that_unknown_tasks_are_dropped(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = worker(OwnReads, topology, name)
    await broker.startup()
    async with receiving(broker):
        await send_unknown(broker, f"other:{name}")
        await until(lambda: "is not declared in this worker" in caplog.text)
        await until(lambda: length(topology, "stream", name) == 0)
    await broker.shutdown()
    assert "so taskiq drops its messages" in caplog.text


async def stop(running: "asyncio.Task[None]") -> None:
    """Cancel a task, and wait for its end."""
    running.cancel()
    await asyncio.wait([running], timeout=TIMEOUT)


@pytest.mark.parametrize("keep_failed", [False, True])
async def test_cancelled_task_is_not_acknowledged_after_it_was_handed_back(
    topology: Topology, name: str, keep_failed: bool
) -> None:
    broker = build(topology, "stream", queue_name=name, keep_failed=keep_failed)
    running: list[asyncio.Task[Any]] = []
    began = asyncio.Event()

    @broker.task(task_name=f"long:{name}")
    async def long() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append(task)
        began.set()
        await asyncio.sleep(3600)

    await broker.startup()
    receiver = asyncio.create_task(run_receiver_task(broker))
    await long.kiq()
    await asyncio.wait_for(began.wait(), TIMEOUT)
    await stop(receiver)
    await broker.shutdown()
    # As `asyncio.run` does at the end of a program.
    await stop(running[0])
    await broker.shutdown()
    assert set(pending_of(topology, name).values()) == {(HANDED_BACK, 0)}
    assert await collect(broker.dead_letters()) == []
    await broker.shutdown()


@pytest.mark.parametrize("mechanism", ["stream", "list"])
async def test_receiver_that_starts_after_the_broker_keeps_failed_tasks(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, mechanism, queue_name=name, keep_failed=True)

    @broker.task(task_name=f"failing:{name}")
    async def failing() -> None:
        raise ValueError

    await broker.startup()
    receiver = asyncio.create_task(run_receiver_task(broker))
    await failing.kiq()

    async def is_kept() -> bool:
        return len(await collect(broker.dead_letters())) == 1

    await wait_until(is_kept)
    await stop(receiver)
    await broker.shutdown()
    assert f"The task 'failing:{name}' with the id" in caplog.text
