"""Each firing of a schedule is sent once, by one scheduler, with what is stored now."""

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.schedules import claims
from tests._aio import Running, together, wait_until
from tests._async.schedules import (
    BOTH,
    FUTURE,
    PAST,
    ids,
    schedule,
    until_minute_has_time_left,
)
from tests._async.support import opened, redis_of
from tests.servers import Topology, keys_of

pytestmark = pytest.mark.anyio

KINDS = pytest.mark.parametrize(
    "when",
    [{"cron": "* * * * *"}, {"interval": 3600}, {"time": PAST}],
    ids=["cron", "interval", "once"],
)


async def send(source: Any, task: ScheduledTask) -> bool:
    """Do what a scheduler does, and return whether it sends the task."""
    try:
        await source.pre_send(task)
    except ScheduledTaskCancelledError:
        return False
    await source.post_send(task)
    return True


@BOTH
@KINDS
@pytest.mark.smoke
async def test_only_one_of_several_schedulers_sends(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    if "interval" in when:
        # The others would wait for an hour: that is tested below.
        when = {"interval": 2}
    sent: list[str] = []
    async with (
        opened(topology, mechanism, prefix=prefix) as one,
        opened(topology, mechanism, prefix=prefix) as second,
    ):
        await one.add_schedule(schedule(**when))
        (due,) = await one.get_schedules()
        if "cron" in when:
            await until_minute_has_time_left()

        def attempt(source: Any) -> Any:
            async def run() -> None:
                if await send(source, due.model_copy()):
                    sent.append("sent")

            return run

        begun = time.monotonic()
        await together(*(attempt(source) for source in (one, second)))
        if "interval" in when:
            # The other one waited until the interval was over, and sent it then.
            assert len(sent) == 2
            assert time.monotonic() - begun > 1.5
        else:
            assert sent == ["sent"]


@BOTH
async def test_cron_is_sent_once_a_minute(topology: Topology, prefix: str, mechanism: str) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        await until_minute_has_time_left()
        assert await send(source, schedule()) is True
        # Also after a restart, which forgets what taskiq's scheduler remembers.
        async with opened(topology, mechanism, prefix=prefix) as restarted:
            assert await send(restarted, schedule()) is False


@pytest.mark.full
@BOTH
async def test_interval_waits_for_its_end_after_a_restart(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    task = schedule(interval=2)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(task)
        assert await send(source, task) is True
    fired = time.monotonic()
    async with opened(topology, mechanism, prefix=prefix) as restarted:
        assert await send(restarted, task) is True
        # It may be early by half a second, since schedulers look at whole seconds.
        assert time.monotonic() - fired > 1.4


@BOTH
@KINDS
async def test_deleted_schedule_is_not_sent(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(**when))
        (due,) = await source.get_schedules()
        await source.delete_schedule("id")
        assert await send(source, due) is False


@pytest.mark.full
@BOTH
@KINDS
@pytest.mark.parametrize("other", [{"time": FUTURE}, {"interval": 7200}, {"cron": "0 0 30 2 *"}])
async def test_schedule_that_was_moved_is_not_sent(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any], other: dict[str, Any]
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(**when))
        (due,) = await source.get_schedules()
        await source.add_schedule(schedule(**other))
        assert await send(source, due) is False
        assert await source.get_all_schedules() == [schedule(**other)]
        # Its claim is ended soon, and the schedule can be sent when it is due.
        await wait_until(lambda: no_claims(topology, prefix))


async def no_claims(topology: Topology, prefix: str) -> bool:
    return not keys_of(topology, f"*{prefix}*:claims")


@BOTH
@KINDS
async def test_stored_arguments_are_sent(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(**when))
        (due,) = await source.get_schedules()
        new = {"task_name": "new", "args": [2], "kwargs": {}, "labels": {"a": "b"}, "task_id": "t"}
        await source.add_schedule(schedule(**when).model_copy(update=new))
        await source.pre_send(due)
        assert due.model_dump(include=set(new)) == new
        await source.post_send(due)
        left = [] if "time" in when else ["id"]
        assert ids(await source.get_all_schedules()) == left


@BOTH
async def test_one_off_that_was_replaced_while_it_was_sent_is_kept(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    other = schedule(time=PAST).model_copy(update={"args": [2]})
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(time=PAST))
        (due,) = await source.get_schedules()
        await source.pre_send(due)
        await source.add_schedule(other)
        await source.post_send(due)
        assert await source.get_all_schedules() == [other]


@pytest.mark.full
@BOTH
@KINDS
async def test_claim_of_a_dead_scheduler_is_taken_over_after_its_lease(
    topology: Topology,
    prefix: str,
    mechanism: str,
    when: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "LEASE", 1500)
    async with opened(topology, mechanism, prefix=prefix) as dead:
        await dead.add_schedule(schedule(**when))
        (due,) = await dead.get_schedules()
        monkeypatch.setattr(dead._claims, "_keep", lambda: None)
        await dead.pre_send(due)
        claimed = time.monotonic()
        async with opened(topology, mechanism, prefix=prefix) as living:
            assert await send(living, due.model_copy()) is True
        assert time.monotonic() - claimed > 1.0


@BOTH
@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"99999999999999999999 token", b"-1 t", b"\xff\xfe"]
)
async def test_garbage_in_claims_and_firings_blocks_no_schedule(
    topology: Topology, prefix: str, mechanism: str, garbage: bytes
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules([schedule(), schedule("often", interval=3600)])
        for each in (schedule(), schedule("often", interval=3600)):
            redis_of(topology).hset(source._keys.fired, each.schedule_id, garbage)
            if not garbage.startswith(b"9"):
                redis_of(topology).hset(source._keys.claims, each.schedule_id, garbage)
            assert await send(source, each) is True


@BOTH
async def test_last_firing_is_forgotten_with_the_schedule(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    task = schedule(interval=3600)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(task)
        assert await send(source, task) is True
        assert redis_of(topology).hkeys(source._keys.fired) == [b"id"]
        await source.delete_schedule("id")
        await source.add_schedule(task)
        assert await send(source, task) is True


@BOTH
async def test_cron_with_an_interval_fires_by_both(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    task = schedule(cron="0 0 29 2 *", interval=1)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(task)
        assert await send(source, task) is True
        assert await send(source, task) is True
        assert await source.get_all_schedules() == [task]


@BOTH
async def test_cron_with_a_time_fires_once_by_the_time(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    task = schedule(cron="0 0 29 2 *", time=PAST)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(task)
        assert await send(source, task) is True
        async with opened(topology, mechanism, prefix=prefix) as restarted:
            assert await send(restarted, task) is False
        assert await source.get_all_schedules() == [task]


async def test_shorter_interval_is_noticed_while_waiting(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LONGEST_PAUSE", 0.2)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule(interval=3600))
        (due,) = await source.get_schedules()
        assert await send(source, due) is True
        sent: list[bool] = []

        async def wait_and_send() -> None:
            sent.append(await send(source, due))

        async def is_sent() -> bool:
            await source.get_schedules()
            return bool(sent)

        async with Running(wait_and_send):
            await source.add_schedule(schedule(interval=1))
            await wait_until(is_sent)
        assert sent == [True]


@pytest.mark.parametrize("when", [{"cron": "* * * * *"}, {"time": FUTURE}, None])
async def test_waiting_interval_ends_when_it_is_replaced_or_deleted(
    topology: Topology,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    when: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr(claims, "REPLACED_PAUSE", 0.2)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule(interval=3600))
        (due,) = await source.get_schedules()
        assert await send(source, due) is True
        sent: list[bool] = []

        async def wait_and_send() -> None:
            sent.append(await send(source, due))

        async def is_done() -> bool:
            await source.get_schedules()
            return bool(sent)

        async with Running(wait_and_send):
            if when is None:
                await source.delete_schedule("id")
            else:
                await source.add_schedule(schedule(**when))
            await wait_until(is_done)
        assert sent == [False]


async def test_one_off_waits_for_its_exact_time(topology: Topology, prefix: str) -> None:
    due_at = datetime.now(timezone.utc) + timedelta(seconds=1.3)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule(time=due_at))
        (due,) = await source.get_schedules()
        # A scheduler that looks at whole seconds sees it in time.
        assert due.time == due_at.replace(microsecond=0)
        assert await send(source, due) is True
        assert datetime.now(timezone.utc) >= due_at
        assert await source.get_all_schedules() == []
