"""Signed results, progress and schedules: nothing can be changed, or moved to another key."""

from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis import Signer
from taskiq_redis.exceptions import ResultDecodeError, ScheduleDecodeError
from tests._async.migrations import Foreign, migrate
from tests._async.schedules import BOTH, FUTURE, PAST, ids, schedule
from tests._async.signers import NEW, OLD, SIGNER, STRANGER, is_signed
from tests._async.support import opened, redis_of, result
from tests.servers import Topology

pytestmark = pytest.mark.anyio

PROGRESS: TaskProgress[Any] = TaskProgress(state="half", meta=5)


async def test_results_and_progress_are_signed_and_read(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    async with opened(topology, "results", prefix_str=name) as backend:
        assert backend.with_signer(SIGNER) is backend
        await backend.set_result("a", result(1))
        await backend.set_result("b", result(object()))
        await backend.set_progress("a", PROGRESS)
        for key in ("a", "b", "a__progress"):
            assert is_signed(client.get(f"{name}:{key}"))
        assert (await backend.get_result("a")).return_value == 1
        assert "can't be serialized" in str((await backend.get_result("b")).error)
        assert await backend.get_progress("a") == PROGRESS
        assert set(await backend.get_results(["a", "b", "c"])) == {"a", "b"}
        assert set(await backend.wait_results(["b", "a"], timeout=60)) == {"a", "b"}


async def test_result_and_progress_can_not_be_exchanged_or_moved(
    topology: Topology, name: str
) -> None:
    client = redis_of(topology)
    async with opened(topology, "results", prefix_str=name, keep_results=False) as backend:
        await backend.with_signer(SIGNER).set_result("a", result(1))
        await backend.set_progress("a", PROGRESS)
        stored, progress = client.get(f"{name}:a"), client.get(f"{name}:a__progress")
        wrong = r"can't be decoded as a result: its signature is wrong: .* It was not deleted"
        # A result is not valid for another task, and a progress not as a result.
        for value in (stored, progress, stored[:-1], stored[:30]):
            client.set(f"{name}:b", value)
            for read in (backend.get_result, partial(backend.wait_result, timeout=60)):
                with pytest.raises(ResultDecodeError, match=wrong):
                    await read("b")
            assert client.get(f"{name}:b") == value
        client.set(f"{name}:a__progress", stored)
        with pytest.raises(ResultDecodeError, match="as a progress: its signature is wrong"):
            await backend.get_progress("a")
        client.set(f"{name}:b__progress", progress)
        with pytest.raises(ResultDecodeError, match="as a progress: its signature is wrong"):
            await backend.get_progress("b")
        assert (await backend.get_result("a")).return_value == 1


async def test_reader_says_why_it_refuses_a_result(topology: Topology, name: str) -> None:
    async with opened(topology, "results", prefix_str=name) as backend:
        await backend.set_result("a", result(1))
        await backend.set_progress("a", PROGRESS)
        backend.with_signer(SIGNER)
        with pytest.raises(ResultDecodeError, match="it is not signed, and `accept_unsigned` is"):
            await backend.get_result("a")
        with pytest.raises(ResultDecodeError, match="it is not signed, and `accept_unsigned` is"):
            await backend.get_progress("a")
        backend.with_signer(Signer(OLD, accept_unsigned=True))
        assert (await backend.get_result("a")).return_value == 1
        assert await backend.get_progress("a") == PROGRESS
        await backend.set_result("a", result(2))
        await backend.set_progress("a", PROGRESS)
        backend.with_signer(STRANGER)
        with pytest.raises(ResultDecodeError, match="with the key 'old', which is unknown here"):
            await backend.get_result("a")
    async with opened(topology, "results", prefix_str=name) as backend:
        for read in (backend.get_result, backend.get_progress):
            with pytest.raises(ResultDecodeError, match=r"signer here: call `with_signer\(\)`"):
                await read("a")


@BOTH
async def test_schedules_are_signed_and_sent(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        assert source.with_signer(SIGNER) is source
        await source.add_schedules([schedule("cron"), schedule("once", time=PAST)])
        assert is_signed(redis_of(topology).get(source._data_key("once")))
        due = {task.schedule_id: task for task in await source.get_schedules()}
        assert sorted(due) == ["cron", "once"]
        await source.pre_send(due["once"])
        await source.post_send(due["once"])
        assert ids(await source.get_all_schedules()) == ["cron"]
        # The stored schedule is found to be unchanged, with its signature.
        await source.add_schedule(schedule("once", time=FUTURE))
        assert await source.pause_schedule("once")
        assert await source.resume_schedule("once")
        assert await source.delete_schedule("once")
        assert await source.get_schedule("cron") == schedule("cron")


@BOTH
async def test_schedule_that_does_not_verify_is_skipped_and_logged_once(
    topology: Topology, prefix: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis_of(topology)
    async with opened(topology, mechanism, prefix=prefix) as source:
        names = ["good", "moved", "unsigned", "stranger", "truncated"]
        source.with_signer(SIGNER)
        await source.add_schedules([schedule(each) for each in names])
        keys = {each: source._data_key(each) for each in names}
        raw = client.get(keys["unsigned"])
        client.set(keys["unsigned"], SIGNER.verify("schedule", keys["unsigned"], raw))
        # A valid signature of the same schedule, but of another key.
        client.set(keys["moved"], client.get(keys["good"]))
        client.set(keys["stranger"], STRANGER.sign("schedule", keys["stranger"], b"x"))
        client.set(keys["truncated"], client.get(keys["truncated"])[:-1])
        for _ in range(2):
            assert ids(await source.get_schedules()) == ["good"]
            assert ids(await source.get_all_schedules()) == ["good"]
        with pytest.raises(ScheduleDecodeError, match="as a schedule: its signature is wrong"):
            await source.get_schedule("moved")
        for each in names[1:]:
            assert caplog.text.count(f"The schedule in the key {keys[each]!r} is skipped") == 1
        # It can be replaced and deleted.
        await source.add_schedule(schedule("moved"))
        assert await source.delete_schedule("stranger")
        assert ids(await source.get_all_schedules()) == ["good", "moved"]
    async with opened(topology, mechanism, prefix=prefix) as source:
        assert ids(await source.get_all_schedules()) == ["unsigned"]
    assert caplog.text.count("call `with_signer()`") == 3


@BOTH
async def test_unsigned_schedules_are_sent_while_signing_is_introduced(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule("before"))
        await source.with_signer(Signer(OLD, accept_unsigned=True)).add_schedule(schedule("after"))
        assert ids(await source.get_schedules()) == ["after", "before"]
        assert is_signed(redis_of(topology).get(source._data_key("after")))


@pytest.mark.parametrize("old", ["keys", "indexed", "foreign"])
async def test_migration_signs_schedules_for_their_new_keys(
    topology: Topology, prefix: str, old: str
) -> None:
    before = f"{prefix}:old"
    if old == "foreign":
        source: Any = Foreign([schedule("a"), schedule("b", time=FUTURE)])
    else:
        async with opened(topology, old, prefix=before) as writer:
            writer.with_signer(STRANGER)
            await writer.add_schedules([schedule("a"), schedule("b", time=FUTURE)])
    async with opened(topology, "keys" if old == "foreign" else old, prefix=before) as opened_old:
        if old != "foreign":
            source = opened_old.with_signer(Signer(NEW))
        async with opened(topology, "indexed", prefix=prefix) as target:
            target.with_signer(SIGNER)
            await target.with_migrate_from(source).startup()
            assert ids(await target.get_all_schedules()) == ["a", "b"]
            for each in ("a", "b"):
                assert is_signed(redis_of(topology).get(target._data_key(each)))


async def test_migration_leaves_schedules_that_do_not_verify(
    topology: Topology, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "keys", prefix=f"{prefix}:old") as source:
        await source.add_schedules([schedule("good"), schedule("forged")])
        key = source._data_key("forged")
        await source.with_signer(SIGNER).add_schedule(schedule("good"))
        await migrate(topology, prefix, source)
        assert "it is not signed" in caplog.text
        assert redis_of(topology).exists(key)
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert ids(await target.get_all_schedules()) == ["good"]
