"""Sent messages and schedules equal those of taskiq, byte for byte."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pydantic
import pytest
from taskiq import BrokerMessage
from taskiq.exceptions import SendTaskError
from taskiq.scheduler.scheduled_task import CronSpec, ScheduledTask

from taskiq_redis import SyncCreatedSchedule, SyncTaskiqTask
from tests._threads import together
from tests.blocking.support import (
    AsyncMemoryBroker,
    AsyncMemorySource,
    MemoryBroker,
    MemorySource,
    isolated,  # noqa: F401
)


class Address(pydantic.BaseModel):
    street: str
    since: datetime


@dataclass
class Point:
    x: int
    inner: "Point | None" = None


NOON = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
ADDRESS = Address(street="Rue é", since=NOON)

ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1, 2.5, "ü", None, True), {}),
    (([1, [2]], {"a": {"b": 1}}, (1, 2)), {}),
    ((ADDRESS, Point(1, Point(2))), {"address": ADDRESS, "point": Point(3)}),
    (([ADDRESS],), {}),
    ((NOON, timedelta(hours=1)), {}),
    ((), {"task_id": "x", "labels": 1, "message": 2, "args": 3}),
]

LABELS: list[dict[str, Any]] = [
    {},
    {"an_int": 1, "a_str": "x", "a_float": 0.5, "a_bool": True, "bytes": b"\x00\xff"},
    {"nothing": None, "list": [1, 2], "dict": {"a": 1}},
    {"types_of_exceptions": (ValueError,), "max_retries": 3},
    {"queue_name": "other", "delay": 15},
]


def ids() -> Callable[[], str]:
    count = itertools.count()
    return lambda: f"id-{next(count)}"


def add(number: int = 0) -> int:
    return number


def declare(local_broker: Any, **labels: Any) -> Any:
    return local_broker.with_id_generator(ids()).task("module:add", **labels)(add)


def both(
    sync: Callable[[Any], Any], labels: dict[str, Any]
) -> tuple[list[BrokerMessage], list[BrokerMessage]]:
    """Call `sync` with a blocking task and with taskiq's; return what both brokers sent."""
    ours, theirs = MemoryBroker(), AsyncMemoryBroker()
    sync(declare(ours, **labels))

    async def send() -> None:
        await sync(declare(theirs, **labels))

    asyncio.run(send())
    return ours.sent, theirs.sent


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS)
def test_messages_equal_taskiqs(
    args: tuple[Any, ...], kwargs: dict[str, Any], labels: dict[str, Any]
) -> None:
    for send in (
        lambda task: task.kiq(*args, **kwargs),
        lambda task: task.kicker().with_labels(more=1).with_task_id("chosen").kiq(*args, **kwargs),
    ):
        ours, theirs = both(send, labels)
        assert len(ours) == 1
        assert ours == theirs


def test_type_as_argument_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The argument 'number' .*: it is the class Point"):
        declare(MemoryBroker()).kiq(Point)


def test_sent_task_has_id_backend_and_return_type() -> None:
    local_broker = MemoryBroker()
    sent = declare(local_broker).kiq(1)
    assert isinstance(sent, SyncTaskiqTask)
    assert (sent.task_id, sent.return_type) == ("id-0", int)
    assert sent.result_backend is local_broker.result_backend


def test_with_broker_sends_through_another_broker() -> None:
    local_broker, other = MemoryBroker(), MemoryBroker()
    declare(local_broker).kicker().with_broker(other).kiq(1)
    assert (len(local_broker.sent), len(other.sent)) == (0, 1)


def test_with_broker_refuses_async_broker() -> None:
    kicker = declare(MemoryBroker()).kicker()
    with pytest.raises(TypeError, match=r"to_sync\(broker\)"):
        kicker.with_broker(AsyncMemoryBroker())


def test_send_error_has_original_error_as_cause() -> None:
    class Broken(MemoryBroker):
        def kick(self, message: BrokerMessage) -> None:
            raise OSError("gone")

    with pytest.raises(SendTaskError) as caught:
        declare(Broken()).kiq(1)
    assert isinstance(caught.value.__cause__, OSError)


