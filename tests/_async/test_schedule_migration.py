"""Migration of schedules into an indexed source, also if it is cut off or killed."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import pytest

from taskiq_redis._async.schedules import claims, migration
from taskiq_redis.exceptions import InvalidOptionError, ServerUnavailableError, TaskIQRedisError
from tests._aio import together
from tests._async.migrations import (
    ALL,
    DELETE_OR_KEEP,
    OLD_KINDS,
    ON_ONE,
    SCHEDULES,
    AnotherForeign,
    Foreign,
    ids_in,
    migrate,
    read_ids,
    schedule,
    send_past,
)
from tests._async.network import Network, build_network
from tests._async.support import build, opened, redis_of
from tests.servers import Topology

pytestmark = pytest.mark.anyio


@pytest.fixture
def prefix(name: str) -> str:
    """A prefix whose keys share a slot."""
    return f"{{{name}}}:app"


@pytest.fixture
def network(topology: Topology, name: str) -> Iterator[Network]:
    """Proxies in front of the servers, which can cut off commands."""
    with build_network(topology, name) as network:
        yield network


# --- One process


@DELETE_OR_KEEP
@OLD_KINDS
async def test_migrated_schedules_are_as_before_in_batches(
    topology: Topology,
    prefix: str,
    old: str,
    delete: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(migration, "BATCH", 2)
    caplog.set_level(logging.INFO, "taskiq_redis")
    async with opened(topology, old, prefix=f"{prefix}:old") as previous:
        await previous.add_schedules(SCHEDULES)
        await previous.pause_schedule("paused")
        source = build(topology, old, prefix=f"{prefix}:old")
        await migrate(topology, prefix, source, delete)
        assert await ids_in(previous) == ([] if delete else ALL)
    for done in (2, 4, 5):
        assert f"Migrated {done} of 5 schedules" in caplog.text
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert sorted(await target.get_all_schedules(), key=str) == sorted(SCHEDULES, key=str)
        assert await read_ids(target) == ["cron", "interval", "past"]
        # A paused one is still paused.
        assert await target.resume_schedule("paused")
        assert await read_ids(target) == ["cron", "interval", "past", "paused"]


async def test_both_kinds_of_source_may_share_a_prefix_when_migrating(
    topology: Topology, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "keys", prefix=prefix) as previous:
        await previous.add_schedules(SCHEDULES)
        for _ in range(2):
            await migrate(topology, prefix, build(topology, "keys", prefix=prefix))
            assert await ids_in(previous) == []
            async with opened(topology, "indexed", prefix=prefix) as target:
                assert await ids_in(target) == ALL


@DELETE_OR_KEEP
async def test_source_is_not_migrated_into_itself(
    topology: Topology, prefix: str, delete: bool
) -> None:
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedules(SCHEDULES)
        with pytest.raises(InvalidOptionError, match="same prefix"):
            await migrate(topology, prefix, build(topology, "indexed", prefix=prefix), delete)
        assert await ids_in(source) == ALL
        # The lock is free.
        await migrate(topology, prefix, Foreign([schedule("new")]))
        assert await ids_in(source) == sorted([*ALL, "new"])


@DELETE_OR_KEEP
async def test_schedules_migrate_from_any_source(
    topology: Topology, prefix: str, delete: bool
) -> None:
    source = Foreign(SCHEDULES)
    await migrate(topology, prefix, source, delete)
    assert source.calls == ["startup", "shutdown"]
    assert sorted(source.schedules) == ([] if delete else ALL)
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert await ids_in(target) == ALL


@ON_ONE
async def test_many_schedules_migrate_in_few_commands(topology: Topology, prefix: str) -> None:
    async with opened(topology, "indexed", prefix=f"{prefix}:old") as previous:
        await previous.add_schedules([schedule(str(number)) for number in range(1200)])
        await migrate(topology, prefix, build(topology, "indexed", prefix=f"{prefix}:old"))
        assert await previous.count() == 0
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert await target.count() == 1200
        assert len(await target.get_schedules()) == 1200


@OLD_KINDS
async def test_old_source_is_closed_after_migration(
    topology: Topology, prefix: str, old: str
) -> None:
    source = build(topology, old, prefix=f"{prefix}:old")
    await source.add_schedule(schedule())
    await migrate(topology, prefix, source)
    assert source._connection._shared.pop() is None


@DELETE_OR_KEEP
async def test_schedule_that_taskiq_cannot_work_with_stays_and_is_logged(
    topology: Topology, prefix: str, delete: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bad = schedule("bad").model_copy(update={"cron": "*/0 * * * *"})
    source = Foreign([schedule("first"), bad, schedule("last")])
    await migrate(topology, prefix, source, delete)
    assert "bad" in caplog.text
    assert sorted(source.schedules) == (["bad"] if delete else ["bad", "first", "last"])
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert await ids_in(target) == ["first", "last"]


@OLD_KINDS
async def test_unreadable_schedule_stays_in_the_old_source(
    topology: Topology, prefix: str, old: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, old, prefix=f"{prefix}:old") as previous:
        await previous.add_schedules([schedule("bad"), schedule("good")])
        key = previous._data_key("bad")
        redis_of(topology).set(key, b"garbage")
        await migrate(topology, prefix, build(topology, old, prefix=f"{prefix}:old"))
        assert redis_of(topology).get(key) == b"garbage"
        assert await ids_of_data(previous) == ["bad"]
    assert key in caplog.text
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert await ids_in(target) == ["good"]


async def ids_of_data(source: Any) -> list[str]:
    return sorted([schedule_id async for page in source._pages() for schedule_id in page])


# --- Kept schedules


@OLD_KINDS
async def test_kept_schedules_are_migrated_once(topology: Topology, prefix: str, old: str) -> None:
    async with opened(topology, old, prefix=f"{prefix}:old") as previous:
        await previous.add_schedules(SCHEDULES)
        for _ in range(3):
            source = build(topology, old, prefix=f"{prefix}:old")
            await migrate(topology, prefix, source, delete=False)
            async with opened(topology, "indexed", prefix=prefix) as target:
                # What was deleted there, or sent, doesn't come back.
                await target.delete_schedule("past")
                assert await ids_in(target) == [each for each in ALL if each != "past"]


@OLD_KINDS
async def test_kept_schedules_are_migrated_once_per_source(
    topology: Topology, prefix: str, old: str
) -> None:
    for number in range(2):
        async with opened(topology, old, prefix=f"{prefix}:old{number}") as previous:
            await previous.add_schedule(schedule(str(number)))
            source = build(topology, old, prefix=f"{prefix}:old{number}")
            await migrate(topology, prefix, source, delete=False)
    for foreign in (Foreign, AnotherForeign):
        await migrate(topology, prefix, foreign([schedule(foreign.__name__)]), delete=False)
        await migrate(topology, prefix, foreign([schedule("late")]), delete=False)
    async with opened(topology, "indexed", prefix=prefix) as target:
        assert await ids_in(target) == ["0", "1", "AnotherForeign", "Foreign"]


async def test_what_an_interrupted_migration_added_is_added_again_from_another_source(
    topology: Topology, prefix: str
) -> None:
    class Stubborn(Foreign):
        async def delete_schedule(self, schedule_id: str) -> None:
            raise ServerUnavailableError(server="another", reason="down", advice="")

    with pytest.raises(ServerUnavailableError):
        await migrate(topology, prefix, Stubborn([schedule()]))
    async with opened(topology, "indexed", prefix=prefix) as target:
        await target.clear(all=True)
        await migrate(topology, prefix, Foreign([schedule(interval=7)]))
        assert await target.get_all_schedules() == [schedule(interval=7)]


# --- Crashes


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let migrations be in small batches, and leases of crashed processes end soon."""
    monkeypatch.setattr(migration, "BATCH", 2)
    monkeypatch.setattr(migration, "LEASE", 60)
    monkeypatch.setattr(claims, "LEASE", 60)


