# Generated from tests/_async/test_schedules.py by scripts/unasync.py; edit that.

"""Schedule sources, on every topology."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.serializers import JSONSerializer

from taskiq_redis.exceptions import ScheduleEncodeError, WrongKeyTypeError
from tests._sync.schedules import BOTH, FUTURE, PAST, ids, schedule, soon
from tests._sync.support import build, opened, redis_of
from tests._threads import together
from tests.servers import Topology, keys_of


@BOTH
@pytest.mark.smoke
@pytest.mark.parametrize(
    "when",
    [
        {"cron": "*/5 * * * *", "cron_offset": "Europe/Berlin"},
        {"interval": 30},
        {"interval": timedelta(minutes=5)},
        {"time": PAST},
        {"time": PAST.replace(tzinfo=None)},
        {"time": PAST.astimezone(timezone(timedelta(hours=5, minutes=30)))},
    ],
    ids=lambda when: "-".join(map(str, when)),
)
def test_schedule_is_stored_unchanged(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.startup()
        source.add_schedule(schedule(**when))
        (read,) = source.get_schedules()
        assert read == schedule(**when)
        source.delete_schedule("id")
        assert source.get_schedules() == []
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
def test_replacing_and_deleting_leave_no_keys_behind(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        for when in ({"time": FUTURE}, {"cron": "* * * * *"}, {"interval": 5}, {"time": PAST}):
            for _ in range(2):
                source.add_schedule(schedule(**when))
                assert source.get_all_schedules() == [schedule(**when)]
        source.delete_schedule("id")
        source.delete_schedule("id")
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
def test_sent_one_off_schedule_is_deleted(topology: Topology, prefix: str, mechanism: str) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule("once", time=PAST))
        source.add_schedule(schedule("often", interval=5))
        for due in source.get_schedules():
            source.post_send(due)
        assert ids(source.get_schedules()) == ["often"]


@BOTH
@pytest.mark.parametrize("when", [{"time": datetime.now(timezone.utc)}, {"interval": 5}])
def test_schedule_that_replaced_a_sent_one_off_is_kept(
    topology: Topology, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule(time=PAST))
        (due,) = source.get_schedules()
        # A fast worker may do this before the scheduler goes on.
        source.add_schedule(schedule(**when))
        source.post_send(due)
        assert source.get_all_schedules() == [schedule(**when)]


@BOTH
def test_schedule_with_id_that_was_just_sent_is_left_out_of_one_read(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    again = schedule(time=datetime.now(timezone.utc))
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule(time=PAST))
        source.add_schedule(schedule("other", time=PAST))
        (due,) = [due for due in source.get_schedules() if due.schedule_id == "id"]
        source.post_send(due)
        source.add_schedule(again)
        # taskiq's scheduler sends an id again only after a read without it.
        assert ids(source.get_schedules()) == ["other"]
        assert again in source.get_schedules()


@BOTH
@pytest.mark.parametrize("raw", [b"garbage \xff", b"", b"\x80\x04]\x94."])
def test_unreadable_schedule_does_not_hide_the_others(
    topology: Topology,
    prefix: str,
    mechanism: str,
    raw: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule("good"))
        source.add_schedule(schedule("bad"))
        (key,) = keys_of(topology, f"*{prefix}*:bad")
        redis_of(topology).set(key, raw)
        assert ids(source.get_schedules()) == ["good"]
        assert key in caplog.text
        # It can be replaced, and deleted.
        source.add_schedule(schedule("bad", interval=5))
        assert ids(source.get_schedules()) == ["bad", "good"]
        redis_of(topology).set(key, raw)
        source.delete_schedule("bad")
        source.delete_schedule("good")
        assert source.get_schedules() == []


@BOTH
def test_unserializable_schedule_is_refused(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        bad = schedule().model_copy(update={"args": [object()]})
        with pytest.raises(ScheduleEncodeError, match="'id'"):
            source.add_schedule(bad)
    assert keys_of(topology, f"*{prefix}*") == []


@BOTH
def test_schedules_are_read_in_several_buffers(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix, serializer=JSONSerializer()) as source:
        source.buffer_size = 7
        for number in range(50):
            source.add_schedule(schedule(f"{number:02}"))
        assert ids(source.get_schedules()) == [f"{number:02}" for number in range(50)]


@BOTH
@pytest.mark.parametrize("schedule_id", ["{a}b", "a:b", "with space", "ünï", "*", "new\nline"])
def test_schedule_id_may_be_any_text(
    topology: Topology, prefix: str, mechanism: str, schedule_id: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        if topology.kind == "cluster" and mechanism == "indexed" and "{" not in prefix:
            pytest.fail("the prefix has to choose the slot")
        source.add_schedule(schedule(schedule_id))
        assert ids(source.get_schedules()) == [schedule_id]
        source.delete_schedule(schedule_id)
        assert source.get_schedules() == []


@BOTH
def test_prefix_is_not_treated_as_a_pattern(topology: Topology, name: str, mechanism: str) -> None:
    prefix, other = f"{{{name}}}[a-z]*", f"{{{name}}}bc"
    with opened(topology, mechanism, prefix=prefix) as source:
        with opened(topology, mechanism, prefix=other) as second:
            second.add_schedule(schedule("other"))
            source.add_schedule(schedule("mine"))
            assert ids(source.get_all_schedules()) == ["mine"]


def test_only_schedules_that_are_due_soon_are_read(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:
        for name, time in {"past": PAST, "soon": soon(), "future": FUTURE}.items():
            source.add_schedule(schedule(name, time=time))
        assert ids(source.get_schedules()) == ["past", "soon"]
        assert ids(source.get_all_schedules()) == ["future", "past", "soon"]


def test_past_schedules_can_be_skipped(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix, skip_past_schedules=True) as source:
        source.add_schedule(schedule("past", time=PAST))
        source.add_schedule(schedule("soon", time=soon()))
        assert ids(source.get_schedules()) == ["soon"]


def test_schedules_of_older_version_are_found(topology: Topology, prefix: str) -> None:
    write_like_older_version(topology, prefix, schedule("early", time=PAST))
    with opened(topology, "indexed", prefix=prefix) as source:
        source.startup()
        assert ids(source.get_schedules()) == ["early"]
        # A schedule that it adds later is found when it is due.
        write_like_older_version(topology, prefix, schedule("late", time=soon()))
        assert ids(source.get_schedules()) == ["early", "late"]
        for schedule_id in ("early", "late"):
            source.delete_schedule(schedule_id)
        assert source.get_schedules() == []
    assert keys_of(topology, f"*{prefix}*") == []


def test_late_schedule_of_older_version_is_found(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:
        assert source.get_schedules() == []
        # Its clock is slow, or it began before the read above and finished after it.
        just_over = datetime.now(timezone.utc) - timedelta(minutes=1)
        write_like_older_version(topology, prefix, schedule("late", time=just_over))
        assert ids(source.get_schedules()) == ["late"]
        source.delete_schedule("late")


def test_schedule_of_older_version_added_during_a_long_pause_is_found(
    topology: Topology, prefix: str
) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:
        assert source.get_schedules() == []
        source._last_read = datetime.now(timezone.utc) - timedelta(hours=9)
        write_like_older_version(topology, prefix, schedule("missed", time=PAST))
        assert ids(source.get_schedules()) == ["missed"]
        source.delete_schedule("missed")


def test_clock_set_back_hides_no_schedule_of_older_version(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:
        assert source.get_schedules() == []
        source._last_read = datetime.now(timezone.utc) + timedelta(days=1)
        write_like_older_version(topology, prefix, schedule("soon", time=soon()))
        assert ids(source.get_schedules()) == ["soon"]
        source.delete_schedule("soon")


def write_like_older_version(topology: Topology, prefix: str, task: ScheduledTask) -> None:
    """Store a one-off schedule as older versions do, without the index of minutes."""
    with opened(topology, "indexed", prefix=f"{prefix}:scratch") as scratch:
        scratch.add_schedule(task)
    client = redis_of(topology)
    (minute,) = keys_of(topology, f"{prefix}:scratch:time:*")
    client.set(f"{prefix}:data:{task.schedule_id}", client.get(scratch_data(prefix, task)))
    client.rpush(minute.replace(":scratch", ""), task.schedule_id)
    for key in keys_of(topology, f"*{prefix}:scratch*"):
        client.delete(key)


def scratch_data(prefix: str, task: ScheduledTask) -> str:
    """Return the key of the schedule that is written to be copied."""
    return f"{prefix}:scratch:data:{task.schedule_id}"


def test_stale_index_entries_of_older_version_are_ignored(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedule(schedule("a"))
        redis_of(topology).rpush(f"{prefix}:cron", "a", "gone")
        redis_of(topology).rpush(f"{prefix}:interval", "a")
        assert ids(source.get_schedules()) == ["a"]


def test_concurrent_writers_leave_one_schedule(topology: Topology, prefix: str) -> None:
    with opened(topology, "indexed", prefix=prefix) as source:

        def writes(number: int) -> Any:
            when = {"interval": number + 1} if number % 2 else {"time": FUTURE + timedelta(number)}
            return lambda: source.add_schedule(schedule(**when))

        together(*(writes(number) for number in range(20)))
        assert ids(source.get_all_schedules()) == ["id"]
        source.delete_schedule("id")
    assert keys_of(topology, f"*{prefix}*") == []


def test_list_key_of_another_type_keeps_no_schedule_from_being_sent(
    topology: Topology, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(f"{prefix}:cron", "a string")
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedules([schedule(), schedule("other", interval=5)])
        for _ in range(2):
            assert ids(source.get_schedules()) == ["id", "other"]
        assert caplog.text.count(f"'{prefix}:cron'") == 1
        source.clear(all=True)
    assert redis_of(topology).get(f"{prefix}:cron") == b"a string"


@BOTH
def test_data_key_of_another_type_is_reported_and_hides_no_other_schedule(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedules([schedule("bad"), schedule("good")])
        (key,) = keys_of(topology, f"*{prefix}*:bad")
        redis_of(topology).delete(key)
        redis_of(topology).rpush(key, "a list")
        assert ids(source.get_schedules()) == ["good"]
        with pytest.raises(WrongKeyTypeError, match="bad"):
            source.add_schedule(schedule("bad"))
        with pytest.raises(WrongKeyTypeError, match="bad"):
            source.delete_schedule("bad")
        assert redis_of(topology).lrange(key, 0, -1) == [b"a list"]


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("old", ["keys", "indexed"])
def test_schedules_migrate_from_another_source(
    topology: Topology, prefix: str, old: str, delete: bool
) -> None:
    schedules = {
        "cron": schedule("cron"),
        "interval": schedule("interval", interval=5),
        "past": schedule("past", time=PAST),
        "future": schedule("future", time=FUTURE),
    }
    previous = build(topology, old, prefix=f"{prefix}:old")
    for task in schedules.values():
        previous.add_schedule(task)
    source = build(topology, "indexed", prefix=f"{prefix}:new")
    with opened(topology, old, prefix=f"{prefix}:old") as old_source:
        source.with_migrate_from(previous, delete_schedules=delete).startup()
        assert ids(source.get_all_schedules()) == sorted(schedules)
        assert ids(old_source.get_all_schedules()) == ([] if delete else sorted(schedules))
    source.shutdown()


def test_both_kinds_of_source_may_share_a_prefix(topology: Topology, prefix: str) -> None:
    with opened(topology, "keys", prefix=prefix) as one:
        with opened(topology, "indexed", prefix=prefix) as other:
            one.add_schedule(schedule("one"))
            other.add_schedule(schedule("other", time=PAST))
            assert ids(one.get_schedules()) == ["one"]
            assert ids(other.get_schedules()) == ["other"]
