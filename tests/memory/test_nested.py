"""Tasks that send other tasks, by blocking code and by async code."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import pytest
from asgiref.sync import AsyncToSync, ThreadSensitiveContext, async_to_sync, sync_to_async
from taskiq import Context, InMemoryBroker, TaskiqDepends

from taskiq_redis import SyncInMemoryBroker, to_sync
from taskiq_redis.testing import swapped
from tests._threads import TIMEOUT
from tests.memory.support import (
    is_thread,
    offline,  # noqa: F401
)


@pytest.fixture
def broker() -> Iterator[SyncInMemoryBroker]:
    with SyncInMemoryBroker() as broker:
        yield broker


@pytest.fixture
def where(broker: SyncInMemoryBroker) -> Any:
    """A sync task that returns whether it runs in the thread of the test."""
    here = threading.current_thread()

    @broker.task(task_name="where")
    def where() -> bool:
        return is_thread(here)

    return where


def test_sync_task_sends_and_waits(broker: SyncInMemoryBroker, where: Any) -> None:
    @broker.task
    def parent() -> Any:
        return where.kiq().wait_result().return_value

    assert parent.kiq().wait_result().return_value is True


def test_async_task_sends_by_its_context_and_waits(broker: SyncInMemoryBroker, where: Any) -> None:
    @broker.task
    async def parent(context: Context = TaskiqDepends()) -> Any:
        task: Any = context.broker.find_task("where")
        sent = await task.kiq()
        return (await sent.wait_result(timeout=TIMEOUT)).return_value

    assert parent.kiq().wait_result().return_value is True


def test_kiq_waits_for_tasks_that_its_task_sends(broker: SyncInMemoryBroker) -> None:
    ended: list[str] = []

    @broker.task(task_name="last")
    async def last() -> None:
        await asyncio.sleep(0.01)
        ended.append("last")

    @broker.task
    async def first(context: Context = TaskiqDepends()) -> None:
        task: Any = context.broker.find_task("last")
        await task.kiq()
        ended.append("first")

    first.kiq()
    assert ended == ["first", "last"]


def test_blocking_send_of_async_task_runs_beside_it(broker: SyncInMemoryBroker, where: Any) -> None:
    sent: list[Any] = []

    @broker.task
    async def parent() -> None:
        sent.append(where.kiq())

    assert not parent.kiq().wait_result().is_err
    assert sent[0].wait_result().return_value is True


def test_blocking_wait_in_async_task_is_an_error_not_a_deadlock(
    broker: SyncInMemoryBroker, where: Any
) -> None:
    @broker.task
    async def parent() -> None:
        where.kiq().wait_result()

    error = parent.kiq().wait_result().error
    assert "by the async broker" in str(error.__cause__)  # type: ignore[union-attr]


def test_sync_task_waits_for_sibling_that_needs_its_thread(broker: SyncInMemoryBroker) -> None:
    @broker.task(task_name="wait")
    def wait() -> Any:
        return broker.result_backend.wait_result("sibling", TIMEOUT).return_value  # type: ignore[attr-defined]

    @broker.task(task_name="sibling")
    def sibling() -> str:
        return "done"

    @broker.task
    async def parent(context: Context = TaskiqDepends()) -> Any:
        known: Any = context.broker.find_task
        sent = await known("wait").kiq()
        await known("sibling").kicker().with_task_id("sibling").kiq()
        return (await sent.wait_result()).return_value

    assert parent.kiq().wait_result().return_value == "done"


def test_sync_task_runs_an_event_loop_that_sends(broker: SyncInMemoryBroker, where: Any) -> None:
    @broker.task
    def parent(context: Context = TaskiqDepends()) -> Any:
        async def send() -> Any:
            task: Any = context.broker.find_task("where")
            return await (await task.kiq()).wait_result(timeout=TIMEOUT)

        return asyncio.run(send()).return_value

    # It would block that event loop in this thread, and couldn't run one of its own.
    assert parent.kiq().wait_result().return_value is False


def test_sync_tasks_with_event_loops_can_be_nested(broker: SyncInMemoryBroker) -> None:
    @broker.task(task_name="nested")
    def nested(depth: int, context: Context = TaskiqDepends()) -> int:
        async def send() -> Any:
            task: Any = context.broker.find_task("nested")
            return await (await task.kiq(depth - 1)).wait_result(timeout=TIMEOUT)

        return 1 + asyncio.run(send()).return_value if depth else 0

    assert nested.kiq(3).wait_result().return_value == 3


def test_asgiref_uses_thread_of_sender(broker: SyncInMemoryBroker, where: Any) -> None:
    here = threading.current_thread()

    @broker.task
    async def from_async() -> bool:
        return await sync_to_async(is_thread)(here)

    @broker.task
    def from_sync(context: Context = TaskiqDepends()) -> list[bool]:
        async def send() -> list[bool]:
            task: Any = context.broker.find_task("where")
            sent = await (await task.kiq()).wait_result(timeout=TIMEOUT)
            return [await sync_to_async(is_thread)(here), sent.return_value]

        return async_to_sync(send)()

    assert from_async.kiq().wait_result().return_value is True
    assert from_sync.kiq().wait_result().return_value == [True, True]


def test_executor_of_asgiref_that_waits_for_the_sender_is_not_used(
    where: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sync view of Django under ASGI."""

    class Busy(Executor):
        def submit(self, *_args: Any, **_kwargs: Any) -> Any:
            raise AssertionError("this would wait for ever")

    monkeypatch.setattr(AsyncToSync.executors, "current", Busy(), raising=False)
    assert where.kiq().wait_result().return_value is True
    assert isinstance(AsyncToSync.executors.current, Busy)


