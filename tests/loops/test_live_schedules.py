"""What asyncio adds to schedule sources: lists that stay up to date, and claims that are renewed."""

import asyncio
import gc
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from taskiq import InMemoryBroker, TaskiqScheduler
from taskiq.cli.scheduler.run import SchedulerLoop
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis import ListRedisScheduleSource
from taskiq_redis._async.schedules import claims
from taskiq_redis._runtime import aio
from taskiq_redis._runtime.aio import Refresher
from taskiq_redis.exceptions import ServerUnavailableError
from tests._aio import wait_until
from tests._async.schedules import BOTH, PAST, ids, schedule
from tests._async.support import opened, redis_of
from tests.servers import Topology

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


@pytest.fixture
def prefix(name: str) -> str:
    return f"{{{name}}}"


def refreshers() -> list[asyncio.Task[Any]]:
    """Return the tasks that keep lists up to date."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "Refresh of schedules"]


async def test_list_follows_changes_while_it_is_held(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        held = await source.get_schedules()
        assert held == []
        async with opened(topology, "indexed", prefix=prefix) as writer:
            await writer.add_schedule(schedule("a", interval=5))
            await wait_for(held, "a")
            await writer.add_schedule(schedule("b"))
            await wait_for(held, "a", "b")
            await writer.delete_schedule("a")
            await wait_for(held, "b")
        # Reading again returns the same list.
        assert await source.get_schedules() is held


async def wait_for(held: list[ScheduledTask], *schedule_ids: str) -> None:
    async def is_there() -> bool:
        return ids(held) == list(schedule_ids)

    await wait_until(is_there)


async def test_list_is_not_followed_after_it_was_dropped(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        held = await source.get_schedules()
        assert len(refreshers()) == 1
        await source.get_schedules()
        assert len(refreshers()) == 1
        del held
        gc.collect()

        async def is_over() -> bool:
            return not refreshers()

        await wait_until(is_over)
        assert len(await source.get_schedules()) == 0
        assert len(refreshers()) == 1
    assert not refreshers()


async def test_list_stays_as_it_was_while_redis_is_away(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule())
        held = await source.get_schedules()
        failures: list[int] = []

        async def fail(*_: Any, **__: Any) -> Any:
            failures.append(1)
            raise ServerUnavailableError(server="s", reason="r", advice="a")

        monkeypatch.setattr(source._connection, "run_script", fail)

        async def was_tried() -> bool:
            return len(failures) >= 2

        await wait_until(was_tried)
        assert await source.get_schedules() == held == [schedule()]
        monkeypatch.undo()
        await source.add_schedule(schedule("b"))
        await wait_for(held, "b", "id")


async def test_failing_refresh_is_logged_and_goes_on(
    topology: Topology,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        held = await source.get_schedules()

        async def fail() -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(source, "_read_due", fail)

        async def is_logged() -> bool:
            return "a bug" in caplog.text

        await wait_until(is_logged)
        monkeypatch.undo()
        await source.add_schedule(schedule())
        await wait_for(held, "id")


async def test_exact_times_are_rounded_only_when_they_are_due(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:

        async def is_rounded_in_time() -> bool:
            now = datetime.now(timezone.utc)
            due_at = (now + timedelta(seconds=3)).replace(microsecond=400_000)
            await source.add_schedules([schedule("soon", time=due_at), schedule("past", time=PAST)])
            held = await source.get_schedules()
            if datetime.now(timezone.utc) - now < timedelta(seconds=0.3):
                assert {each.time for each in held} == {due_at, PAST}
            # A busy machine may notice it too late.
            while datetime.now(timezone.utc) < due_at:
                if {each.time for each in held} == {due_at.replace(microsecond=0), PAST}:
                    return True
                await asyncio.sleep(0.01)
            return False

        await wait_until(is_rounded_in_time)


class Recorder(InMemoryBroker):
    """Records when each schedule is sent."""

    def __init__(self, fail: int = 0) -> None:
        super().__init__()
        self.sent: list[tuple[str, datetime]] = []
        self._fail = fail

    async def kick(self, message: Any) -> None:
        if self._fail:
            self._fail -= 1
            raise RedisConnectionError("the broker's Redis is away")
        self.sent.append((message.labels["schedule_id"], datetime.now(timezone.utc)))


async def run_scheduler(broker: Recorder, source: Any, until: int, update: float) -> None:
    """Run taskiq's scheduler until it has sent a number of tasks."""
    loop = SchedulerLoop(TaskiqScheduler(broker, [source]), event_loop=asyncio.get_running_loop())
    running = asyncio.ensure_future(loop.run(update_interval=timedelta(seconds=update)))

    async def is_done() -> bool:
        return len(broker.sent) >= until

    try:
        await wait_until(is_done)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_one_off_is_sent_in_time_without_a_short_update_interval(
    topology: Topology, prefix: str
) -> None:
    broker = Recorder()
    due_at = datetime.now(timezone.utc) + timedelta(seconds=2.3)
    async with opened(topology, "indexed", prefix=prefix) as source:

        async def add() -> None:
            await asyncio.sleep(1.2)
            await source.add_schedule(schedule(time=due_at))

        adding = asyncio.ensure_future(add())
        # The next update would be in an hour.
        await run_scheduler(broker, source, 1, update=3600)
        await adding
    ((_, at),) = broker.sent
    assert at >= due_at


