"""Code of the user that redis-py calls to connect may raise anything: that is an outage."""

import logging
from functools import partial
from typing import Any

import pytest
from redis.credentials import CredentialProvider

from taskiq_redis._async.schedules import claims
from taskiq_redis.exceptions import ServerUnavailableError
from tests._aio import together, wait_until
from tests._async.schedules import BOTH, schedule
from tests._async.support import (
    BackgroundWait,
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    redis_of,
    result,
)
from tests.leaks import PASSWORD
from tests.servers import Topology

pytestmark = pytest.mark.anyio


class Hook(CredentialProvider):
    """Code of the user that fails for a while.

    Args:
        username: name of the user.
    """

    def __init__(self, username: str) -> None:
        self._username = username
        self.fails = True
        self.failures = 0

    def check(self) -> None:
        """Fail, as long as it is to fail."""
        if self.fails:
            self.failures += 1
            raise KeyError("token")

    def get_credentials(self) -> tuple[str, str]:
        """Return the username and the password."""
        self.check()
        return self._username, PASSWORD

    def remap(self, address: Any) -> Any:
        """Return an address of a cluster node unchanged."""
        self.check()
        return address

    async def recover(self, after: int) -> None:
        """Fail no longer after some further failures."""
        enough = self.failures + after

        async def has_failed() -> bool:
            return self.failures >= enough

        await wait_until(has_failed)
        self.fails = False


@pytest.fixture
def provider(user: Any, name: str) -> Hook:
    """A credential provider that fails."""
    user("+@all", "~*", "&*")
    return Hook(name)


def cut(topology: Topology, user: str) -> None:
    """Close all connections of a user."""
    on_all_nodes(topology, lambda node: node.execute_command("CLIENT", "KILL", "USER", user))


@pytest.mark.parametrize("mechanism", ["pubsub", "list", "stream"])
async def test_kick_waits_for_credential_provider(
    topology: Topology, name: str, mechanism: str, provider: Hook
) -> None:
    options = {"queue_name": name, "credential_provider": provider, "kick_timeout": 60}
    async with opened(topology, mechanism, **options) as broker:
        await together(partial(broker.kick, message(b"a")), partial(provider.recover, 3))
    if mechanism != "pubsub":
        redis = redis_of(topology)
        assert (redis.llen(name) if mechanism == "list" else redis.xlen(name)) == 1


async def test_kick_names_failing_provider(topology: Topology, name: str, provider: Hook) -> None:
    options = {"queue_name": name, "credential_provider": provider, "kick_timeout": 0.2}
    async with opened(topology, "stream", **options) as broker:
        problem = r"KeyError: 'token' \(raised by check in test_.*, line .*credential provider"
        with pytest.raises(ServerUnavailableError, match=problem):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_kick_waits_for_address_remap(
    topology: Topology, name: str, mechanism: str, provider: Hook
) -> None:
    options = {"queue_name": name, "address_remap": provider.remap, "kick_timeout": 60}
    async with opened(topology, mechanism, **options) as broker:
        await together(partial(broker.kick, message(b"a")), partial(provider.recover, 3))
        redis = redis_of(topology)
        assert (redis.llen(name) if mechanism == "list" else redis.xlen(name)) == 1


@pytest.mark.parametrize("mechanism", ["pubsub", "list", "stream"])
async def test_listener_outlives_outage_of_provider(
    topology: Topology,
    name: str,
    mechanism: str,
    provider: Hook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    options = {"queue_name": name, "credential_provider": provider}
    async with (
        opened(topology, mechanism, queue_name=name) as sender,
        Listener(build(topology, mechanism, **options)) as listener,
    ):
        await provider.recover(1)

        async def is_received() -> bool:
            await sender.kick(message(b"a"))
            return b"a" in listener.got

        await wait_until(is_received)
        provider.fails = True
        cut(topology, name)
        await provider.recover(3)
        listener.got.clear()
        await wait_until(is_received)
    assert " failed." not in caplog.text


async def test_leases_outlive_outage_of_provider(
    topology: Topology, name: str, provider: Hook
) -> None:
    provider.fails = False
    options = {"queue_name": name, "credential_provider": provider, "idle_timeout": 3000}
    broker = build(topology, "stream", **options)
    async with Listener(broker, acknowledge=False) as listener:
        await broker.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))
        provider.fails = True
        cut(topology, name)
        await provider.recover(5)
        redis, workers = redis_of(topology), f"{{{name}}}:workers:taskiq"
        before = redis.hgetall(workers)

        async def is_renewed() -> bool:
            return bool(redis.hgetall(workers) != before)

        await wait_until(is_renewed)
        for keeper in broker._listener_states.get()[0].keepers:
            assert not keeper.ended


@BOTH
async def test_claims_are_renewed_after_exceptions_of_hooks(
    topology: Topology,
    prefix: str,
    mechanism: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "taskiq_redis")
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        (due,) = await source.get_schedules()
        await source.pre_send(due)
        held = list(source._claims._held.values())
        redis, key = redis_of(topology), source._keys.claims
        claimed = redis.hgetall(key)
        with monkeypatch.context() as patched:
            patched.setattr(source._connection, "run_script", fail)
            await source._claims._renew(claims.LEASE, held)
        assert "Claims of schedules could not be renewed or ended: Redis" in caplog.text
        assert redis.hgetall(key) == claimed

        async def is_renewed() -> bool:
            await source._claims._renew(claims.LEASE, held)
            return bool(redis.hgetall(key) != claimed)

        await wait_until(is_renewed)
        await source.post_send(due)


@BOTH
async def test_scheduler_goes_on_with_what_it_knows_after_exceptions_of_hooks(
    topology: Topology,
    prefix: str,
    mechanism: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "taskiq_redis")
    async with opened(topology, mechanism, prefix=prefix) as source:
        await source.add_schedule(schedule())
        known = list(await source.get_schedules())
        with monkeypatch.context() as patched:
            for method in ("run_script", "call"):
                patched.setattr(source._connection, method, fail)
            assert list(await source.get_schedules()) == known
        assert "goes on with the schedules it knows: Redis" in caplog.text
        assert "KeyError: 'token' (raised by fail in test_failing_hooks.py" in caplog.text
        assert list(await source.get_schedules()) == known


async def fail(*_: Any, **__: Any) -> Any:
    """Replace a method of a connection, as if code of the user raised in it."""
    raise KeyError("token")


async def test_waiting_outlives_outage_of_provider(
    topology: Topology, name: str, provider: Hook
) -> None:
    provider.fails = False
    options: dict[str, Any] = {"prefix_str": name, "credential_provider": provider}
    async with (
        opened(topology, "results", **options) as backend,
        opened(topology, "results", prefix_str=name) as other,
        BackgroundWait(backend, "id") as waiting,
    ):
        reader = backend._listener.get()._reader
        provider.fails = True
        cut(topology, name)
        await provider.recover(3)
        await other.set_result("id", result(1))
        await wait_until(waiting.done)
        assert backend._listener.get()._reader is reader
