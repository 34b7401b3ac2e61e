"""Subclasses of stream brokers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import AckableMessage, AsyncBroker

from taskiq_redis import RedisStreamBroker, RedisStreamClusterBroker, RedisStreamSentinelBroker
from taskiq_redis.redis_broker import BaseRedisBroker
from tests._aio import wait_until
from tests._async.support import message
from tests.compat.subclasses.support import check_works, on_one_server, running_worker, with_results
from tests.servers import Topology, client_of

pytestmark = pytest.mark.anyio


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
