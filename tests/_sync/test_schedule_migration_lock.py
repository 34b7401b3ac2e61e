# Generated from tests/_async/test_schedule_migration_lock.py by scripts/unasync.py; edit that.

"""One process at a time migrates schedules."""

import logging
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.addresses import SingleNode
from taskiq_redis._sync.connection import Connection
from taskiq_redis._sync.schedules import migration
from taskiq_redis.exceptions import ServerUnavailableError
from tests._sync.migrations import (
    ALL,
    DELETE_OR_KEEP,
    OLD_KINDS,
    ON_ONE,
    SCHEDULES,
    Foreign,
    ids_in,
    migrate,
    schedule,
    send_past,
)
from tests._sync.network import call_once
from tests._sync.schedules import FUTURE
from tests._sync.support import build, opened, redis_of
from tests._threads import Running, sleep, together, wait_until
from tests.servers import HOST, Topology, node_url


@pytest.fixture
def prefix(name: str) -> str:
    """A prefix whose keys share a slot."""
    return f"{{{name}}}:app"


@DELETE_OR_KEEP
@OLD_KINDS
def test_processes_that_start_together_migrate_each_schedule_once(
    topology: Topology, prefix: str, old: str, delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "BATCH", 30)
    monkeypatch.setattr(migration, "PAUSE", 0.02)
    monkeypatch.setattr(migration.Migration, "_put", counting(migration.Migration._put))
    names = [f"{number:03}" for number in range(300)]
    puts.clear()
    with opened(topology, old, prefix=f"{prefix}:old") as previous:
        previous.add_schedules([schedule(each, time=FUTURE) for each in names])

        def start() -> Any:
            source = build(topology, old, prefix=f"{prefix}:old")
            return migrate(topology, prefix, source, delete)

        together(start, start, start)
        assert ids_in(previous) == ([] if delete else names)
    with opened(topology, "indexed", prefix=prefix) as target:
        assert ids_in(target) == names
    assert sorted(puts) == names


#: IDs of the schedules that processes have added
puts: list[str] = []


def counting(put: Any) -> Any:
    """Wrap the function that adds schedules, and record their IDs."""

    def recorded(self: Any, schedules: Any, *more: Any) -> Any:
        puts.extend(task.schedule_id for task, _ in schedules)
        return put(self, schedules, *more)

    return recorded


def lock_of(target: Any) -> str:
    """Return the key of the lock."""
    key: str = target._keys.migration
    return key


def test_another_process_takes_over_when_the_lease_ends(
    topology: Topology, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskiq_redis")
    source = Foreign(SCHEDULES)
    with opened(topology, "indexed", prefix=prefix) as target:
        client = redis_of(topology)
        seconds, microseconds = time_of(client, topology)
        ends = seconds * 1000 + microseconds // 1000 + 400
        client.hset(lock_of(target), "lock", f"{ends} of-a-dead-process")
        target.with_migrate_from(source).startup()
        seconds, microseconds = time_of(client, topology)
        assert seconds * 1000 + microseconds // 1000 >= ends
        assert "Another process migrates schedules" in caplog.text
        assert ids_in(target) == ALL
        assert not client.hexists(lock_of(target), "lock")


def time_of(client: Any, topology: Topology) -> tuple[int, int]:
    """Return the time of a server."""
    if topology.kind == "cluster":
        client = client.get_redis_connection(client.get_primaries()[0])
    seconds, microseconds = client.time()
    return int(seconds), int(microseconds)


@DELETE_OR_KEEP
def test_process_that_was_paused_beyond_its_lease_adds_nothing(
    topology: Topology, prefix: str, delete: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[str] = []
    reads: list[int] = []

    def be_paused_and_replaced() -> None:
        """Let another process take over, finish the migration, and send a schedule."""
        reads.append(1)
        if len(reads) > 1:
            return
        with opened(topology, "indexed", prefix=prefix) as other:
            redis_of(topology).hdel(lock_of(other), "lock")
            other.with_migrate_from(source, delete_schedules=delete).startup()
            together(partial(send_past, other, sent))
            other.delete_schedule("cron")

    source = Foreign(SCHEDULES, be_paused_and_replaced)
    with opened(topology, "indexed", prefix=prefix) as target:
        target.with_migrate_from(source, delete_schedules=delete).startup()
        assert sent == ["past"]
        assert ids_in(target) == ["future", "interval", "paused"]
    assert "Another process has taken over the migration" in caplog.text


def test_lock_is_renewed_during_a_long_read(
    topology: Topology, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "LEASE", 1500)
    monkeypatch.setattr(migration, "RENEWAL", 0.05)
    monkeypatch.setattr(migration, "PAUSE", 0.05)

    def read_slowly() -> None:
        sleep(2.5)

    slow, other = Foreign(SCHEDULES, read_slowly), Foreign([schedule("other")])
    with Running(partial(migrate, topology, prefix, slow)):
        wait_until(partial(has_started, slow))
        migrate(topology, prefix, other)
        # It had to wait for the end of the first one.
        assert slow.calls == ["startup", "shutdown"]
        assert slow.schedules == {}


def has_started(source: Foreign) -> bool:
    return bool(source.calls)


# --- Errors


@DELETE_OR_KEEP
def test_lock_is_released_if_the_old_source_fails(
    topology: Topology, prefix: str, delete: bool
) -> None:
    failing = [True]

    def fail() -> None:
        if failing.pop():
            raise ServerUnavailableError(server="another", reason="down", advice="")

    source = Foreign(SCHEDULES, fail)
    with opened(topology, "indexed", prefix=prefix) as target:
        target.with_migrate_from(source, delete_schedules=delete)
        with pytest.raises(ServerUnavailableError, match="another"):
            target.startup()
        assert source.calls == ["startup", "shutdown"]
        assert not redis_of(topology).hexists(lock_of(target), "lock")
        failing.append(False)
        target.startup()
        assert ids_in(target) == ALL


@ON_ONE
def test_lock_is_released_if_the_old_server_is_down(
    topology: Topology, prefix: str, closed_port: int
) -> None:
    source = build(topology, "keys", prefix=f"{prefix}:old")
    source._connection = Connection(SingleNode(node_url((HOST, closed_port)), None, {}))
    source._connection.call = partial(call_once, source._connection.call, {})
    with opened(topology, "indexed", prefix=prefix) as target:
        with pytest.raises(ServerUnavailableError, match=str(closed_port)):
            target.with_migrate_from(source).startup()
        assert not redis_of(topology).hexists(lock_of(target), "lock")