@pytest.mark.anyio
async def test_thread_of_asgiref_is_not_used_unless_it_waits() -> None:
    source = InMemoryBroker()

    @source.task
    async def ident() -> int:
        return await sync_to_async(threading.get_ident)()

    async with ThreadSensitiveContext():
        here = await sync_to_async(threading.get_ident)()
        with swapped(source, run=True):
            assert (await (await ident.kiq()).get_result()).return_value == here


def test_async_broker_uses_thread_of_async_to_sync() -> None:
    """As in async tests of Django, which share the transaction of their thread."""
    here, source = threading.current_thread(), InMemoryBroker()

    @source.task
    def where() -> bool:
        return is_thread(here)

    async def send() -> list[Any]:
        by_twin = await sync_to_async(to_sync(source).kicker(where).kiq)()
        return [by_twin.get_result(), await (await where.kiq()).get_result()]

    with swapped(source, run=True):
        assert [result.return_value for result in async_to_sync(send)()] == [True, True]


@pytest.mark.anyio
async def test_sync_task_runs_on_thread_if_sender_runs_an_event_loop(
    broker: SyncInMemoryBroker,
) -> None:
    @broker.task
    def run_loop() -> int:
        return asyncio.run(asyncio.sleep(0, 5))

    assert run_loop.kiq().wait_result().return_value == 5


def test_async_hook_of_clients_may_send_within_a_task(broker: SyncInMemoryBroker) -> None:
    from taskiq import TaskiqMessage, TaskiqMiddleware

    ran: list[str] = []

    class Sends(TaskiqMiddleware):
        async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            if message.task_name == "child":
                task: Any = self.broker.find_task("audit")
                await task.kiq()
            return message

    broker.add_middlewares(Sends())

    @broker.task(task_name="audit")
    def audit() -> None:
        ran.append("audit")

    @broker.task(task_name="child")
    def child() -> None:
        ran.append("child")

    @broker.task
    def parent() -> None:
        child.kiq()
        ran.append("parent")

    assert not parent.kiq().wait_result().is_err
    assert ran == ["audit", "child", "parent"]
