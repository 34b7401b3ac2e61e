"""Who waits for a result is told when it is there, over one connection, and never misses it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._async import result_waiters
from taskiq_redis.exceptions import ResultDecodeError
from tests._aio import Running, sleep, together, wait_until
from tests._async.support import (
    Waiting,
    build,
    channels_of,
    on_all_nodes,
    opened,
    redis_of,
    result,
)
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio

#: s; long enough for any machine
LONG = 30.0


@pytest.fixture(scope="module")
def private_server() -> Iterator[ServerProcess]:
    """A server that nobody else uses."""
    with ServerProcess() as server:
        yield server


def pubsub_clients(topology: Topology) -> list[Any]:
    """Return the connections that subscribe, on all nodes."""
    listed = on_all_nodes(topology, lambda node: node.client_list(_type="pubsub"))
    return [client for clients in listed for client in clients]


@pytest.mark.smoke
async def test_waiter_is_notified(topology: Topology, name: str) -> None:
    async with (
        opened(topology, "results", prefix_str="p") as backend,
        opened(topology, "results", prefix_str="p") as writer,
    ):
        async with Waiting(backend, name) as waiting:
            await writer.set_result(name, result(42))
            await wait_until(waiting.done)
        assert waiting.values == {name: 42}


async def test_stored_result_is_returned_without_subscribing(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        await backend.set_result(name, result(1, log="log"))
        assert await backend.wait_result(name) == result(1)
        assert (await backend.wait_result(name, with_logs=True)).log == "log"
        assert backend._listener.get()._reader is None


async def test_waiting_sends_few_commands(private_server: ServerProcess, name: str) -> None:
    topology = private_server.topology
    async with opened(topology, "results") as backend:
        task_ids = [f"{name}:{number}" for number in range(100)]
        read_before = reads_sent(topology)
        async with Waiting(backend, *task_ids) as waiting:

            async def looked_twice() -> bool:
                # At once, and when it was listened for.
                return reads_sent(topology) - read_before >= 200

            await wait_until(looked_twice)
            before = commands_sent(topology)
            await sleep(3)
            sent = commands_sent(topology) - before
            assert len(pubsub_clients(topology)) == 1
            for number, task_id in enumerate(task_ids):
                await backend.set_result(task_id, result(number))
            await wait_until(waiting.done)
        assert sorted(waiting.values.values()) == list(range(100))
        # One look at all of them, now and then.
        assert sent < 20


def reads_sent(topology: Topology) -> int:
    stats = redis_of(topology).info("commandstats")
    return int(stats.get("cmdstat_get", {"calls": 0})["calls"])


def commands_sent(topology: Topology) -> int:
    stats = redis_of(topology).info("commandstats").items()
    ours = {"cmdstat_info", "cmdstat_client|list"}
    return sum(row["calls"] for command, row in stats if command not in ours)


async def test_waiters_share_one_connection(topology: Topology, name: str) -> None:
    async with opened(topology, "results", client_name=name) as backend:
        task_ids = [f"{name}:{number}" for number in range(30)]
        waits = [partial(backend.wait_result, task_id, LONG) for task_id in task_ids]
        found: list[Any] = []

        async def wait_for_all() -> None:
            found.extend(await together(*waits))

        async with Running(wait_for_all):

            async def all_subscribed() -> bool:
                return len(channels_of(backend)) == 30

            await wait_until(all_subscribed)
            ours = [client for client in pubsub_clients(topology) if client["name"] == name]
            assert [client["sub"] for client in ours] == ["30"]
            for number, task_id in enumerate(task_ids):
                await backend.set_result(task_id, result(number))

            async def all_found() -> bool:
                return len(found) == 30

            await wait_until(all_found)
        assert [one.return_value for one in found] == list(range(30))


async def test_result_stored_without_notification_is_found(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        await backend.set_result(f"{name}:other", result(7))
        raw = redis_of(topology).get(f"{name}:other")
        async with Waiting(backend, name) as waiting:
            # As a worker of 1.2.4 does.
            redis_of(topology).set(name, raw)
            await wait_until(waiting.done)
        assert waiting.values == {name: 7}


async def test_missing_result_raises_timeout_and_keeps_the_others(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "results", keep_results=False) as backend:
        await backend.set_result(f"{name}:there", result(1))
        began = time.monotonic()
        with pytest.raises(TaskiqResultTimeoutError):
            await backend.wait_results([f"{name}:there", f"{name}:missing"], timeout=0.3)
        assert time.monotonic() - began >= 0.3
        # Nobody got it, so it stays.
        assert (await backend.wait_result(f"{name}:there")).return_value == 1
        assert not await backend.is_result_ready(f"{name}:there")
        assert backend._listener.get()._waiters == {}


async def test_waiters_with_the_same_deadline_get_results_or_timeouts(
    topology: Topology, name: str
) -> None:
    """Nobody takes a round trip of others, which is under way then, for an outage."""
    stored = result(7)
    async with opened(topology, "results") as backend, opened(topology, "results") as writer:
        task_ids = [f"{name}:{number}" for number in range(60)]
        errors: list[Exception] = []

        async def wait(task_id: str) -> None:
            try:
                assert await backend.wait_result(task_id, 0.5) == stored
            except TaskiqResultTimeoutError as error:
                errors.append(error)

        await together(*[partial(wait, task_id) for task_id in task_ids])
        assert len(errors) == 60
        errors.clear()
        await writer.set_result(f"{name}:told", stored)
        raw = redis_of(topology).get(f"{name}:told")

        async def store() -> None:
            await sleep(0.4)
            for task_id in task_ids:
                # Nobody is told of that.
                redis_of(topology).set(task_id, raw)

        async with Running(store):
            await together(*[partial(backend.wait_result, task_id, 2.0) for task_id in task_ids])


async def test_undecodable_result_ends_the_wait(topology: Topology, name: str) -> None:
    redis_of(topology).set(name, b"garbage")
    async with opened(topology, "results") as backend:
        with pytest.raises(ResultDecodeError):
            await backend.wait_result(name)
    redis_of(topology).delete(name)


def kill(node: Any, address: str) -> None:
    """Cut a connection, if it is to this node."""
    with suppress(ResponseError):
        node.client_kill(address)


async def test_closed_subscription_is_reopened(topology: Topology, name: str) -> None:
    async with opened(topology, "results", client_name=name) as backend:
        async with Waiting(backend, name) as waiting:
            reader = backend._listener.get()
            cut = reader._subscription
            (ours,) = [client for client in pubsub_clients(topology) if client["name"] == name]
            on_all_nodes(topology, lambda node: kill(node, ours["addr"]))

            async def mended() -> bool:
                return reader._subscription not in (None, cut) and await waiting.listens()

            await wait_until(mended)
            await backend.set_result(name, result(1))
            await wait_until(waiting.done)


async def test_waiting_survives_a_server_restart(name: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, "results") as backend:
            async with Waiting(backend, name) as waiting:
                server.stop()
                server.start()
                await backend.set_result(name, result(1))
                await wait_until(waiting.done)


async def test_subscription_ends_after_the_last_waiter(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "KEEP_OPEN", 0.1)
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    async with opened(topology, "results") as backend:
        told = backend._listener.get()

        async def ended() -> bool:
            return told._reader is None and told._subscription is None

        for number in range(2):
            task_id = f"{name}:{number}"
            async with Waiting(backend, task_id) as waiting:
                await backend.set_result(task_id, result(1))
                await wait_until(waiting.done)
            await wait_until(ended)


def create_user(node: Any, name: str) -> None:
    """Create a user who may use no channel."""
    rules = {"reset": True, "keys": ["*"], "commands": ["+@all"], "channels": []}
    node.acl_setuser(name, enabled=True, passwords=["+secret"], **rules)


async def test_user_without_subscribe_polls(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        async with (
            opened(topology, "results", username=name, password="secret") as backend,
            opened(topology, "results") as writer,
        ):
            told = backend._listener.get()
            found: list[Any] = []

            async def wait() -> None:
                found.append(await backend.wait_result(name, LONG))

            async with Running(wait):

                async def refused() -> bool:
                    return bool(told.refused)

                await wait_until(refused)
                await writer.set_result(name, result(1))

                async def is_found() -> bool:
                    return bool(found)

                await wait_until(is_found)
        assert "Result notifications are off" in caplog.text
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_user_is_notified_once_subscribe_is_granted(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "RETRY_REFUSED_AFTER", 0.5)
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        async with opened(topology, "results", username=name, password="secret") as backend:
            told = backend._listener.get()

            async def is_refused() -> bool:
                with suppress(TaskiqResultTimeoutError):
                    await backend.wait_result(name, 0.1)
                return told._refused_until is not None

            await wait_until(is_refused)
            on_all_nodes(
                topology, lambda node: node.acl_setuser(name, enabled=True, channels=["*"])
            )

            async def waits_long_enough() -> bool:
                return not told.refused

            await wait_until(waits_long_enough)
            async with Waiting(backend, name) as waiting:
                assert await waiting.listens()
                await backend.set_result(name, result(1))
                await wait_until(waiting.done)
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_notifications_do_not_postpone_the_next_check(topology: Topology, name: str) -> None:
    waits: list[float] = []
    async with opened(topology, "results") as backend:
        async with Waiting(backend, name) as waiting:
            told = backend._listener.get()
            subscription = told._subscription
            receive = subscription.receive

            async def recorded(wait: float) -> Any:
                waits.append(wait)
                return await receive(wait)

            subscription.receive = recorded

            async def one_was_shorter() -> bool:
                redis_of(topology).publish(backend._task_name(name), b"")
                return any(wait < result_waiters.CHECK_INTERVAL / 2 for wait in waits)

            await wait_until(one_was_shorter)
            await backend.set_result(name, result(1))
            await wait_until(waiting.done)
    assert all(wait <= result_waiters.CHECK_INTERVAL for wait in waits)


async def test_waiter_polls_after_shutdown(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend, opened(topology, "results") as writer:
        async with Waiting(backend, name) as waiting:
            told = backend._listener.get()
            await backend.shutdown()
            # Longer than until he looks for where the key is.
            await sleep(2 * result_waiters.CHECK_INTERVAL)
            assert told._reader is None
            assert backend._listener.get()._reader is None
            await writer.set_result(name, result(1))
            await wait_until(waiting.done)


async def test_shutdown_ends_the_subscription(topology: Topology, name: str) -> None:
    backend = build(topology, "results")
    async with Waiting(backend, name) as waiting:
        told = backend._listener.get()
        await backend.set_result(name, result(1))
        await wait_until(waiting.done)
    assert told._subscription is not None
    await backend.shutdown()
    assert told._subscription is None
    assert told._reader is None
