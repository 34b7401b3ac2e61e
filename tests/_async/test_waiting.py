"""Waiters are notified when their result is stored, over one connection, and never miss it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._async import result_waiters
from taskiq_redis._async.connection import Connection
from taskiq_redis._core.addresses import SingleNode
from taskiq_redis.exceptions import ResultDecodeError
from tests._aio import Running, sleep, together, wait_until
from tests._async.support import (
    BackgroundWait,
    build,
    channels_of,
    on_all_nodes,
    opened,
    redis_of,
    result,
)
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio

#: s; a timeout that doesn't expire, also on a busy machine
LONG = 30.0


@pytest.fixture(scope="module")
def private_server() -> Iterator[ServerProcess]:
    """A server that no other test uses."""
    with ServerProcess() as server:
        yield server


def pubsub_clients(topology: Topology) -> list[Any]:
    """Return the subscribed connections, on all nodes."""
    listed = on_all_nodes(topology, lambda node: node.client_list(_type="pubsub"))
    return [client for clients in listed for client in clients]


@pytest.mark.smoke
async def test_waiter_is_notified(topology: Topology, name: str) -> None:
    async with (
        opened(topology, "results", prefix_str="p") as backend,
        opened(topology, "results", prefix_str="p") as writer,
    ):
        async with BackgroundWait(backend, name) as waiting:
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
        async with BackgroundWait(backend, *task_ids) as waiting:

            async def has_read_twice() -> bool:
                # Each result is read at once, and again when its channel is subscribed.
                reads = reads_sent(topology) - read_before
                await sleep(0.2)
                return reads >= 200 and reads_sent(topology) - read_before == reads

            await wait_until(has_read_twice)
            before, began = commands_sent(topology), time.monotonic()
            await sleep(3)
            sent = commands_sent(topology) - before
            checks = (time.monotonic() - began) / result_waiters.CHECK_INTERVAL
            assert len(pubsub_clients(topology)) == 1
            for number, task_id in enumerate(task_ids):
                await backend.set_result(task_id, result(number))
            await wait_until(waiting.done)
        assert sorted(waiting.values.values()) == list(range(100))
        # A check is one command for all results.
        assert sent < 5 * checks + 1


def reads_sent(topology: Topology) -> int:
    """Return how many GET commands the server has executed."""
    stats = redis_of(topology).info("commandstats")
    return int(stats.get("cmdstat_get", {"calls": 0})["calls"])


def commands_sent(topology: Topology) -> int:
    """Return how many commands the server has executed, without those of this test."""
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
        async with BackgroundWait(backend, name) as waiting:
            # A worker of 1.2.4 stores results this way.
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
        # The result that was stored wasn't returned, so it is kept.
        assert (await backend.wait_result(f"{name}:there")).return_value == 1
        assert not await backend.is_result_ready(f"{name}:there")
        assert backend._listener.get()._waiters == {}


async def test_waiters_with_the_same_deadline_get_results_or_timeouts(
    topology: Topology, name: str
) -> None:
    """A round trip that is under way at the deadline doesn't count as an outage."""
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
        await writer.set_result(f"{name}:stored", stored)
        raw = redis_of(topology).get(f"{name}:stored")

        async def many_wait() -> bool:
            return len(backend._listener.get()._waiters) >= 30

        async def store() -> None:
            await wait_until(many_wait)
            for task_id in task_ids:
                # Without a notification.
                redis_of(topology).set(task_id, raw)

        async with Running(store):
            await together(*[partial(backend.wait_result, task_id, LONG) for task_id in task_ids])


class CountingWaiter:
    """A waiter that counts how often waiters are compared."""

    comparisons = 0

    def __call__(self, key: str, published: bool) -> None:
        """Do nothing."""

    def __eq__(self, other: object) -> bool:
        CountingWaiter.comparisons += 1
        return self is other

    __hash__ = object.__hash__


async def test_time_to_stop_waiting_for_one_result_grows_linearly() -> None:
    listener = result_waiters.ResultListener(Connection(SingleNode("redis://localhost:1")))
    # It doesn't connect then.
    await listener.stop()
    waiters = [CountingWaiter() for _ in range(1000)]
    for waiter in waiters:
        await listener.add(["key"], waiter)
    CountingWaiter.comparisons = 0
    for waiter in reversed(waiters):
        listener.remove(["key"], waiter)
    assert listener._waiters == {}
    assert CountingWaiter.comparisons < 10 * len(waiters)


async def test_undecodable_result_ends_the_wait(topology: Topology, name: str) -> None:
    redis_of(topology).set(name, b"garbage")
    async with opened(topology, "results") as backend:
        with pytest.raises(ResultDecodeError):
            await backend.wait_result(name)
    redis_of(topology).delete(name)