SCHEDULES: list[tuple[str, Any]] = [
    ("cron", "*/5 * * * *"),
    ("cron", CronSpec(minutes="*/5", hours=3)),
    ("cron", CronSpec(hours=3, offset="Europe/Berlin")),
    ("cron", CronSpec(hours=3, offset=timedelta(hours=2))),
    ("interval", 30),
    ("interval", timedelta(minutes=5)),
    ("time", NOON),
    ("time", NOON.replace(tzinfo=None)),
]


@pytest.mark.parametrize("how", ["task", "kicker", "ids"])
@pytest.mark.parametrize(("kind", "when"), SCHEDULES)
def test_schedules_equal_taskiqs(kind: str, when: Any, how: str) -> None:
    def schedule(local_broker: Any, source: Any) -> Any:
        task = declare(local_broker, size=1)
        kicker = task if how == "task" else task.kicker()
        if how == "ids":
            kicker = kicker.with_labels(more=2).with_task_id("t").with_schedule_id("s")
        return getattr(kicker, f"schedule_by_{kind}")(source, when, ADDRESS, point=Point(1))

    async def schedule_with_taskiq() -> list[ScheduledTask]:
        source = AsyncMemorySource()
        await schedule(AsyncMemoryBroker(), source)
        return list(source.schedules.values())

    source = MemorySource()
    created = schedule(MemoryBroker(), source)
    assert source.get_schedules() == asyncio.run(schedule_with_taskiq())
    assert isinstance(created, SyncCreatedSchedule)
    assert (created.source, created.task) == (source, source.schedules[created.schedule_id])


@pytest.mark.parametrize(("kind", "when"), SCHEDULES)
def test_async_source_is_refused_before_id_is_generated(kind: str, when: Any) -> None:
    local_broker, source = MemoryBroker(), AsyncMemorySource()
    task = declare(local_broker)
    with pytest.raises(TypeError, match=r"to_sync\(source\)"):
        getattr(task, f"schedule_by_{kind}")(source, when, 1)
    assert source.schedules == {}
    assert local_broker.id_generator() == "id-0"


def test_created_schedule_can_be_sent_and_deleted() -> None:
    local_broker, source = MemoryBroker(), MemorySource()
    created = declare(local_broker).schedule_by_interval(source, 30, 7)
    assert str(created) == "SyncCreatedSchedule(id-0, module:add, interval=30)"
    assert isinstance(created.kiq(), SyncTaskiqTask)
    assert local_broker.formatter.loads(local_broker.sent[0].message).args == [7]
    created.unschedule()
    assert source.get_schedules() == []


def test_read_only_source_refuses_changes() -> None:
    class ReadOnly(MemorySource):
        add_schedule = MemorySource.__base__.add_schedule  # type: ignore[union-attr]
        delete_schedule = MemorySource.__base__.delete_schedule  # type: ignore[union-attr]

    source = ReadOnly()
    source.startup()
    with pytest.raises(NotImplementedError, match="ReadOnly can't add schedules"):
        declare(MemoryBroker()).schedule_by_interval(source, 30)
    with pytest.raises(NotImplementedError, match="ReadOnly can't delete schedules"):
        source.delete_schedule("s")
    source.shutdown()


def test_broker_can_be_shared_by_threads() -> None:
    local_broker = MemoryBroker()
    task = local_broker.task("module:add", shared="x")(add)
    barrier = threading.Barrier(16)

    def send(thread: int) -> list[str]:
        barrier.wait()
        return [
            task.kicker().with_labels(thread=thread, number=number).kiq(number).task_id
            for number in range(50)
        ]

    task_ids = together(*(lambda thread=thread: send(thread) for thread in range(16)))
    assert len({task_id for several in task_ids for task_id in several}) == 16 * 50
    by_id = {message.task_id: message for message in local_broker.sent}
    assert len(by_id) == 16 * 50
    for thread, several in enumerate(task_ids):
        for number, task_id in enumerate(several):
            labels = by_id[task_id].labels
            assert labels == {"shared": "x", "thread": str(thread), "number": str(number)}
    assert task.labels == {"shared": "x"}
