"""taskiq's scheduler, shared tasks and tracing, and taskiq-pipelines, with blocking brokers."""

import asyncio
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from taskiq import InMemoryBroker, TaskiqMiddleware
from taskiq.brokers.shared_broker import AsyncSharedBroker
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.schedule_sources import LabelScheduleSource
from taskiq_pipelines import Pipeline

from taskiq_redis import (
    ListQueueBroker,
    RedisStreamBroker,
    SyncListQueueBroker,
    SyncRedisStreamBroker,
    to_sync,
)
from taskiq_redis._core.delays import delay_of
from taskiq_redis._taskiq.async_kicker import TaskKicker
from tests.blocking.support import (
    MemoryBroker,
    isolated,  # noqa: F401
)

URL = "redis://localhost:1"


def scheduled(broker: Any) -> dict[str, str | None]:
    """Return the cron of each task that a label source gives to the scheduler of a broker."""
    source = LabelScheduleSource(broker)
    asyncio.run(source.startup())
    return {task.task_name: task.cron for task in asyncio.run(source.get_schedules())}


def declare(broker: Any, name: str) -> Any:
    return broker.register_task(lambda: None, name, schedule=[{"cron": "* * * * *"}], colour="red")


def test_tasks_of_blocking_brokers_are_scheduled_by_their_labels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = RedisStreamBroker(URL, queue_name="q")
    task = declare(to_sync(broker), "twin's")
    declare(SyncRedisStreamBroker(URL, queue_name="q"), "same queue's")
    declare(broker, "own")
    assert scheduled(broker) == dict.fromkeys(["twin's", "same queue's", "own"], "* * * * *")
    assert caplog.messages == []
    assert broker.get_all_tasks()["twin's"].broker is broker
    assert broker.get_all_tasks()["twin's"].original_func() is None
    assert task.labels["colour"] == "red"


def test_tasks_of_other_queues_are_not_scheduled(caplog: pytest.LogCaptureFixture) -> None:
    broker = RedisStreamBroker(URL, queue_name="q")
    declare(SyncRedisStreamBroker(URL, queue_name="other"), "other queue's")
    declare(SyncRedisStreamBroker("redis://localhost:2", queue_name="q"), "other server's")
    declare(MemoryBroker(), "memory's")
    assert scheduled(broker) == {}
    assert [text for text in caplog.messages if "doesn't match scheduler's broker" in text] != []
    assert set(broker.get_all_tasks()) == {"other queue's", "other server's", "memory's"}


@pytest.fixture
def shared() -> AsyncSharedBroker:
    """A shared broker whose tasks a broker of this package sends."""
    shared = AsyncSharedBroker()
    shared.default_broker(ListQueueBroker(URL))
    return shared


def test_shared_tasks_can_be_delayed_and_sent_together(shared: AsyncSharedBroker) -> None:
    task = shared.register_task(lambda: None, "shared", colour="red")
    kicker: Any = task.kicker()
    assert isinstance(kicker, TaskKicker)
    assert kicker.with_delay(5).labels["delay"] == 5
    assert kicker.call(1).args == (1,)
    # Labels of one send don't stay with the task.
    assert task.labels == {"colour": "red"}
    assert asyncio.run(kicker.kiq_many([])) == []


def test_shared_tasks_of_other_brokers_have_taskiqs_kicker(shared: AsyncSharedBroker) -> None:
    task = shared.register_task(lambda: None, "shared")
    for broker in (InMemoryBroker(), None):
        shared.default_broker(broker)  # type: ignore[arg-type]
        assert type(task.kicker()) is AsyncKicker


def test_delay_in_the_declaration_of_a_shared_task_is_for_retries(
    shared: AsyncSharedBroker,
) -> None:
    shared.register_task(lambda: None, "shared", delay=15)
    assert delay_of("shared", {"delay": "15"}) == 0
    assert delay_of("shared", {"delay": "15", "_retries": "1"}) == 15
    assert delay_of("shared", {"delay": "16"}) == 16
    assert delay_of("unknown", {"delay": "15"}) == 15


def test_shared_task_is_sent_by_a_blocking_broker(shared: AsyncSharedBroker) -> None:
    local_broker = MemoryBroker()
    shared.register_task(lambda: None, "shared", colour="red")
    local_broker.kicker("shared").kiq()
    assert local_broker.sent[0].labels == {"colour": "red"}


def test_pipeline_refuses_a_blocking_broker_before_it_sends() -> None:
    source = RedisStreamBroker(URL)
    twin, memory = to_sync(source), MemoryBroker()

    @source.task("add")
    async def add(number: int) -> int:
        return number + 1

    with pytest.raises(SendTaskError) as caught:
        asyncio.run(Pipeline(cast("Any", twin), add).kiq(1))
    assert isinstance(caught.value.__cause__, TypeError)
    assert "Pipeline of taskiq-pipelines, can't send with SyncRedisStreamBroker" in str(
        caught.value.__cause__
    )
    with pytest.raises(SendTaskError):
        asyncio.run(AsyncKicker("add", cast("Any", memory), {}).kiq())
    assert memory.sent == []


class Tracing(TaskiqMiddleware):
    """Stands for taskiq's OpenTelemetryMiddleware."""


class Instrumentor:
    """Stands for taskiq's TaskiqInstrumentor, whose packages needn't be installed."""

    is_instrumented_by_opentelemetry = False

    def instrument_broker(self, broker: Any) -> None:
        broker.middlewares.insert(0, Tracing())


@pytest.mark.parametrize("instrumented", [False, True])
def test_instrumentation_reaches_blocking_brokers(
    monkeypatch: pytest.MonkeyPatch, instrumented: bool
) -> None:
    module = SimpleNamespace(TaskiqInstrumentor=Instrumentor)
    monkeypatch.setitem(sys.modules, "taskiq.instrumentation", module)
    monkeypatch.setattr(Instrumentor, "is_instrumented_by_opentelemetry", instrumented)
    tracing = [Tracing] if instrumented else []
    given = TaskiqMiddleware()
    source = ListQueueBroker(URL)
    for broker in (
        SyncListQueueBroker(URL),
        MemoryBroker(),
        to_sync(source, middlewares=[given]),
    ):
        kinds = [type(middleware) for middleware in broker.middlewares]
        assert kinds[: len(tracing)] == tracing
    # A twin shares the middlewares of its broker, with the tracing of that.
    assert to_sync(source).middlewares is source.middlewares


def test_interval_of_a_schedule_is_kept() -> None:
    broker = RedisStreamBroker(URL)
    every = timedelta(seconds=5)
    to_sync(broker).register_task(lambda: None, "often", schedule=[{"interval": every}])
    source = LabelScheduleSource(broker)
    asyncio.run(source.startup())
    (task,) = asyncio.run(source.get_schedules())
    assert task.interval == every
