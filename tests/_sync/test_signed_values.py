# Generated from tests/_async/test_signed_values.py by scripts/unasync.py; edit that.

"""Signed results, progress and schedules: nothing can be changed, or moved to another key."""

from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis import Signer
from taskiq_redis.exceptions import ResultDecodeError, ScheduleDecodeError
from tests._sync.migrations import Foreign, migrate
from tests._sync.schedules import BOTH, FUTURE, PAST, ids, schedule
from tests._sync.signers import NEW, OLD, SIGNER, STRANGER, is_signed
from tests._sync.support import opened, redis_of, result
from tests.servers import Topology

PROGRESS: TaskProgress[Any] = TaskProgress(state="half", meta=5)


def test_results_and_progress_are_signed_and_read(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    with opened(topology, "results", prefix_str=name) as backend:
        assert backend.with_signer(SIGNER) is backend
        backend.set_result("a", result(1))
        backend.set_result("b", result(object()))
        backend.set_progress("a", PROGRESS)
        for key in ("a", "b", "a__progress"):
            assert is_signed(client.get(f"{name}:{key}"))
        assert backend.get_result("a").return_value == 1
        assert "can't be serialized" in str(backend.get_result("b").error)
        assert backend.get_progress("a") == PROGRESS
        assert set(backend.get_results(["a", "b", "c"])) == {"a", "b"}
        assert set(backend.wait_results(["b", "a"], timeout=60)) == {"a", "b"}


def test_result_and_progress_can_not_be_exchanged_or_moved(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    with opened(topology, "results", prefix_str=name, keep_results=False) as backend:
        backend.with_signer(SIGNER).set_result("a", result(1))
        backend.set_progress("a", PROGRESS)
        stored, progress = client.get(f"{name}:a"), client.get(f"{name}:a__progress")
        wrong = r"can't be decoded as a result: its signature is wrong: .* It was not deleted"
        # A result is not valid for another task, and a progress not as a result.
        for value in (stored, progress, stored[:-1], stored[:30]):
            client.set(f"{name}:b", value)
            for read in (backend.get_result, partial(backend.wait_result, timeout=60)):
                with pytest.raises(ResultDecodeError, match=wrong):
                    read("b")
            assert client.get(f"{name}:b") == value
        client.set(f"{name}:a__progress", stored)
        with pytest.raises(ResultDecodeError, match="as a progress: its signature is wrong"):
            backend.get_progress("a")
        client.set(f"{name}:b__progress", progress)
        with pytest.raises(ResultDecodeError, match="as a progress: its signature is wrong"):
            backend.get_progress("b")
        assert backend.get_result("a").return_value == 1


def test_reader_says_why_it_refuses_a_result(topology: Topology, name: str) -> None:
    with opened(topology, "results", prefix_str=name) as backend:
        backend.set_result("a", result(1))
        backend.set_progress("a", PROGRESS)
        backend.with_signer(SIGNER)
        with pytest.raises(ResultDecodeError, match="it is not signed, and `accept_unsigned` is"):
            backend.get_result("a")
        with pytest.raises(ResultDecodeError, match="it is not signed, and `accept_unsigned` is"):
            backend.get_progress("a")
        backend.with_signer(Signer(OLD, accept_unsigned=True))
        assert backend.get_result("a").return_value == 1
        assert backend.get_progress("a") == PROGRESS
        backend.set_result("a", result(2))
        backend.set_progress("a", PROGRESS)
        backend.with_signer(STRANGER)
        with pytest.raises(ResultDecodeError, match="with the key 'old', which is unknown here"):
            backend.get_result("a")
    with opened(topology, "results", prefix_str=name) as backend:
        for read in (backend.get_result, backend.get_progress):
            with pytest.raises(ResultDecodeError, match=r"signer here: call `with_signer\(\)`"):
                read("a")


@BOTH
def test_schedules_are_signed_and_sent(topology: Topology, prefix: str, mechanism: str) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        assert source.with_signer(SIGNER) is source
        source.add_schedules([schedule("cron"), schedule("once", time=PAST)])
        assert is_signed(redis_of(topology).get(source._data_key("once")))
        due = {task.schedule_id: task for task in source.get_schedules()}
        assert sorted(due) == ["cron", "once"]
        source.pre_send(due["once"])
        source.post_send(due["once"])
        assert ids(source.get_all_schedules()) == ["cron"]
        # The stored schedule is found to be unchanged, with its signature.
        source.add_schedule(schedule("once", time=FUTURE))
        assert source.pause_schedule("once")
        assert source.resume_schedule("once")
        assert source.delete_schedule("once")
        assert source.get_schedule("cron") == schedule("cron")


@BOTH
def test_schedule_that_does_not_verify_is_skipped_and_logged_once(
    topology: Topology, prefix: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis_of(topology)
    with opened(topology, mechanism, prefix=prefix) as source:
        names = ["good", "moved", "unsigned", "stranger", "truncated"]
        source.with_signer(SIGNER)
        source.add_schedules([schedule(each) for each in names])
        keys = {each: source._data_key(each) for each in names}
        raw = client.get(keys["unsigned"])
        client.set(keys["unsigned"], SIGNER.verify("schedule", keys["unsigned"], raw))
        # A valid signature of the same schedule, but of another key.
        client.set(keys["moved"], client.get(keys["good"]))
        client.set(keys["stranger"], STRANGER.sign("schedule", keys["stranger"], b"x"))
        client.set(keys["truncated"], client.get(keys["truncated"])[:-1])
        for _ in range(2):
            assert ids(source.get_schedules()) == ["good"]
            assert ids(source.get_all_schedules()) == ["good"]
        with pytest.raises(ScheduleDecodeError, match="as a schedule: its signature is wrong"):
            source.get_schedule("moved")
        for each in names[1:]:
            assert caplog.text.count(f"The schedule in the key {keys[each]!r} is skipped") == 1
        # It can be replaced and deleted.
        source.add_schedule(schedule("moved"))
        assert source.delete_schedule("stranger")
        assert ids(source.get_all_schedules()) == ["good", "moved"]
    with opened(topology, mechanism, prefix=prefix) as source:
        assert ids(source.get_all_schedules()) == ["unsigned"]
    assert caplog.text.count("call `with_signer()`") == 3


@BOTH
def test_unsigned_schedules_are_sent_while_signing_is_introduced(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule("before"))
        source.with_signer(Signer(OLD, accept_unsigned=True)).add_schedule(schedule("after"))
        assert ids(source.get_schedules()) == ["after", "before"]
        assert is_signed(redis_of(topology).get(source._data_key("after")))


@pytest.mark.parametrize("old", ["keys", "indexed", "foreign"])
def test_migration_signs_schedules_for_their_new_keys(
    topology: Topology, prefix: str, old: str
) -> None:
    before = f"{prefix}:old"
    if old == "foreign":
        source: Any = Foreign([schedule("a"), schedule("b", time=FUTURE)])
    else:
        with opened(topology, old, prefix=before) as writer:
            writer.with_signer(STRANGER)
            writer.add_schedules([schedule("a"), schedule("b", time=FUTURE)])
    with opened(topology, "keys" if old == "foreign" else old, prefix=before) as opened_old:
        if old != "foreign":
            source = opened_old.with_signer(Signer(NEW))
        with opened(topology, "indexed", prefix=prefix) as target:
            target.with_signer(SIGNER)
            target.with_migrate_from(source).startup()
            assert ids(target.get_all_schedules()) == ["a", "b"]
            for each in ("a", "b"):
                assert is_signed(redis_of(topology).get(target._data_key(each)))


def test_migration_leaves_schedules_that_do_not_verify(
    topology: Topology, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(topology, "keys", prefix=f"{prefix}:old") as source:
        source.add_schedules([schedule("good"), schedule("forged")])
        key = source._data_key("forged")
        source.with_signer(SIGNER).add_schedule(schedule("good"))
        migrate(topology, prefix, source)
        assert "it is not signed" in caplog.text
        assert redis_of(topology).exists(key)
    with opened(topology, "indexed", prefix=prefix) as target:
        assert ids(target.get_all_schedules()) == ["good"]
