"""Run tasks on subclasses of brokers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task

from taskiq_redis import RedisAsyncResultBackend
from tests.servers import Topology
from tests.waiting import TIMEOUT

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
