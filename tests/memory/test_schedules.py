"""The schedule sources in memory keep schedules as those on Redis do."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq import InMemoryBroker, ScheduleSource, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis import (
    InMemoryScheduleSource,
    RedisScheduleSource,
    SyncInMemoryBroker,
    SyncInMemoryScheduleSource,
    SyncScheduleSource,
    to_sync,
)
from taskiq_redis.exceptions import InvalidOptionError, InvalidScheduleError, ScheduleEncodeError
from tests._threads import TIMEOUT
from tests.memory.support import offline  # noqa: F401

SOON = datetime.now(timezone.utc) + timedelta(hours=1)


def schedule(schedule_id: str, **when: Any) -> ScheduledTask:
    return ScheduledTask(
        task_name="m:t", labels={}, args=[1], kwargs={}, schedule_id=schedule_id, **when
    )


class Source:
    """Calls either twin."""

    def __init__(self, kind: str) -> None:
        self.source: Any = (
            InMemoryScheduleSource() if kind == "async" else SyncInMemoryScheduleSource()
        )

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            value = getattr(self.source, name)(*args, **kwargs)
            if isinstance(value, AsyncIterator):

                async def collect() -> list[Any]:
                    return [each async for each in value]

                return asyncio.run(collect())
            return asyncio.run(value) if asyncio.iscoroutine(value) else value

        return call


@pytest.fixture(params=["async", "sync"])
def source(request: pytest.FixtureRequest) -> Source:
    return Source(request.param)


def test_schedules_are_added_found_replaced_and_deleted(source: Source) -> None:
    source.add_schedule(schedule("a", cron="* * * * *"))
    source.add_schedules([schedule("b", interval=5), schedule("c", time=SOON)])
    source.add_schedule(schedule("a", cron="1 * * * *"))
    ids = ["a", "b", "c"]
    for found in (source.get_schedules(), source.get_all_schedules(), source.iter_schedules()):
        assert [each.schedule_id for each in found] == ids
    assert source.get_schedule("a").cron == "1 * * * *"
    assert source.get_schedule("none") is None
    assert source.count() == 3
    assert "3 schedules" in repr(source.source)
    assert [source.delete_schedule("a") for _ in range(2)] == [True, False]
    with pytest.raises(InvalidOptionError, match="all=True"):
        source.clear()
    assert (source.clear(all=True), source.count()) == (2, 0)


def test_paused_schedule_is_not_sent(source: Source) -> None:
    task = schedule("a", interval=5)
    source.add_schedule(task)
    assert [source.pause_schedule(each) for each in ("a", "none")] == [True, False]
    assert (source.get_schedules(), source.count()) == ([], 1)
    assert source.next_run(task) is None
    with pytest.raises(ScheduledTaskCancelledError):
        source.pre_send(task)
    assert [source.resume_schedule("a") for _ in range(2)] == [True, False]
    source.pre_send(task)


def test_schedule_that_taskiq_can_not_use_is_refused(source: Source) -> None:
    with pytest.raises(InvalidScheduleError):
        source.add_schedules([schedule("a", interval=5), schedule("b", cron="* * * * * *")])
    with pytest.raises(ScheduleEncodeError):
        source.add_schedule(
            ScheduledTask(task_name="t", labels={}, args=[object()], kwargs={}, interval=1)
        )
    assert source.count() == 0


def test_one_off_is_deleted_after_it_was_sent_unless_replaced(source: Source) -> None:
    sent = schedule("a", time=SOON)
    source.add_schedule(schedule("a", time=SOON + timedelta(hours=1)))
    source.post_send(sent)
    assert source.count() == 1
    source.add_schedule(sent)
    source.pre_send(sent)
    source.post_send(sent)
    assert source.count() == 0
    with pytest.raises(ScheduledTaskCancelledError):
        source.pre_send(sent)


def test_next_run_depends_on_last_firing(source: Source) -> None:
    interval, once = schedule("a", interval=3600), schedule("b", time=SOON)
    cron, never = schedule("c", cron="0 0 * * *"), schedule("d", cron="0 0 30 2 *")
    source.add_schedules([interval, once, cron, never])
    now = datetime.now(timezone.utc)
    assert source.next_run(interval) <= datetime.now(timezone.utc)
    source.post_send(interval)
    assert source.next_run(interval) >= now + timedelta(hours=1)
    assert abs(source.next_run(once) - SOON) < timedelta(milliseconds=2)
    assert source.next_run(cron) >= now - timedelta(minutes=1)
    assert source.next_run(never) is None
    assert source.next_run(schedule("none", interval=1)) is None


def test_twin_shares_schedules() -> None:
    source = InMemoryScheduleSource()
    twin = to_sync(source)
    twin.add_schedule(schedule("a", interval=5))
    assert asyncio.run(source.count()) == 1


def test_sources_have_the_public_methods_of_those_on_redis() -> None:
    for kind in (InMemoryScheduleSource, SyncInMemoryScheduleSource):
        names = {name for name in dir(kind) if not name.startswith("_")}
        base = ScheduleSource if kind is InMemoryScheduleSource else SyncScheduleSource
        assert set(dir(base)) <= set(dir(kind))
        of_redis = {
            name
            for name in dir(RedisScheduleSource)
            if "schedule" in name and not name.startswith(("_", "skip", "with"))
        }
        assert of_redis <= names


def test_kicker_schedules_and_unschedules() -> None:
    broker, source = SyncInMemoryBroker(), SyncInMemoryScheduleSource()

    @broker.task(task_name="t")
    def task(number: int) -> None: ...

    created = task.schedule_by_time(source, SOON, 5)
    task.schedule_by_cron(source, "* * * * *", 6)
    assert [each.args for each in source.get_all_schedules()] == [[5], [6]]
    created.unschedule()
    assert source.count() == 1


@pytest.mark.anyio
async def test_scheduler_of_taskiq_sends_due_schedules() -> None:
    broker, source = InMemoryBroker(await_inplace=True), InMemoryScheduleSource()
    ran, done = list[int](), asyncio.Event()

    @broker.task(task_name="t")
    async def task(number: int) -> None:
        ran.append(number)
        done.set()

    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    await task.schedule_by_time(source, past, 5)
    await task.schedule_by_time(source, SOON, 6)
    loop = SchedulerLoop(TaskiqScheduler(broker, [source]))
    running = asyncio.create_task(loop.run(update_interval=timedelta(seconds=1)))
    await asyncio.wait_for(done.wait(), TIMEOUT)
    while await source.count() > 1:
        await asyncio.sleep(0.01)
    running.cancel()
    assert ran == [5]


def test_no_scheduler_registers_with_source_in_memory() -> None:
    source = InMemoryScheduleSource()
    assert asyncio.run(source.schedulers()) == to_sync(source).schedulers() == []
