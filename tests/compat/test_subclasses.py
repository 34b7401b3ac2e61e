"""Subclasses and uses of private names that were written for 1.2.4 keep running_worker.

Each class is taken from a published program. 1.2.4 has no blocking classes, so there are no
subclasses of them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, ScheduledTask, TaskiqResult
from taskiq.api import run_receiver_task
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import ScheduledTaskCancelledError

from taskiq_redis import (
    ListQueueBroker,
    ListQueueClusterBroker,
    ListQueueSentinelBroker,
    ListRedisScheduleSource,
    RedisAsyncResultBackend,
    RedisScheduleSource,
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
)
from taskiq_redis.redis_broker import BaseRedisBroker
from taskiq_redis.redis_cluster_broker import BaseRedisClusterBroker
from taskiq_redis.redis_sentinel_broker import BaseSentinelBroker
from tests._aio import wait_until
from tests._async.support import connections_named, message, on_all_nodes
from tests.servers import Topology, client_of
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.anyio

on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)


@asynccontextmanager
async def running_worker(broker: AsyncBroker) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    """Run taskiq's receiver on a broker; yield a function that sends a task and returns its result."""

    @broker.task(task_name=f"double {broker.queue_name}")
    async def double(number: int) -> int:
        return number * 2

    async def send(number: int) -> int:
        task = await double.kiq(number)
        result: int = (await task.wait_result(timeout=TIMEOUT)).return_value
        return result

    receiving = asyncio.ensure_future(run_receiver_task(broker, run_startup=True))
    yield send
    receiving.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(receiving, TIMEOUT)
    await broker.shutdown()


async def check_works(broker: AsyncBroker) -> None:
    """Run some tasks on a broker."""
    async with running_worker(broker) as send:
        assert [await send(number) for number in range(3)] == [0, 2, 4]
        assert await asyncio.gather(*map(send, range(20))) == [2 * number for number in range(20)]


def with_results(broker: Any, topology: Topology, name: str) -> Any:
    return broker.with_result_backend(RedisAsyncResultBackend(topology.url, prefix_str=name))


class Tracked:
    """Add a constructor argument, and open and close an object."""

    def __init__(self, driver: list[str], *args: Any, **kwargs: Any) -> None:
        self.driver = driver
        super().__init__(*args, **kwargs)

    async def startup(self) -> None:
        await super().startup()
        self.driver.append("open")

    async def shutdown(self) -> None:
        self.driver.append("closed")
        await super().shutdown()


@on_one_server
@pytest.mark.parametrize("kind", [ListQueueBroker, RedisStreamBroker])
async def test_subclass_can_extend_constructor_startup_and_shutdown(
    topology: Topology, name: str, kind: Any
) -> None:
    driver: list[str] = []
    tracked = type("TrackedBroker", (Tracked, kind), {})
    await check_works(with_results(tracked(driver, topology.url, queue_name=name), topology, name))
    assert driver == ["open", "closed"]


class Resilient:
    """Listen again after an error, as many programs do."""

    async def listen(self) -> AsyncGenerator[Any, None]:
        while True:
            try:
                async for received in super().listen():
                    yield received
            except (RedisError, ResponseError):
                await self.connection_pool.disconnect()
                await asyncio.sleep(1)


@on_one_server
@pytest.mark.parametrize("kind", [ListQueueBroker, RedisStreamBroker])
async def test_subclass_can_restart_listen_after_error(
    topology: Topology, name: str, kind: Any
) -> None:
    resilient = type("ResilientBroker", (Resilient, kind), {})
    broker = with_results(
        resilient(topology.url, queue_name=name, client_name=name), topology, name
    )
    async with running_worker(broker) as send:
        assert await send(1) == 2
        for connection in connections_named(topology, name):
            client_of(topology).client_kill_filter(_id=connection.rpartition(" ")[2])
        assert await send(2) == 4


class OneByOne(RedisStreamBroker):
    """Iterate over the original `listen` by `anext`."""

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        messages = super().listen()
        while True:
            try:
                received = await anext(messages)
            except StopAsyncIteration:
                return
            yield received


@on_one_server
async def test_subclass_can_iterate_over_original_listen(topology: Topology, name: str) -> None:
    await check_works(with_results(OneByOne(topology.url, queue_name=name), topology, name))


