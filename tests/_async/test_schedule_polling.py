"""Indexed sources read only what changed, and find what taskiq-redis 1.2.4 writes."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.schedules import due_reader
from taskiq_redis._core.schedules import due_ms
from taskiq_redis.exceptions import WrongKeyTypeError
from tests._async.schedules import FUTURE, PAST, ids, schedule, soon
from tests._async.support import opened, redis_of
from tests.servers import Topology, keys_of

pytestmark = pytest.mark.anyio


class OldWriter:
    """Writes what taskiq-redis 1.2.4 writes."""

    def __init__(self, topology: Topology, source: Any) -> None:
        self._client = redis_of(topology)
        self._source = source
        self._prefix = source.prefix

    def list_of(self, task: ScheduledTask) -> str:
        """Return the key of the list that has the ID of a schedule."""
        if task.cron is not None:
            return f"{self._prefix}:cron"
        if task.time is None:
            return f"{self._prefix}:interval"
        return f"{self._prefix}:time:{task.time.astimezone(timezone.utc):%Y-%m-%dT%H:%M}"

    def add(self, task: ScheduledTask) -> None:
        data = self._source.serializer.dumpb(task.model_dump(mode="json"))
        self._client.set(f"{self._prefix}:data:{task.schedule_id}", data)
        self._client.rpush(self.list_of(task), task.schedule_id)

    def delete(self, task: ScheduledTask) -> None:
        self._client.getdel(f"{self._prefix}:data:{task.schedule_id}")
        self._client.lrem(self.list_of(task), 0, task.schedule_id)

    def read(self, *lists: str) -> list[str]:
        """Return the IDs that it finds in lists."""
        found = [each.decode() for key in lists for each in self._client.lrange(key, 0, -1)]
        return [each for each in found if self._client.exists(f"{self._prefix}:data:{each}")]


def reads(monkeypatch: pytest.MonkeyPatch, source: Any) -> list[str]:
    """Return a list that gets the keys that are read."""
    seen: list[str] = []
    original = source._get

    async def get(keys: Any) -> Any:
        seen.extend(key.rpartition(":")[2] for key in keys)
        return await original(keys)

    monkeypatch.setattr(source, "_get", get)
    return seen


async def test_only_changed_schedules_are_read_again(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        async with opened(topology, "indexed", prefix=prefix) as writer:
            await writer.add_schedules([schedule(str(number)) for number in range(30)])
            await writer.add_schedules([schedule("far", time=FUTURE), schedule("due", time=PAST)])
            seen = reads(monkeypatch, source)
            everything = sorted([*map(str, range(30)), "due"])
            assert ids(await source.get_schedules()) == everything
            assert sorted(seen) == everything
            seen.clear()
            assert ids(await source.get_schedules()) == everything
            assert seen == []
            await writer.add_schedules([schedule("7", interval=5), schedule("new")])
            await writer.delete_schedule("8")
            await writer.add_schedule(schedule("due", time=PAST + timedelta(hours=1)))
            found = {each.schedule_id: each for each in await source.get_schedules()}
            assert found["7"].interval == 5
            assert found["due"].time == PAST + timedelta(hours=1)
            assert found.keys() == {*everything, "new"} - {"8"}
            assert sorted(seen) == ["7", "due", "new"]


async def test_more_changes_than_are_remembered_are_all_seen(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule("first"))
        assert ids(await source.get_schedules()) == ["first"]
        async with opened(topology, "indexed", prefix=prefix) as writer:
            await writer.delete_schedule("first")
            many = [schedule(f"{number:04}") for number in range(1050)]
            await writer.add_schedules(many)
        assert await source.get_schedules() == many
        assert redis_of(topology).llen(source._keys.changes) == 1000


async def test_flushall_is_noticed(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules([schedule("a"), schedule("b")])
        assert ids(await source.get_schedules()) == ["a", "b"]
        for key in keys_of(topology, f"*{prefix}*"):
            redis_of(topology).delete(key)
        # As many changes as before.
        await source.add_schedules([schedule("c"), schedule("d")])
        assert ids(await source.get_schedules()) == ["c", "d"]


async def test_everything_is_read_again_from_time_to_time(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule("a"))
        assert ids(await source.get_schedules()) == ["a"]
        other = schedule("a", cron="1 1 1 1 1")
        raw = source.serializer.dumpb(other.model_dump(mode="json"))
        redis_of(topology).set(f"{prefix}:data:a", raw)
        assert await source.get_schedules() == [schedule("a")]
        monkeypatch.setattr(due_reader, "COMPLETE_READ", 0.0)
        assert await source.get_schedules() == [other]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("kind", ["cron", "interval", "time"])
async def test_schedules_of_older_version_are_found_at_the_next_read(
    topology: Topology, prefix: str, kind: str, existing: bool
) -> None:
    when: dict[str, Any] = {kind: {"cron": "* * * * *", "interval": 5, "time": soon()}[kind]}
    async with opened(topology, "indexed", prefix=prefix) as source:
        old = OldWriter(topology, source)
        if existing:
            await source.add_schedules([schedule("ours", **when), schedule("more", **when)])
        ours = ["more", "ours"] if existing else []
        assert ids(await source.get_schedules()) == ours
        old.add(schedule("b", **when))
        assert ids(await source.get_schedules()) == sorted(["b", *ours])
        old.add(schedule("c", **when))
        await source.add_schedule(schedule("d", **when))
        assert ids(await source.get_schedules()) == sorted(["b", "c", "d", *ours])
        # As many were added as deleted.
        old.delete(schedule("c", **when))
        old.add(schedule("e", **when))
        assert ids(await source.get_schedules()) == sorted(["b", "d", "e", *ours])
        old.delete(schedule("e", **when))
        assert ids(await source.get_schedules()) == sorted(["b", "d", *ours])
        assert await source.count() == 2 + len(ours)


async def test_overdue_schedule_of_older_version_is_found_while_a_scheduler_is_running(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_reader, "COMPLETE_READ", 0.0)
    async with opened(topology, "indexed", prefix=prefix) as source:
        assert await source.get_schedules() == []
        OldWriter(topology, source).add(schedule("late", time=PAST))
        assert ids(await source.get_schedules()) == ["late"]


async def test_replacement_by_older_version_is_found(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules([schedule("a"), schedule("b")])
        assert ids(await source.get_schedules()) == ["a", "b"]
        OldWriter(topology, source).add(schedule("a", interval=5))
        found = {each.schedule_id: each for each in await source.get_schedules()}
        assert found == {"a": schedule("a", interval=5), "b": schedule("b")}
        OldWriter(topology, source).add(schedule("a", time=FUTURE))
        assert await source.get_all_schedules() == [schedule("a", time=FUTURE), schedule("b")]
        assert ids(await source.get_schedules()) == ["b"]


@pytest.mark.parametrize("kind", ["cron", "interval", "time"])
async def test_replacement_by_older_version_that_is_due_earlier_is_found(
    topology: Topology, prefix: str, kind: str
) -> None:
    when: dict[str, Any] = {kind: {"cron": "* * * * *", "interval": 5, "time": soon()}[kind]}
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule("a", time=FUTURE))
        assert await source.get_schedules() == []
        OldWriter(topology, source).add(schedule("a", **when))
        assert await source.get_schedules() == [schedule("a", **when)]


async def test_rest_of_a_former_schedule_in_a_list_changes_no_due_time(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix, skip_past_schedules=True) as source:
        later, over = schedule("a", time=soon()), datetime.now(timezone.utc) - timedelta(minutes=2)
        await source.add_schedules([schedule("a"), schedule("b"), schedule("b", time=FUTURE)])
        await source.add_schedules([schedule("a", time=over), later])
        old = OldWriter(topology, source)
        for task in (schedule("c"), schedule("d", time=over)):
            old.add(task)
        await source.get_schedules()
        assert ids(await source.get_schedules()) == ["a", "c"]
        scores = dict(redis_of(topology).zrange(source._keys.due, 0, -1, withscores=True))
        assert scores[b"a"] == due_ms(later)
        assert scores[b"b"] == due_ms(schedule("b", time=FUTURE))


async def test_schedule_stays_paused_when_older_version_adds_others(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules([schedule("a"), schedule("b")])
        assert await source.pause_schedule("a")
        OldWriter(topology, source).add(schedule("c"))
        assert ids(await source.get_schedules()) == ["b", "c"]


async def test_schedule_that_older_version_deleted_is_listed_for_it_again(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        old, far = OldWriter(topology, source), schedule("a", time=FUTURE)
        await source.add_schedules([schedule("b", time=FUTURE), far])
        old.delete(far)
        await source.add_schedules([far, schedule("b", time=FUTURE)])
        assert old.read(old.list_of(far)) == ["b", "a"]


async def test_list_in_which_older_version_replaced_ids_is_read_again(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        old, far = OldWriter(topology, source), {"time": FUTURE}
        await source.add_schedules([schedule("a", **far), schedule("b", **far)])
        for schedule_id in ("a", "b"):
            old.delete(schedule(schedule_id, **far))
        for schedule_id in ("c", "b"):
            old.add(schedule(schedule_id, **far))
        assert ids(await source.get_all_schedules()) == ["b", "c"]


async def test_all_schedules_include_later_ones_of_older_version(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        assert await source.get_all_schedules() == []
        OldWriter(topology, source).add(schedule("far", time=FUTURE))
        assert ids(await source.get_all_schedules()) == ["far"]
        assert await source.count() == 1
        assert await source.pause_schedule("far") is True
        OldWriter(topology, source).add(schedule("farther", time=FUTURE + timedelta(days=1)))
        assert await source.pause_schedule("farther") is True
        assert await source.delete_schedule("farther") is True
        assert await source.clear(all=True) == 1


async def test_older_version_finds_what_is_stored(topology: Topology, prefix: str) -> None:
    minute = f"{prefix}:time:{FUTURE:%Y-%m-%dT%H:%M}"
    async with opened(topology, "indexed", prefix=prefix) as source:
        old = OldWriter(topology, source)
        await source.add_schedules(
            [
                schedule("cron"),
                schedule("interval", interval=5),
                schedule("once", time=FUTURE),
                schedule("changed", interval=5),
                schedule("deleted"),
                schedule("deleted once", time=FUTURE),
            ]
        )
        await source.add_schedule(schedule("changed"))
        await source.delete_schedule("deleted")
        await source.delete_schedule("deleted once")
        assert sorted(old.read(f"{prefix}:cron")) == ["changed", "cron"]
        assert "interval" in old.read(f"{prefix}:interval")
        assert old.read(minute) == ["once"]


async def test_lists_for_older_version_are_pruned(topology: Topology, prefix: str) -> None:
    client = redis_of(topology)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule("kept"))
        for number in range(150):
            await source.add_schedule(schedule(f"{number}"))
        for number in range(150):
            await source.delete_schedule(f"{number}")
        assert client.llen(f"{prefix}:cron") == 151
        assert ids(await source.get_schedules()) == ["kept"]
        assert client.lrange(f"{prefix}:cron", 0, -1) == [b"kept"]
        # Replacing adds an ID again.
        for number in range(100):
            await source.add_schedule(schedule("kept", cron=f"{number % 60} * * * *"))
            await source.add_schedule(schedule("other", cron=f"{number % 60} * * * *"))
        await source.get_schedules()
        assert client.llen(f"{prefix}:cron") < 100
        assert set(OldWriter(topology, source).read(f"{prefix}:cron")) == {"kept", "other"}


async def test_lists_of_past_minutes_are_deleted_when_their_schedules_were_sent(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules(
            [schedule("a", time=PAST), schedule("b", time=PAST), schedule("c", time=FUTURE)]
        )
        due = {each.schedule_id: each for each in await source.get_schedules()}
        assert due.keys() == {"a", "b"}
        await source.post_send(due["a"])
        source._reader._pruned_at = None
        await source.get_schedules()
        minute = f"{prefix}:time:{PAST:%Y-%m-%dT%H:%M}"
        assert redis_of(topology).exists(minute)
        await source.post_send(due["b"])
        source._reader._pruned_at = None
        await source.get_schedules()
        assert not redis_of(topology).exists(minute)
        assert redis_of(topology).exists(f"{prefix}:time:{FUTURE:%Y-%m-%dT%H:%M}")


async def test_skipped_schedules_do_not_keep_later_lists_from_being_deleted(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix, skip_past_schedules=True) as source:
        last = datetime.now(timezone.utc) - timedelta(minutes=5)
        times = [last - timedelta(minutes=number) for number in range(505)]
        await source.add_schedules([schedule(f"{time}", time=time) for time in times])
        await source.delete_schedule(f"{last}")
        assert await source.get_schedules() == []
        assert redis_of(topology).zcard(source._keys.minutes) == 504


async def test_ids_without_a_schedule_are_forgotten(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules(
            [schedule("a"), schedule("b"), schedule("c", time=PAST), schedule("d", time=FUTURE)]
        )
        for gone in ("a", "c"):
            redis_of(topology).delete(f"{prefix}:data:{gone}")
        assert ids(await source.get_schedules()) == ["b"]
        assert await source.count() == 2
        assert ids(await source.get_all_schedules()) == ["b", "d"]


async def test_wrong_due_time_in_the_index_is_corrected(topology: Topology, prefix: str) -> None:
    client = redis_of(topology)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules([schedule("a"), schedule("b", time=FUTURE)])
        due = source._keys.due
        client.zadd(due, {"a": 5, "b": 7})
        assert ids(await source.get_schedules()) == ["a"]
        assert client.zscore(due, "a") == 0
        assert client.zscore(due, "b") == int(FUTURE.timestamp() * 1000)


async def test_index_key_of_another_type_is_reported(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        for key in (source._keys.due, source._keys.meta, source._keys.changes):
            redis_of(topology).set(key, "a string")
            with pytest.raises(WrongKeyTypeError, match="is a string"):
                await source.add_schedule(schedule())
            with pytest.raises(WrongKeyTypeError):
                await source.get_schedules()
            redis_of(topology).delete(key)
        await source.add_schedule(schedule())
        assert ids(await source.get_schedules()) == ["id"]
        # What was read before stays known.
        redis_of(topology).delete(source._keys.due)
        redis_of(topology).set(source._keys.due, "a string")
        assert ids(await source.get_schedules()) == ["id"]


async def test_skipped_past_schedules_are_those_before_the_first_read(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "indexed", prefix=prefix, skip_past_schedules=True) as source:
        await source.add_schedule(schedule("past", time=PAST))
        assert await source.get_schedules() == []
        await source.add_schedule(schedule("now", time=datetime.now(timezone.utc)))
        assert ids(await source.get_schedules()) == ["now"]
