# Generated from tests/_async/test_schedule_management.py by scripts/unasync.py; edit that.

"""Management of schedules: find, count, pause, resume, clear, and add many."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._sync.schedules import due_reader
from taskiq_redis.exceptions import (
    InvalidOptionError,
    InvalidScheduleError,
    ScheduleDecodeError,
    ScheduleEncodeError,
    TaskIQRedisError,
)
from tests._sync.schedules import BOTH, FUTURE, PAST, ids, schedule, soon
from tests._sync.support import opened, redis_of
from tests.servers import Topology, keys_of


@BOTH
@pytest.mark.smoke
def test_schedule_is_found_by_its_id(topology: Topology, prefix: str, mechanism: str) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        assert source.get_schedule("id") is None
        for when in ({"cron": "* * * * *"}, {"interval": 5}, {"time": FUTURE}):
            source.add_schedule(schedule(**when))
            assert source.get_schedule("id") == schedule(**when)
        source.delete_schedule("id")
        assert source.get_schedule("id") is None


@BOTH
def test_unreadable_schedule_is_an_error_for_its_id(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule())
        (key,) = keys_of(topology, f"*{prefix}*:id")
        redis_of(topology).set(key, b"garbage")
        with pytest.raises(ScheduleDecodeError, match="id"):
            source.get_schedule("id")


@BOTH
def test_deleting_tells_whether_there_was_a_schedule(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule())
        assert source.delete_schedule("id") is True
        assert source.delete_schedule("id") is False


@BOTH
def test_many_schedules_are_added_counted_listed_and_cleared(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    kinds: list[dict[str, Any]] = [{"cron": "* * * * *"}, {"interval": 5}, {"time": FUTURE}]
    many = {f"{number:04}": schedule(f"{number:04}", **kinds[number % 3]) for number in range(1100)}
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedules([])
        assert source.count() == 0
        source.add_schedules(list(many.values()))
        assert source.count() == len(many)
        listed: list[ScheduledTask] = []
        for each in source.iter_schedules():
            listed += [each]
        assert {each.schedule_id: each for each in listed} == many
        assert len(listed) == len(many)
        assert source.clear(all=True) == len(many)
        assert source.count() == 0
        assert source.clear(all=True) == 0
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
def test_last_of_several_schedules_with_one_id_is_added(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedules([schedule(interval=5), schedule(time=FUTURE)])
        assert source.get_all_schedules() == [schedule(time=FUTURE)]


def test_lists_of_many_minutes_are_deleted_in_batches(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_reader, "PRUNED", 2)
    with opened(topology, "indexed", prefix=prefix) as source:
        times = [FUTURE + timedelta(minutes=number) for number in range(7)]
        one_offs = [schedule(f"{time}", time=time) for time in times]
        source.add_schedules(one_offs)
        sizes: list[int] = []
        prune = source._reader.prune

        def record(minutes: list[str]) -> int:
            sizes.append(len(minutes))
            used: int = prune(minutes)
            return used

        monkeypatch.setattr(source._reader, "prune", record)
        # All of them are used.
        source._reader.prune_all()
        assert sizes == [2, 2, 2, 1]
        assert source.clear(all=True) == len(one_offs)
        assert max(sizes) == 2
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
def test_clear_needs_all(topology: Topology, prefix: str, mechanism: str) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule())
        for options in ({}, {"all": False}):
            with pytest.raises(InvalidOptionError, match="all=True"):
                source.clear(**options)
        assert source.count() == 1


@BOTH
def test_one_bad_schedule_keeps_all_from_being_added(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    unserializable = schedule("b").model_copy(update={"args": [object()]})
    with opened(topology, mechanism, prefix=prefix) as source:
        with pytest.raises(InvalidScheduleError, match="'b'"):
            source.add_schedules([schedule("a"), schedule("b", cron="*/0 * * * *")])
        with pytest.raises(ScheduleEncodeError, match="'b'"):
            source.add_schedules([schedule("a"), unserializable])
        assert source.count() == 0


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
def test_schedule_that_would_end_the_scheduler_is_refused_and_skipped(
    topology: Topology,
    prefix: str,
    mechanism: str,
    when: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedules([schedule("bad"), schedule("good")])
        with pytest.raises(InvalidScheduleError, match="'bad'") as error:
            source.add_schedule(schedule("bad", **when))
        assert next(iter(when)) in str(error.value)
        # As an older version stored it.
        (key,) = keys_of(topology, f"*{prefix}*:bad")
        bad = schedule("bad", **when).model_dump(mode="json")
        redis_of(topology).set(key, source.serializer.dumpb(bad))
        for _ in range(3):
            assert ids(source.get_schedules()) == ["good"]
        assert caplog.text.count(f"in the key '{key}' is skipped") == 1


@BOTH
@pytest.mark.parametrize("when", [{"cron": "* * * * *"}, {"interval": 5}, {"time": PAST}])
def test_paused_schedule_is_not_sent_until_it_is_resumed(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    task = schedule(**when)
    with opened(topology, mechanism, prefix=prefix) as source:
        assert source.pause_schedule("id") is False
        assert source.resume_schedule("id") is False
        source.add_schedule(task)
        (due,) = source.get_schedules()
        assert source.pause_schedule("id") is True
        assert source.pause_schedule("id") is True
        assert source.get_schedules() == []
        assert source.next_run(task) is None
        # A scheduler that read it before doesn't send it.
        with pytest.raises(ScheduledTaskCancelledError):
            source.pre_send(due)
        assert source.get_all_schedules() == [task]
        assert source.count() == 1
        assert source.resume_schedule("id") is True
        assert source.resume_schedule("id") is False
        # taskiq's scheduler sends a one-off again only after a read without it.
        source.get_schedules()
        (due,) = source.get_schedules()
        source.pre_send(due)
        source.post_send(due)


@BOTH
def test_replacing_a_paused_schedule_resumes_it(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule())
        source.pause_schedule("id")
        source.add_schedule(schedule(interval=5))
        assert source.get_schedules() == [schedule(interval=5)]
        source.pause_schedule("id")
        source.delete_schedule("id")
        source.add_schedule(schedule())
        assert source.get_schedules() == [schedule()]


@BOTH
def test_next_run_of_each_kind(topology: Topology, prefix: str, mechanism: str) -> None:
    yearly = schedule("yearly", cron="30 4 29 2 *", cron_offset="Europe/Berlin")
    never = schedule("never", cron="0 0 30 2 *")
    hourly = schedule("hourly", interval=3600)
    once = schedule("once", time=FUTURE)
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedules([yearly, never, hourly, once])
        leap = source.next_run(yearly)
        assert (leap.month, leap.day, leap.hour, leap.minute) == (2, 29, 3, 30)
        assert source.next_run(never) is None
        assert abs(source.next_run(once) - FUTURE) < timedelta(milliseconds=1)
        assert source.next_run(hourly) <= datetime.now(timezone.utc)
        source.pre_send(hourly)
        source.post_send(hourly)
        following = source.next_run(hourly)
        assert timedelta(minutes=50) < following - datetime.now(timezone.utc)
        assert source.next_run(schedule("missing")) is None


@BOTH
def test_next_run_of_a_cron_is_this_minute_until_it_fired(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule())
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        assert now <= source.next_run(schedule()) <= now + timedelta(minutes=1)
        source.pre_send(schedule())
        source.post_send(schedule())
        assert source.next_run(schedule()) > now


@BOTH
def test_next_run_of_a_cron_is_not_in_the_past(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule(cron="* * * * *"))
        fired = datetime.now(timezone.utc) - timedelta(days=3)
        client = redis_of(topology)
        client.hset(source._keys.fired, "id", str(int(fired.timestamp() * 1000)))
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        assert now <= source.next_run(schedule()) <= now + timedelta(minutes=1)


@BOTH
def test_time_without_a_time_zone_warns_once(
    topology: Topology, prefix: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    naive = schedule(time=FUTURE.replace(tzinfo=None))
    with opened(topology, mechanism, prefix=prefix) as source:
        for _ in range(2):
            source.add_schedule(naive)
        assert caplog.text.count("is read as UTC") == 1
        assert source.next_run(naive) == source.next_run(schedule(time=FUTURE))


@pytest.mark.parametrize("schedule_id", ["due", "keys:due", "keys:fired"])
def test_schedule_with_the_key_of_an_index_is_refused(
    topology: Topology, prefix: str, schedule_id: str
) -> None:
    with opened(topology, "keys", prefix=f"{{{prefix}}}") as source:
        with pytest.raises(InvalidScheduleError):
            source.add_schedule(schedule(schedule_id))
        assert source.get_schedules() == []


@BOTH
@pytest.mark.parametrize("schedule_id", ["cron", "interval", "data:x", "time:2030-01-02T03:04"])
def test_both_kinds_of_source_on_one_prefix_do_not_collide(
    topology: Topology, prefix: str, mechanism: str, schedule_id: str
) -> None:
    other = "keys" if mechanism == "indexed" else "indexed"
    time = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
    with opened(topology, mechanism, prefix=prefix) as one:
        with opened(topology, other, prefix=prefix) as second:
            first = [schedule("x"), schedule("y", interval=5), schedule("z", time=time)]
            one.add_schedules(first)
            added = try_to_add(second, schedule(schedule_id, interval=9))
            assert ids(one.get_all_schedules()) == ["x", "y", "z"]
            assert ids(second.get_all_schedules()) == added
            assert {"x", "y"} <= set(ids(one.get_schedules()))
            assert second.clear(all=True) == len(added)
            assert ids(one.get_all_schedules()) == ["x", "y", "z"]


def test_key_of_the_other_kind_of_source_is_not_overwritten(
    topology: Topology, prefix: str
) -> None:
    with opened(topology, "keys", prefix=prefix) as keys:
        with opened(topology, "indexed", prefix=prefix) as indexed:
            keys.add_schedule(schedule("data:a"))
            with pytest.raises(InvalidScheduleError, match="'data:a' of another source"):
                indexed.add_schedule(schedule("a"))
            indexed.add_schedule(schedule("b"))
            with pytest.raises(InvalidScheduleError, match="'b' of another source"):
                keys.add_schedule(schedule("data:b"))
            assert ids(keys.get_all_schedules()) == ["data:a"]
            assert ids(indexed.get_all_schedules()) == ["b"]


def try_to_add(source: Any, task: ScheduledTask) -> list[str]:
    """Add a schedule, and return the IDs of what was added: nothing if its key is taken."""
    try:
        source.add_schedule(task)
    except TaskIQRedisError:
        return []
    return [task.schedule_id]


def test_schedule_with_interval_and_time_of_older_version_is_read(
    topology: Topology, prefix: str
) -> None:
    both = schedule("both", interval=5, time=soon())
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedule(both)
        assert source.get_schedules() == [both]
        assert source.get_all_schedules() == [both]
        # taskiq-redis 1.2.4 looks for it in the list of its minute, and deletes it when it was sent.
        (minute,) = keys_of(topology, f"{prefix}:time:*")
        assert redis_of(topology).lrange(minute, 0, -1) == [b"both"]
        source.post_send(both)
        assert source.get_all_schedules() == []


@BOTH
def test_offset_with_seconds_keeps_the_time(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    local = PAST.astimezone(timezone(timedelta(minutes=53, seconds=28)))
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule(time=local))
        (read,) = source.get_schedules()
        assert read.time == PAST


@BOTH
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_first_and_last_years_are_kept(
    topology: Topology, prefix: str, mechanism: str, time: str
) -> None:
    task = schedule(time=datetime.fromisoformat(time))
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(task)
        assert source.get_all_schedules() == [task]
        assert source.delete_schedule("id") is True
    assert keys_of(topology, f"*{prefix}*") == []
