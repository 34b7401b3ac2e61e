"""Management of schedules: find, count, pause, resume, clear, and add many."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.schedules import due_reader
from taskiq_redis.exceptions import (
    InvalidOptionError,
    InvalidScheduleError,
    ScheduleDecodeError,
    ScheduleEncodeError,
    TaskIQRedisError,
)
from tests._async.schedules import BOTH, FUTURE, PAST, ids, schedule, soon
from tests._async.support import opened, redis_of
from tests.servers import Topology, keys_of

pytestmark = pytest.mark.anyio


@BOTH
@pytest.mark.smoke
async def test_schedule_is_found_by_its_id(topology: Topology, prefix: str, mechanism: str) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        assert await source.get_schedule("id") is None
        for when in ({"cron": "* * * * *"}, {"interval": 5}, {"time": FUTURE}):
            await source.add_schedule(schedule(**when))
            assert await source.get_schedule("id") == schedule(**when)
        await source.delete_schedule("id")
        assert await source.get_schedule("id") is None


@BOTH
async def test_unreadable_schedule_is_an_error_for_its_id(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        (key,) = keys_of(topology, f"*{prefix}*:id")
        redis_of(topology).set(key, b"garbage")
        with pytest.raises(ScheduleDecodeError, match="id"):
            await source.get_schedule("id")


@BOTH
async def test_deleting_tells_whether_there_was_a_schedule(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        assert await source.delete_schedule("id") is True
        assert await source.delete_schedule("id") is False


@BOTH
async def test_many_schedules_are_added_counted_listed_and_cleared(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    kinds: list[dict[str, Any]] = [{"cron": "* * * * *"}, {"interval": 5}, {"time": FUTURE}]
    many = {f"{number:04}": schedule(f"{number:04}", **kinds[number % 3]) for number in range(1100)}
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules([])
        assert await source.count() == 0
        await source.add_schedules(list(many.values()))
        assert await source.count() == len(many)
        listed: list[ScheduledTask] = []
        async for each in source.iter_schedules():
            listed += [each]
        assert {each.schedule_id: each for each in listed} == many
        assert len(listed) == len(many)
        assert await source.clear(all=True) == len(many)
        assert await source.count() == 0
        assert await source.clear(all=True) == 0
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
async def test_last_of_several_schedules_with_one_id_is_added(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules([schedule(interval=5), schedule(time=FUTURE)])
        assert await source.get_all_schedules() == [schedule(time=FUTURE)]


async def test_lists_of_many_minutes_are_deleted_in_batches(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_reader, "PRUNED", 2)
    async with opened(topology, "indexed", prefix=prefix) as source:
        times = [FUTURE + timedelta(minutes=number) for number in range(7)]
        one_offs = [schedule(f"{time}", time=time) for time in times]
        await source.add_schedules(one_offs)
        sizes: list[int] = []
        prune = source._reader.prune

        async def record(minutes: list[str]) -> int:
            sizes.append(len(minutes))
            used: int = await prune(minutes)
            return used

        monkeypatch.setattr(source._reader, "prune", record)
        # All of them are used.
        await source._reader.prune_all()
        assert sizes == [2, 2, 2, 1]
        assert await source.clear(all=True) == len(one_offs)
        assert max(sizes) == 2
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
async def test_clear_needs_all(topology: Topology, prefix: str, mechanism: str) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        for options in ({}, {"all": False}):
            with pytest.raises(InvalidOptionError, match="all=True"):
                await source.clear(**options)
        assert await source.count() == 1


@BOTH
async def test_one_bad_schedule_keeps_all_from_being_added(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    unserializable = schedule("b").model_copy(update={"args": [object()]})
    async with opened(topology, mechanism, prefix=prefix) as source:
        with pytest.raises(InvalidScheduleError, match="'b'"):
            await source.add_schedules([schedule("a"), schedule("b", cron="*/0 * * * *")])
        with pytest.raises(ScheduleEncodeError, match="'b'"):
            await source.add_schedules([schedule("a"), unserializable])
        assert await source.count() == 0


@BOTH
@pytest.mark.parametrize(
    "when",
    [
        {"cron": "*/0 * * * *"},
        {"cron": "1-5/0 * * * *"},
        {"cron": "* * * *"},
        {"cron": "* * * * *", "cron_offset": "Nowhere/Town"},
        {"cron": "* * * * *", "cron_offset": "../escape"},
        {"cron": "* * * * *", "cron_offset": timedelta(days=10**7)},
        {"interval": 10**15},
    ],
    ids=lambda when: "-".join(map(str, when.values())),
)
async def test_schedule_that_would_end_the_scheduler_is_refused_and_skipped(
    topology: Topology,
    prefix: str,
    mechanism: str,
    when: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules([schedule("bad"), schedule("good")])
        with pytest.raises(InvalidScheduleError, match="'bad'") as error:
            await source.add_schedule(schedule("bad", **when))
        assert next(iter(when)) in str(error.value)
        # As an older version stored it.
        (key,) = keys_of(topology, f"*{prefix}*:bad")
        bad = schedule("bad", **when).model_dump(mode="json")
        redis_of(topology).set(key, source.serializer.dumpb(bad))
        for _ in range(3):
            assert ids(await source.get_schedules()) == ["good"]
        assert caplog.text.count(f"in the key '{key}' is skipped") == 1


@BOTH
@pytest.mark.parametrize("when", [{"cron": "* * * * *"}, {"interval": 5}, {"time": PAST}])
async def test_paused_schedule_is_not_sent_until_it_is_resumed(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    task = schedule(**when)
    async with opened(topology, mechanism, prefix=prefix) as source:
        assert await source.pause_schedule("id") is False
        assert await source.resume_schedule("id") is False
        await source.add_schedule(task)
        (due,) = await source.get_schedules()
        assert await source.pause_schedule("id") is True
        assert await source.pause_schedule("id") is True
        assert await source.get_schedules() == []
        assert await source.next_run(task) is None
        # A scheduler that read it before doesn't send it.
        with pytest.raises(ScheduledTaskCancelledError):
            await source.pre_send(due)
        assert await source.get_all_schedules() == [task]
        assert await source.count() == 1
        assert await source.resume_schedule("id") is True
        assert await source.resume_schedule("id") is False
        # taskiq's scheduler sends a one-off again only after a read without it.
        await source.get_schedules()
        (due,) = await source.get_schedules()
        await source.pre_send(due)
        await source.post_send(due)


@BOTH
async def test_replacing_a_paused_schedule_resumes_it(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        await source.pause_schedule("id")
        await source.add_schedule(schedule(interval=5))
        assert await source.get_schedules() == [schedule(interval=5)]
        await source.pause_schedule("id")
        await source.delete_schedule("id")
        await source.add_schedule(schedule())
        assert await source.get_schedules() == [schedule()]


@BOTH
async def test_next_run_of_each_kind(topology: Topology, prefix: str, mechanism: str) -> None:
    yearly = schedule("yearly", cron="30 4 29 2 *", cron_offset="Europe/Berlin")
    never = schedule("never", cron="0 0 30 2 *")
    hourly = schedule("hourly", interval=3600)
    once = schedule("once", time=FUTURE)
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedules([yearly, never, hourly, once])
        leap = await source.next_run(yearly)
        assert (leap.month, leap.day, leap.hour, leap.minute) == (2, 29, 3, 30)
        assert await source.next_run(never) is None
        assert abs(await source.next_run(once) - FUTURE) < timedelta(milliseconds=1)
        assert await source.next_run(hourly) <= datetime.now(timezone.utc)
        await source.pre_send(hourly)
        await source.post_send(hourly)
        following = await source.next_run(hourly)
        assert timedelta(minutes=50) < following - datetime.now(timezone.utc)
        assert await source.next_run(schedule("missing")) is None


@BOTH
async def test_next_run_of_a_cron_is_this_minute_until_it_fired(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        assert now <= await source.next_run(schedule()) <= now + timedelta(minutes=1)
        await source.pre_send(schedule())
        await source.post_send(schedule())
        assert await source.next_run(schedule()) > now


@BOTH
async def test_next_run_of_a_cron_is_not_in_the_past(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(cron="* * * * *"))
        fired = datetime.now(timezone.utc) - timedelta(days=3)
        client = redis_of(topology)
        client.hset(source._keys.fired, "id", str(int(fired.timestamp() * 1000)))
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        assert now <= await source.next_run(schedule()) <= now + timedelta(minutes=1)


@BOTH
async def test_time_without_a_time_zone_warns_once(
    topology: Topology, prefix: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    naive = schedule(time=FUTURE.replace(tzinfo=None))
    async with opened(topology, mechanism, prefix=prefix) as source:
        for _ in range(2):
            await source.add_schedule(naive)
        assert caplog.text.count("is read as UTC") == 1
        assert await source.next_run(naive) == await source.next_run(schedule(time=FUTURE))


@pytest.mark.parametrize("schedule_id", ["due", "keys:due", "keys:fired"])
async def test_schedule_with_the_key_of_an_index_is_refused(
    topology: Topology, prefix: str, schedule_id: str
) -> None:
    async with opened(topology, "keys", prefix=f"{{{prefix}}}") as source:
        with pytest.raises(InvalidScheduleError):
            await source.add_schedule(schedule(schedule_id))
        assert await source.get_schedules() == []


@BOTH
@pytest.mark.parametrize("schedule_id", ["cron", "interval", "data:x", "time:2030-01-02T03:04"])
async def test_both_kinds_of_source_on_one_prefix_do_not_collide(
    topology: Topology, prefix: str, mechanism: str, schedule_id: str
) -> None:
    other = "keys" if mechanism == "indexed" else "indexed"
    time = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
    async with opened(topology, mechanism, prefix=prefix) as one:
        async with opened(topology, other, prefix=prefix) as second:
            first = [schedule("x"), schedule("y", interval=5), schedule("z", time=time)]
            await one.add_schedules(first)
            added = await try_to_add(second, schedule(schedule_id, interval=9))
            assert ids(await one.get_all_schedules()) == ["x", "y", "z"]
            assert ids(await second.get_all_schedules()) == added
            assert {"x", "y"} <= set(ids(await one.get_schedules()))
            assert await second.clear(all=True) == len(added)
            assert ids(await one.get_all_schedules()) == ["x", "y", "z"]


async def test_key_of_the_other_kind_of_source_is_not_overwritten(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "keys", prefix=prefix) as keys:
        async with opened(topology, "indexed", prefix=prefix) as indexed:
            await keys.add_schedule(schedule("data:a"))
            with pytest.raises(InvalidScheduleError, match="'data:a' of another source"):
                await indexed.add_schedule(schedule("a"))
            await indexed.add_schedule(schedule("b"))
            with pytest.raises(InvalidScheduleError, match="'b' of another source"):
                await keys.add_schedule(schedule("data:b"))
            assert ids(await keys.get_all_schedules()) == ["data:a"]
            assert ids(await indexed.get_all_schedules()) == ["b"]


async def try_to_add(source: Any, task: ScheduledTask) -> list[str]:
    """Add a schedule, and return the IDs of what was added: nothing if its key is taken."""
    try:
        await source.add_schedule(task)
    except TaskIQRedisError:
        return []
    return [task.schedule_id]


async def test_schedule_with_interval_and_time_of_older_version_is_read(
    topology: Topology, prefix: str
) -> None:
    both = schedule("both", interval=5, time=soon())
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(both)
        assert await source.get_schedules() == [both]
        assert await source.get_all_schedules() == [both]
        # taskiq-redis 1.2.4 looks for it in the list of its minute, and deletes it when it was sent.
        (minute,) = keys_of(topology, f"{prefix}:time:*")
        assert redis_of(topology).lrange(minute, 0, -1) == [b"both"]
        await source.post_send(both)
        assert await source.get_all_schedules() == []


@BOTH
async def test_offset_with_seconds_keeps_the_time(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    local = PAST.astimezone(timezone(timedelta(minutes=53, seconds=28)))
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule(time=local))
        (read,) = await source.get_schedules()
        assert read.time == PAST


@BOTH
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
async def test_first_and_last_years_are_kept(
    topology: Topology, prefix: str, mechanism: str, time: str
) -> None:
    task = schedule(time=datetime.fromisoformat(time))
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(task)
        assert await source.get_all_schedules() == [task]
        assert await source.delete_schedule("id") is True
    assert keys_of(topology, f"*{prefix}*") == []