class Priority(ListQueueBroker):
    """Read a second list first, with its own commands."""

    async def kick(self, message: BrokerMessage) -> None:
        queue = message.labels.get("queue_name") or self.queue_name
        async with Redis(connection_pool=self.connection_pool) as redis:
            await redis.lpush(queue, message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while True:
            async with Redis(connection_pool=self.connection_pool) as redis:
                popped: Any = await redis.brpop([f"{self.queue_name}:high", self.queue_name])
                if popped is not None:
                    yield popped[1]


@on_one_server
async def test_subclass_can_replace_listen_and_kick(topology: Topology, name: str) -> None:
    broker = Priority(topology.url, queue_name=name, socket_timeout=None)
    await broker.kick(message(b"later"))
    await broker.kick(message(b"now", queue_name=f"{name}:high"))
    messages = broker.listen()
    assert [await anext(messages), await anext(messages)] == [b"now", b"later"]
    await messages.aclose()
    await check_works(with_results(broker, topology, name))


class Reclaiming(RedisStreamBroker):
    """Read the stream with its own commands, and ids as bytes."""

    async def startup(self) -> None:
        await AsyncBroker.startup(self)
        if self.is_worker_process or self.is_scheduler_process:
            await self._declare_consumer_group()

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        streams: dict[Any, Any] = {self.queue_name: ">", **self.additional_streams}
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                fetched: Any = await redis.xreadgroup(
                    self.consumer_group_name,
                    self.consumer_name,
                    streams,
                    block=self.block,
                    count=self.count,
                )
                for stream, entries in fetched or ():
                    for entry_id, fields in entries:
                        yield AckableMessage(
                            data=fields[b"data"],
                            ack=self._ack_generator(id=entry_id, queue_name=stream),
                        )
                await redis.xautoclaim(
                    self.queue_name,
                    self.consumer_group_name,
                    self.consumer_name,
                    min_idle_time=self.idle_timeout,
                    count=self.unacknowledged_batch_size,
                )

    async def shutdown(self) -> None:
        try:
            await AsyncBroker.shutdown(self)
        finally:
            await self.connection_pool.disconnect()


@on_one_server
async def test_subclass_can_read_stream_with_its_own_commands(
    topology: Topology, name: str
) -> None:
    broker = Reclaiming(topology.url, queue_name=name, xread_block=200)
    async with running_worker(with_results(broker, topology, name)) as send:
        assert await asyncio.gather(*map(send, range(20))) == [2 * number for number in range(20)]

        # The result is stored before the task is acknowledged.
        async def all_acknowledged() -> bool:
            return not client_of(topology).xinfo_groups(name)[0]["pending"]

        await wait_until(all_acknowledged)


class Deleting:
    """Delete acknowledged messages."""

    def _ack_generator(self, id: str, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002
        broker: Any = self

        async def acknowledge() -> None:
            async with broker.client() as redis:
                await redis.xack(queue_name, broker.consumer_group_name, id)
                await redis.xdel(queue_name, id)

        return acknowledge


class DeletingStream(Deleting, RedisStreamBroker):
    def client(self) -> Any:
        return Redis(connection_pool=self.connection_pool)


class DeletingClusterStream(Deleting, RedisStreamClusterBroker):
    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        yield self.redis


class DeletingSentinelStream(Deleting, RedisStreamSentinelBroker):
    def client(self) -> Any:
        return self._acquire_master_conn()


def deleting(topology: Topology, name: str) -> Any:
    kinds = {
        "single": DeletingStream,
        "cluster": DeletingClusterStream,
        "sentinel": DeletingSentinelStream,
    }
    kind: Any = kinds[topology.kind]
    if topology.kind == "sentinel":
        return kind(topology.sentinels, topology.master_name, queue_name=name)
    return kind(topology.url, queue_name=name)


async def test_subclass_can_replace_acknowledgement(topology: Topology, name: str) -> None:
    broker = deleting(topology, name)
    await broker.kick(message(b"a"))
    messages = broker.listen()
    received = await anext(messages)
    assert received.data == b"a"
    await received.ack()
    await messages.aclose()
    await broker.shutdown()
    assert client_of(topology).xlen(name) == 0
    assert client_of(topology).xinfo_groups(name)[0]["pending"] == 0


@on_one_server
async def test_acknowledgement_can_be_replaced_on_object(topology: Topology, name: str) -> None:
    broker: Any = RedisStreamBroker(topology.url, queue_name=name, delete_acked=False)
    original, seen = broker._ack_generator, list[tuple[str, str]]()

    def observed(*, id: str, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002
        seen.append((id, queue_name))
        return original(id=id, queue_name=queue_name)

    broker._ack_generator = observed
    await check_works(with_results(broker, topology, name))
    entries = client_of(topology).xrange(name)
    assert seen == [(entry_id.decode(), name) for entry_id, _ in entries]


class FromTheStart(RedisStreamBroker):
    """Create the consumer group itself."""

    async def _declare_consumer_group(self) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            with suppress(ResponseError):
                await redis.xgroup_create(self.queue_name, self.consumer_group_name, "0", True)


@on_one_server
async def test_subclass_can_create_its_own_consumer_group(topology: Topology, name: str) -> None:
    # With another group, ours would start at the end of the stream.
    client_of(topology).xgroup_create(name, "others", "$", mkstream=True)
    broker = FromTheStart(topology.url, queue_name=name)
    await broker.kick(message(b"early"))
    broker.is_worker_process = True
    await broker.startup()
    messages = broker.listen()
    received: Any = await anext(messages)
    assert received.data == b"early"
    await messages.aclose()
    await broker.shutdown()


class ProducerOnly(RedisStreamBroker):
    """Call the base class of 1.2.4 instead of the original."""

    async def startup(self) -> None:
        await BaseRedisBroker.startup(self)


@on_one_server
async def test_subclass_can_skip_startup_of_stream_broker(topology: Topology, name: str) -> None:
    broker = ProducerOnly(topology.url, queue_name=name)
    broker.is_worker_process = True
    await broker.startup()
    assert not client_of(topology).exists(name)
    await broker.kick(message(b"a"))
    assert client_of(topology).xinfo_groups(name) == []
    await broker.shutdown()


class Counting:
    """Count sent messages, and read the size of the queue with a redis-py client."""

    sent = 0

    async def kick(self, message: BrokerMessage) -> None:
        self.sent += 1
        await super().kick(message)


class CountingList(Counting, ListQueueBroker):
    async def get_queue_size(self) -> int:
        async with Redis(connection_pool=self.connection_pool) as redis:
            size: int = await redis.llen(self.queue_name)
            return size


class CountingClusterList(Counting, ListQueueClusterBroker):
    async def get_queue_size(self) -> int:
        size: int = await self.redis.llen(self.queue_name)
        return size


class CountingSentinelList(Counting, ListQueueSentinelBroker):
    async def get_queue_size(self) -> int:
        async with self.sentinel.master_for(self.master_name) as redis:
            size: int = await redis.llen(self.queue_name)
            return size


async def test_subclass_can_extend_kick(topology: Topology, name: str) -> None:
    broker: Any
    if topology.kind == "sentinel":
        where: list[Any] = [list(topology.sentinels), topology.master_name]
        broker = CountingSentinelList(*where, queue_name=name)
    elif topology.kind == "cluster":
        broker = CountingClusterList(topology.url, queue_name=name)
    else:
        broker = CountingList(topology.url, queue_name=name)
    for _ in range(3):
        await broker.kick(message(b"a"))
    assert (broker.sent, await broker.get_queue_size()) == (3, 3)
    await broker.shutdown()


@pytest.mark.parametrize("base", [BaseRedisBroker, BaseRedisClusterBroker, BaseSentinelBroker])
def test_subclass_of_base_class_error_names_class_to_inherit_from(base: Any) -> None:
    async def listen(self: Any) -> AsyncGenerator[bytes, None]:
        yield b""

    with pytest.raises(TypeError, match=r"OwnBroker overrides `listen`: .* ListQueue"):
        type("OwnBroker", (base,), {"listen": listen})


class Converting(RedisAsyncResultBackend[Any]):
    """Convert values, and change the key of results."""

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        if isinstance(result.return_value, set):
            result.return_value = sorted(result.return_value)
        value = self.serializer.dumpb(result.model_dump(mode="json"))
        async with Redis(connection_pool=self.redis_pool) as redis:
            await redis.set(self._task_name(task_id), value, ex=self.result_ex_time)

    def _task_name(self, task_id: str) -> str:
        return f"{super()._task_name(task_id)}:own"


@on_one_server
async def test_subclass_can_change_key_and_storage_of_results(
    topology: Topology, name: str
) -> None:
    backend = Converting(topology.url, prefix_str=name, keep_results=False, result_ex_time=60)
    done = TaskiqResult(is_err=False, return_value={2, 1}, execution_time=0.1)
    await backend.set_result("id", done)
    await backend.set_progress("id", TaskProgress(state="half", meta=50))
    client = client_of(topology)
    assert client.exists(f"{name}:id:own", f"{name}:id:own__progress") == 2
    progress = await backend.get_progress("id")
    assert progress is not None
    assert progress.meta == 50
    assert (await backend.get_result("id")).return_value == [1, 2]
    assert client.exists(f"{name}:id:own", f"{name}:id:own__progress") == 0
    await backend.shutdown()


@on_one_server
async def test_connection_pool_can_be_replaced_after_shutdown(
    topology: Topology, name: str
) -> None:
    backend: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(topology.url, prefix_str=name)
    await backend.shutdown()
    options: dict[str, Any] = {"client_name": name, "max_connections": 3}
    backend.redis_pool = BlockingConnectionPool.from_url(topology.url, **options)
    await backend.set_result("id", TaskiqResult(is_err=False, return_value=1, execution_time=0.1))
    assert connections_named(topology, name)
    assert backend.redis_pool.connection_kwargs["client_name"] == name
    await backend.shutdown()


class Locking(RedisScheduleSource):
    """Take a lock, so that only one of several schedulers sends."""

    async def pre_send(self, task: ScheduledTask) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            if not await redis.set(f"{self.prefix}-lock:{task.schedule_id}", "1", nx=True, ex=20):
                raise ScheduledTaskCancelledError


@on_one_server
async def test_subclass_of_source_can_take_a_lock(topology: Topology, name: str) -> None:
    first, second = Locking(topology.url, prefix=name), Locking(topology.url, prefix=name)
    task = once("a", datetime.now(timezone.utc))
    await first.pre_send(task)
    with pytest.raises(ScheduledTaskCancelledError):
        await second.pre_send(task)
    await first.shutdown()
    await second.shutdown()


def once(schedule_id: str, time: datetime) -> ScheduledTask:
    return ScheduledTask(
        task_name="t", labels={}, args=[], kwargs={}, schedule_id=schedule_id, time=time
    )


class Inventory(ListRedisScheduleSource):
    """Use private names of 1.2.4 to write in a transaction and list all schedules."""

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        assert schedule.time is not None
        async with Redis(connection_pool=self._connection_pool) as redis:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.set(
                    self._get_data_key(schedule.schedule_id),
                    self._serializer.dumpb(schedule.model_dump(mode="json")),
                )
                pipeline.rpush(self._get_time_key(schedule.time), schedule.schedule_id)
                await pipeline.execute()

    async def list_schedules(self) -> list[str]:
        async with Redis(connection_pool=self._connection_pool) as redis:
            keys = [key async for key in redis.scan_iter(f"{self._prefix}:data:*")]
            values = await redis.mget(keys[: self._buffer_size])
            read = [ScheduledTask.model_validate(self._serializer.loadb(raw)) for raw in values]
            return sorted(task.schedule_id for task in read)

    async def shutdown(self) -> None:
        await self._connection_pool.disconnect()
        await super().shutdown()


@on_one_server
async def test_subclass_of_source_can_use_private_names(topology: Topology, name: str) -> None:
    source = Inventory(topology.url, prefix=name)
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    await source.add_schedule(once("soon", soon))
    await source.add_schedule(once("far", soon + timedelta(days=400)))
    assert await source.list_schedules() == ["far", "soon"]
    assert [task.schedule_id for task in await source.get_schedules()] == ["soon"]
    await source.delete_schedule("soon")
    assert await source.get_schedules() == []
    assert not source._skip_past_schedules
    assert (source._get_cron_key(), source._get_interval_key()) == (
        f"{name}:cron",
        f"{name}:interval",
    )
    source._prefix = f"{name}:other"
    assert source._get_data_key("a") == f"{name}:other:data:a"
    assert await source.get_schedules() == []
    source._connection_pool = BlockingConnectionPool.from_url(topology.url, client_name=name)
    assert await source.get_schedules() == []
    assert connections_named(topology, name)
    await source.shutdown()


@on_one_server
async def test_client_on_pool_of_broker_leaves_it_open(topology: Topology, name: str) -> None:
    broker = ListQueueBroker(topology.url, queue_name=name, client_name=name)
    for _ in range(5):
        async with Redis(connection_pool=broker.connection_pool) as redis:
            await redis.ping()
        await broker.kick(message(b"a"))
    assert len(connections_named(topology, name)) == 1
    await broker.shutdown()
    assert sum(on_all_nodes(topology, lambda node: node.llen(name))) == 5
