"""The blocking twins of taskiq's `InMemoryBroker` and its result backend."""

import asyncio
import threading
from typing import Any

import pytest
from taskiq import InMemoryBroker, SimpleRetryMiddleware, SmartRetryMiddleware, TaskiqResult
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import SendTaskError

from taskiq_redis import SyncInMemoryBroker, SyncInMemoryResultBackend, to_sync
from taskiq_redis.exceptions import NoBlockingTwinError
from tests._threads import TIMEOUT
from tests.memory.support import (
    AsyncHooks,
    is_thread,
    offline,  # noqa: F401
)


def result_of(value: Any) -> TaskiqResult[Any]:
    return TaskiqResult(is_err=False, return_value=value, execution_time=0.0)


@pytest.mark.smoke
def test_pattern_of_taskiq_works_for_blocking_code() -> None:
    source = InMemoryBroker()

    @source.task
    async def add(a: int, b: int) -> int:
        return a + b

    broker = to_sync(source)
    assert type(broker) is SyncInMemoryBroker
    assert broker.kicker(add).kiq(1, 2).wait_result().return_value == 3


def test_twin_shares_settings() -> None:
    source = InMemoryBroker(cast_types=False, max_stored_results=7)
    source.with_middlewares(SimpleRetryMiddleware()).with_id_generator(lambda: "id")
    source.dependency_overrides = {int: int}
    twin = to_sync(source)
    assert twin.middlewares is source.middlewares
    assert twin.state is source.state
    assert twin.id_generator() == "id"
    assert twin.in_place
    assert isinstance(twin.result_backend, SyncInMemoryResultBackend)
    assert twin.result_backend.max_stored_results == 7
    assert source.middlewares[0].broker is source
    with pytest.raises(NoBlockingTwinError):
        to_sync(twin)  # type: ignore[call-overload]


def test_results_and_progress_are_shared() -> None:
    source: InmemoryResultBackend[Any] = InmemoryResultBackend()
    twin = to_sync(source)
    twin.set_result("a", result_of(1))
    asyncio.run(source.set_result("b", result_of(2)))
    progress = TaskProgress(state="WORKING", meta=3)
    twin.set_progress("a", progress)
    assert asyncio.run(source.get_result("a")).return_value == 1
    assert twin.get_result("b").return_value == 2
    assert asyncio.run(source.get_progress("a")) is progress
    assert twin.get_results(["a", "b", "c"]).keys() == {"a", "b"}
    twin.delete_result("a")
    assert not asyncio.run(source.is_result_ready("a"))


def test_hooks_and_retries_of_async_broker_run() -> None:
    events: list[str] = []
    source = InMemoryBroker().with_middlewares(AsyncHooks(events), SmartRetryMiddleware())
    attempts: list[int] = []

    @source.task(retry_on_error=True)
    def second() -> int:
        attempts.append(1)
        return 1 // (len(attempts) - 1)

    twin = to_sync(source)
    assert twin.kicker(second).kiq().wait_result().return_value == 1
    assert events.count("pre_execute") == events.count("pre_send") == 2
    assert events.count("on_error") == events.count("post_save") == 1


def test_task_that_a_task_sends_by_async_broker_runs_in_place_too() -> None:
    source, here = InMemoryBroker(), threading.current_thread()

    @source.task
    def where() -> bool:
        return is_thread(here)

    @source.task
    async def parent() -> Any:
        sent = await where.kiq()
        return (await sent.wait_result(0.01, TIMEOUT)).return_value

    assert to_sync(source).kicker(parent).kiq().wait_result().return_value is True


def test_async_broker_behaves_as_before_outside_of_the_twins_tasks() -> None:
    source, here = InMemoryBroker(await_inplace=True), threading.current_thread()
    to_sync(source)

    @source.task
    def where() -> bool:
        return is_thread(here)

    async def send() -> Any:
        return (await (await where.kiq()).get_result()).return_value

    assert asyncio.run(send()) is False
    source.executor.shutdown()


def test_twin_has_own_middlewares_if_given() -> None:
    source = InMemoryBroker().with_middlewares(AsyncHooks([]))
    events: list[str] = []
    with to_sync(source, middlewares=[AsyncHooks(events)]):
        pass
    assert events == ["startup", "shutdown"]


def test_unknown_task_is_an_error() -> None:
    with pytest.raises(SendTaskError, match="other:task"):
        to_sync(InMemoryBroker()).kicker("other:task").kiq()