class CopyingSource(ListRedisScheduleSource):
    """A source whose lists aren't kept up to date, as if taskiq copied them."""

    async def get_schedules(self) -> list[ScheduledTask]:
        return list(await super().get_schedules())


async def test_copied_list_makes_one_offs_late_and_loses_none(
    topology: Topology, prefix: str
) -> None:
    broker = Recorder()
    source = CopyingSource(topology.url, prefix=prefix)
    times = [timedelta(seconds=seconds) for seconds in (0.5, 1.5, 2.5)]
    for number, after in enumerate(times):
        await source.add_schedule(schedule(str(number), time=datetime.now(timezone.utc) + after))

    async def add_later() -> None:
        await asyncio.sleep(2)
        await source.add_schedule(schedule("late", time=datetime.now(timezone.utc)))

    adding = asyncio.ensure_future(add_later())
    await run_scheduler(broker, source, 4, update=2)
    await adding
    assert sorted(sent for sent, _ in broker.sent) == ["0", "1", "2", "late"]
    await source.shutdown()


def test_one_off_whose_send_failed_is_sent_after_the_next_update(
    topology: Topology, prefix: str
) -> None:
    async def run() -> Recorder:
        broker = Recorder(fail=2)
        async with opened(topology, "indexed", prefix=prefix) as source:
            await source.add_schedules([schedule("a", time=PAST), schedule("b", time=PAST)])
            await run_scheduler(broker, source, 2, update=1)

            async def is_empty() -> bool:
                return await source.count() == 0

            await wait_until(is_empty)
        return broker

    # Not in the loop of the test, which would fail because of the errors.
    broker = asyncio.run(run())
    assert sorted(sent for sent, _ in broker.sent) == ["a", "b"]


@BOTH
async def test_claims_are_renewed_while_sending_takes_long(
    topology: Topology, prefix: str, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEWAL", 0.5)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(time=PAST))
        (due,) = await source.get_schedules()
        await source.pre_send(due)

        def stored() -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = redis_of(topology).hgetall(source._keys.claims)
            return found

        before = stored()

        async def is_renewed() -> bool:
            return stored() != before

        await wait_until(is_renewed)
        assert stored().keys() == {b"id"}
        await source.post_send(due)
        assert stored() == {}


@BOTH
async def test_failed_send_ends_the_claim(topology: Topology, prefix: str, mechanism: str) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(time=PAST))
        (due,) = await source.get_schedules()

        async def fail() -> None:
            await source.pre_send(due)
            raise RedisConnectionError

        with suppress(RedisConnectionError):
            await asyncio.ensure_future(fail())

        async def is_free() -> bool:
            return not redis_of(topology).exists(source._keys.claims)

        await wait_until(is_free)
        # taskiq's scheduler offers it again only after a read without it.
        assert await source.get_schedules() == []
        (due,) = await source.get_schedules()
        await source.pre_send(due)
        await source.post_send(due)
        assert await source.count() == 0


@BOTH
async def test_so_many_are_between_claim_and_confirmation(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    many = [schedule(str(number), time=PAST) for number in range(claims.IN_FLIGHT + 20)]
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules(many)
        go_on = asyncio.Event()
        claimed: list[str] = []

        async def send(due: ScheduledTask) -> None:
            await source.pre_send(due)
            claimed.append(due.schedule_id)
            await go_on.wait()
            await source.post_send(due)

        sending = [asyncio.ensure_future(send(due)) for due in await source.get_schedules()]

        async def is_full() -> bool:
            return len(claimed) >= claims.IN_FLIGHT

        await wait_until(is_full)
        await asyncio.sleep(0.2)
        assert len(claimed) == claims.IN_FLIGHT
        go_on.set()
        await asyncio.gather(*sending)
        assert await source.count() == 0


async def test_refresher_leaves_alone_what_was_just_published(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert topology.url
    # A busy machine may need longer between two lists.
    monkeypatch.setattr(aio, "REFRESH_PAUSE", 30)
    read: list[int] = []

    async def items() -> list[int]:
        read.append(1)
        return [2]

    refresher = Refresher(items, "test")
    held = refresher.publish([1])
    for _ in range(12):
        await asyncio.sleep(0.1)
        refresher.publish([1])
    assert held == [1]
    assert read == []
    await refresher.stop()
