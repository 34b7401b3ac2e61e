"""Schedulers register with the sources that they read; other processes don't."""

import time
from typing import Any

import pytest

from taskiq_redis._core.process import describe_process
from taskiq_redis.exceptions import WrongKeyTypeError
from tests._async.schedules import BOTH, ids, schedule
from tests._async.support import opened, redis_of
from tests.servers import Topology

pytestmark = pytest.mark.anyio


def is_due(source: Any) -> None:
    """Pretend that the last registration was long ago."""
    source._registration._next = 0.0


@BOTH
@pytest.mark.smoke
async def test_scheduler_is_registered_until_shutdown(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as reader:
        async with opened(topology, mechanism, prefix=prefix) as source:
            await source.add_schedule(schedule("a"))
            await source.get_schedules()
            assert await reader.schedulers() == []
            source._registration.record_send()
            assert ids(await source.get_schedules()) == ["a"]
            (found,) = await reader.schedulers()
            assert found.is_alive
            assert found.started is not None
            assert abs(found.started.timestamp() - time.time()) < 60
            assert found.age < 60
            assert (found.pid, found.host != "", found.version) == registered_process()
            assert 3_500_000 < redis_of(topology).pttl(source._keys.schedulers) <= 3_600_000
        assert await reader.schedulers() == []


def registered_process() -> tuple[int, bool, str]:
    """Return the process ID, whether there is a host, and the version."""
    pid, version, _ = describe_process().split(" ", 2)
    return int(pid), True, version


@BOTH
async def test_scheduler_is_registered_every_five_seconds(
    topology: Topology, prefix: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        source._registration.record_send()
        await source.get_schedules()
        client, key = redis_of(topology), source._keys.schedulers
        ((name, value),) = client.hgetall(key).items()
        client.hset(key, "dead", "5000 1 1 1 2.0.0 host")
        source._registration._next = time.monotonic() + 1000
        await source.get_schedules()
        assert client.hget(key, name) == value
        client.delete(key)
        client.hset(key, "dead", "5000 1 1 1 2.0.0 host")
        is_due(source)
        await source.get_schedules()
        # What was killed more than an hour ago is removed.
        assert client.hkeys(key) == [name]


@BOTH
async def test_refused_registration_is_logged_once_and_schedules_are_read(
    topology: Topology, prefix: str, mechanism: str, user: Any, caplog: Any
) -> None:
    rights = user("+@all", f"~{prefix}:[^s]*")
    async with opened(topology, mechanism, prefix=prefix) as writer:
        await writer.add_schedule(schedule("a"))
        async with opened(topology, mechanism, prefix=prefix, **rights) as source:
            source._registration.record_send()
            for _ in range(2):
                is_due(source)
                assert ids(await source.get_schedules()) == ["a"]
            assert await writer.schedulers() == []
    assert len([text for text in caplog.messages if "isn't registered" in text]) == 1


@BOTH
async def test_key_of_another_type_is_left_alone(
    topology: Topology, prefix: str, mechanism: str, caplog: Any
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule("a"))
        redis_of(topology).rpush(source._keys.schedulers, "other")
        source._registration.record_send()
        assert ids(await source.get_schedules()) == ["a"]
        assert "isn't registered" in caplog.text
        with pytest.raises(WrongKeyTypeError):
            await source.schedulers()


@BOTH
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_server_that_is_away_is_left_to_the_next_read(
    topology: Topology, prefix: str, mechanism: str, monkeypatch: Any
) -> None:
    async with opened(topology, mechanism, prefix=prefix) as source:
        source._registration.record_send()
        await source.get_schedules()
        is_due(source)

        async def lost(*_: Any, **options: Any) -> Any:
            raise ConnectionError

        with monkeypatch.context() as patched:
            patched.setattr(source._connection, "run_script", lost)
            await source._registration.write()
        assert len(await source.schedulers()) == 1


async def test_source_cannot_have_a_schedule_in_the_key_of_the_schedulers(
    topology: Topology, prefix: str
) -> None:
    async with opened(topology, "keys", prefix=prefix) as source:
        with pytest.raises(ValueError, match="that of an index"):
            await source.add_schedule(schedule("schedulers"))


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_interval_is_that_of_reads_if_they_are_rare(topology: Topology, prefix: str) -> None:
    async with opened(topology, "keys", prefix=prefix) as source:
        source._registration.record_send()
        await source.get_schedules()
        (found,) = await source.schedulers()
        assert found.interval == 60
        source._registration._polled -= 3600
        is_due(source)
        await source.get_schedules()
        (found,) = await source.schedulers()
        assert found.interval > 3600
