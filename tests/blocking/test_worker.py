"""taskiq's workers run tasks that are declared on a blocking broker."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from taskiq import AsyncBroker, TaskiqResult
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.receiver import Receiver

from tests.blocking.support import (
    AsyncMemoryBroker,
    MemoryBroker,
    isolated,  # noqa: F401
    take_tasks,
)

broker = MemoryBroker()


@broker.task
def add(first: int, second: int) -> int:
    return first + second


@broker.task(timeout=20)
async def add_later(first: int, second: int) -> int:
    await asyncio.sleep(0)
    return first + second


TASKS = take_tasks(__name__)


@pytest.fixture(autouse=True)
def declared(isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Register the tasks of this module."""
    monkeypatch.setattr(AsyncBroker, "global_task_registry", dict(TASKS))
    broker.sent.clear()


def work(**options: Any) -> list[TaskiqResult[Any]]:
    """Run the sent tasks with taskiq's receiver, and return their results."""
    results: InmemoryResultBackend[Any] = InmemoryResultBackend()
    worker = AsyncMemoryBroker().with_result_backend(results)

    async def main() -> None:
        receiver = Receiver(worker, max_async_tasks=4, **options)
        for data in broker.listen():
            await receiver.callback(data, raise_err=True)

    asyncio.run(main())
    return list(results.results.values())


def test_worker_runs_tasks_of_sync_broker() -> None:
    add.kiq(1, 2)
    add_later.kiq(3, second=4)
    broker.kicker(f"{__name__}:add").kiq("5", 6)
    done = work()
    assert [result.error for result in done] == [None] * 3
    assert [result.return_value for result in done] == [3, 7, 11]


def test_worker_runs_tasks_of_sync_broker_in_process_pool() -> None:
    add.kiq(1, 2)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        (done,) = work(executor=executor)
    assert (done.error, done.return_value) == (None, 3)


def test_sync_broker_sends_tasks_of_async_broker() -> None:
    theirs = AsyncMemoryBroker()
    task = theirs.task(lambda number: number * 2)
    broker.kicker(task).kiq(21)
    AsyncBroker.global_task_registry[task.task_name] = task
    (done,) = work()
    assert done.return_value == 42
