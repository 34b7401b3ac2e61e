"""Subclasses of brokers of any kind."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from taskiq import BrokerMessage

from taskiq_redis import (
    ListQueueBroker,
    ListQueueClusterBroker,
    ListQueueSentinelBroker,
    RedisStreamBroker,
)
from taskiq_redis.redis_broker import BaseRedisBroker
from taskiq_redis.redis_cluster_broker import BaseRedisClusterBroker
from taskiq_redis.redis_sentinel_broker import BaseSentinelBroker
from tests._async.support import connections_named, message, on_all_nodes
from tests.compat.subclasses.support import check_works, on_one_server, running_worker, with_results
from tests.servers import Topology, client_of

pytestmark = pytest.mark.anyio


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