def kill(node: Any, address: str) -> None:
    """Close a connection, if it is to this node."""
    with suppress(ResponseError):
        node.client_kill(address)


async def test_closed_subscription_is_reopened(topology: Topology, name: str) -> None:
    async with opened(topology, "results", client_name=name) as backend:
        async with BackgroundWait(backend, name) as waiting:
            reader = backend._listener.get()
            cut = reader._subscription
            (ours,) = [client for client in pubsub_clients(topology) if client["name"] == name]
            on_all_nodes(topology, lambda node: kill(node, ours["addr"]))

            async def is_resubscribed() -> bool:
                return reader._subscription not in (None, cut) and await waiting.listens()

            await wait_until(is_resubscribed)
            await backend.set_result(name, result(1))
            await wait_until(waiting.done)


async def test_waiting_survives_a_server_restart(name: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, "results") as backend:
            async with BackgroundWait(backend, name) as waiting:
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
        listener = backend._listener.get()

        async def has_ended() -> bool:
            return listener._reader is None and listener._subscription is None

        for number in range(2):
            task_id = f"{name}:{number}"
            async with BackgroundWait(backend, task_id) as waiting:
                await backend.set_result(task_id, result(1))
                await wait_until(waiting.done)
            await wait_until(has_ended)


def create_user(node: Any, name: str) -> None:
    """Create a user without rights to any channel."""
    rules = {"reset": True, "keys": ["*"], "commands": ["+@all"], "channels": []}
    node.acl_setuser(name, enabled=True, passwords=["+secret"], reset_channels=True, **rules)


async def test_user_without_subscribe_polls(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        async with (
            opened(topology, "results", username=name, password="secret") as backend,
            opened(topology, "results") as writer,
        ):
            listener = backend._listener.get()
            found: list[Any] = []

            async def wait() -> None:
                found.append(await backend.wait_result(name, LONG))

            async with Running(wait):

                async def refused() -> bool:
                    return bool(listener.refused)

                await wait_until(refused)
                await writer.set_result(name, result(1))

                async def result_is_found() -> bool:
                    return bool(found)

                await wait_until(result_is_found)
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
            listener = backend._listener.get()

            async def is_refused() -> bool:
                with suppress(TaskiqResultTimeoutError):
                    await backend.wait_result(name, 0.1)
                return listener._refused_until is not None

            await wait_until(is_refused)
            on_all_nodes(
                topology, lambda node: node.acl_setuser(name, enabled=True, channels=["*"])
            )

            async def may_try_again() -> bool:
                return not listener.refused

            await wait_until(may_try_again)
            async with BackgroundWait(backend, name) as waiting:
                assert await waiting.listens()
                await backend.set_result(name, result(1))
                await wait_until(waiting.done)
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_notifications_do_not_postpone_the_next_check(topology: Topology, name: str) -> None:
    waits: list[float] = []
    async with opened(topology, "results") as backend:
        async with BackgroundWait(backend, name) as waiting:
            listener = backend._listener.get()
            subscription = listener._subscription
            receive = subscription.receive

            async def recording_receive(wait: float) -> Any:
                waits.append(wait)
                return await receive(wait)

            subscription.receive = recording_receive

            async def one_wait_was_shorter() -> bool:
                redis_of(topology).publish(backend._task_name(name), b"")
                return any(wait < result_waiters.CHECK_INTERVAL / 2 for wait in waits)

            await wait_until(one_wait_was_shorter)
            await backend.set_result(name, result(1))
            await wait_until(waiting.done)
    assert all(wait <= result_waiters.CHECK_INTERVAL for wait in waits)


async def test_waiter_polls_after_shutdown(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend, opened(topology, "results") as writer:
        async with BackgroundWait(backend, name) as waiting:
            listener = backend._listener.get()
            await backend.shutdown()
            # Longer than until the waiter's own next check.
            await sleep(2 * result_waiters.CHECK_INTERVAL)
            assert listener._reader is None
            assert backend._listener.get()._reader is None
            await writer.set_result(name, result(1))
            await wait_until(waiting.done)


async def test_shutdown_ends_the_subscription(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "KEEP_OPEN", LONG)
    backend = build(topology, "results")
    async with BackgroundWait(backend, name) as waiting:
        listener = backend._listener.get()
        await backend.set_result(name, result(1))
        await wait_until(waiting.done)
    assert listener._subscription is not None
    await backend.shutdown()
    assert listener._subscription is None
    assert listener._reader is None