@pytest.mark.full
@pytest.mark.usefixtures("quick")
@DELETE_OR_KEEP
@OLD_KINDS
async def test_migration_that_is_killed_after_any_command_is_resumed(
    network: Network, old: str, delete: bool
) -> None:
    old_prefix = f"{network.prefix}:old"
    async with network.directly(old, prefix=old_prefix) as previous:
        for number in count(1):
            await previous.clear(all=True)
            await previous.add_schedules(SCHEDULES)
            await previous.pause_schedule("paused")
            # Each starts without what others have left.
            options = {"prefix": f"{network.prefix}:{number}"}
            async with old_source(network, old, old_prefix, number, delete) as source:
                async with network.through("indexed", "crash", number, **options) as target:
                    with suppress(TaskIQRedisError):
                        await target.with_migrate_from(source, delete_schedules=delete).startup()
            hit = network.disarm()
            sent: list[str] = []
            async with network.directly("indexed", **options) as target:
                await together(partial(send_past, target, sent))
                source = build(network.topology, old, prefix=old_prefix)
                await migrate(network.topology, options["prefix"], source, delete)
                assert await ids_in(target) == [each for each in ALL if each not in sent], number
                await together(partial(send_past, target, sent))
                assert sent == ["past"], number
                assert await read_ids(target) == ["cron", "interval"], number
                assert await ids_in(previous) == ([] if delete else ALL), number
                await target.clear(all=True)
            if not hit:
                break


def old_source(network: Network, old: str, prefix: str, number: int, delete: bool) -> Any:
    """Build the source of the process that is killed, and shut it down at the end.

    If its schedules are kept, it connects directly: one with another address is another source.
    """
    if delete:
        return network.through(old, "crash", number, prefix=prefix)
    return network.directly(old, prefix=prefix)


@pytest.mark.full
@OLD_KINDS
@pytest.mark.parametrize("fault", ["lose the request", "lose the reply"])
async def test_migration_whose_commands_are_cut_off_retries_them(
    network: Network, old: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "BATCH", 2)
    old_prefix = f"{network.prefix}:old"
    async with network.directly(old, prefix=old_prefix) as previous:
        for number in count(1):
            await previous.add_schedules(SCHEDULES)
            async with network.through("indexed", fault, number) as target:
                async with network.through(old, fault, number, prefix=old_prefix) as source:
                    await target.with_migrate_from(source).startup()
                hit = network.disarm()
                assert await ids_in(target) == ALL, number
                assert await ids_in(previous) == [], number
                await target.clear(all=True)
            if not hit:
                break
