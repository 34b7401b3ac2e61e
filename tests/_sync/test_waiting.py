# Generated from tests/_async/test_waiting.py by scripts/unasync.py; edit that.

"""Waiters are notified when their result is stored, over one connection, and never miss it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._core.addresses import SingleNode
from taskiq_redis._sync import result_waiters
from taskiq_redis._sync.connection import Connection
from taskiq_redis.exceptions import ResultDecodeError
from tests._sync.support import (
    BackgroundWait,
    build,
    channels_of,
    on_all_nodes,
    opened,
    redis_of,
    result,
)
from tests._threads import Running, sleep, together, wait_until
from tests.servers import ServerProcess, Topology

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
def test_waiter_is_notified(topology: Topology, name: str) -> None:
    with (
        opened(topology, "results", prefix_str="p") as backend,
        opened(topology, "results", prefix_str="p") as writer,
    ):
        with BackgroundWait(backend, name) as waiting:
            writer.set_result(name, result(42))
            wait_until(waiting.done)
        assert waiting.values == {name: 42}


def test_stored_result_is_returned_without_subscribing(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_result(name, result(1, log="log"))
        assert backend.wait_result(name) == result(1)
        assert backend.wait_result(name, with_logs=True).log == "log"
        assert backend._listener.get()._reader is None


def test_waiting_sends_few_commands(private_server: ServerProcess, name: str) -> None:
    topology = private_server.topology
    with opened(topology, "results") as backend:
        task_ids = [f"{name}:{number}" for number in range(100)]
        read_before = reads_sent(topology)
        with BackgroundWait(backend, *task_ids) as waiting:

            def has_read_twice() -> bool:
                # Each result is read at once, and again when its channel is subscribed.
                reads = reads_sent(topology) - read_before
                sleep(0.2)
                return reads >= 200 and reads_sent(topology) - read_before == reads

            wait_until(has_read_twice)
            before, began = commands_sent(topology), time.monotonic()
            sleep(3)
            sent = commands_sent(topology) - before
            checks = (time.monotonic() - began) / result_waiters.CHECK_INTERVAL
            assert len(pubsub_clients(topology)) == 1
            for number, task_id in enumerate(task_ids):
                backend.set_result(task_id, result(number))
            wait_until(waiting.done)
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


def test_waiters_share_one_connection(topology: Topology, name: str) -> None:
    with opened(topology, "results", client_name=name) as backend:
        task_ids = [f"{name}:{number}" for number in range(30)]
        waits = [partial(backend.wait_result, task_id, LONG) for task_id in task_ids]
        found: list[Any] = []

        def wait_for_all() -> None:
            found.extend(together(*waits))

        with Running(wait_for_all):

            def all_subscribed() -> bool:
                return len(channels_of(backend)) == 30

            wait_until(all_subscribed)
            ours = [client for client in pubsub_clients(topology) if client["name"] == name]
            assert [client["sub"] for client in ours] == ["30"]
            for number, task_id in enumerate(task_ids):
                backend.set_result(task_id, result(number))

            def all_found() -> bool:
                return len(found) == 30

            wait_until(all_found)
        assert [one.return_value for one in found] == list(range(30))


def test_result_stored_without_notification_is_found(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_result(f"{name}:other", result(7))
        raw = redis_of(topology).get(f"{name}:other")
        with BackgroundWait(backend, name) as waiting:
            # A worker of 1.2.4 stores results this way.
            redis_of(topology).set(name, raw)
            wait_until(waiting.done)
        assert waiting.values == {name: 7}


def test_missing_result_raises_timeout_and_keeps_the_others(topology: Topology, name: str) -> None:
    with opened(topology, "results", keep_results=False) as backend:
        backend.set_result(f"{name}:there", result(1))
        began = time.monotonic()
        with pytest.raises(TaskiqResultTimeoutError):
            backend.wait_results([f"{name}:there", f"{name}:missing"], timeout=0.3)
        assert time.monotonic() - began >= 0.3
        # The result that was stored wasn't returned, so it is kept.
        assert backend.wait_result(f"{name}:there").return_value == 1
        assert not backend.is_result_ready(f"{name}:there")
        assert backend._listener.get()._waiters == {}


def test_waiters_with_the_same_deadline_get_results_or_timeouts(
    topology: Topology, name: str
) -> None:
    """A round trip that is under way at the deadline doesn't count as an outage."""
    stored = result(7)
    with opened(topology, "results") as backend, opened(topology, "results") as writer:
        task_ids = [f"{name}:{number}" for number in range(60)]
        errors: list[Exception] = []

        def wait(task_id: str) -> None:
            try:
                assert backend.wait_result(task_id, 0.5) == stored
            except TaskiqResultTimeoutError as error:
                errors.append(error)

        together(*[partial(wait, task_id) for task_id in task_ids])
        assert len(errors) == 60
        errors.clear()
        writer.set_result(f"{name}:stored", stored)
        raw = redis_of(topology).get(f"{name}:stored")

        def many_wait() -> bool:
            return len(backend._listener.get()._waiters) >= 30

        def store() -> None:
            wait_until(many_wait)
            for task_id in task_ids:
                # Without a notification.
                redis_of(topology).set(task_id, raw)

        with Running(store):
            together(*[partial(backend.wait_result, task_id, LONG) for task_id in task_ids])


class CountingWaiter:
    """A waiter that counts how often waiters are compared."""

    comparisons = 0

    def __call__(self, key: str, published: bool) -> None:
        """Do nothing."""

    def __eq__(self, other: object) -> bool:
        CountingWaiter.comparisons += 1
        return self is other

    __hash__ = object.__hash__


def test_time_to_stop_waiting_for_one_result_grows_linearly() -> None:
    listener = result_waiters.ResultListener(Connection(SingleNode("redis://localhost:1")))
    # It doesn't connect then.
    listener.stop()
    waiters = [CountingWaiter() for _ in range(1000)]
    for waiter in waiters:
        listener.add(["key"], waiter)
    CountingWaiter.comparisons = 0
    for waiter in reversed(waiters):
        listener.remove(["key"], waiter)
    assert listener._waiters == {}
    assert CountingWaiter.comparisons < 10 * len(waiters)


def test_undecodable_result_ends_the_wait(topology: Topology, name: str) -> None:
    redis_of(topology).set(name, b"garbage")
    with opened(topology, "results") as backend:
        with pytest.raises(ResultDecodeError):
            backend.wait_result(name)
    redis_of(topology).delete(name)


def kill(node: Any, address: str) -> None:
    """Close a connection, if it is to this node."""
    with suppress(ResponseError):
        node.client_kill(address)


def test_closed_subscription_is_reopened(topology: Topology, name: str) -> None:
    with opened(topology, "results", client_name=name) as backend:
        with BackgroundWait(backend, name) as waiting:
            reader = backend._listener.get()
            cut = reader._subscription
            (ours,) = [client for client in pubsub_clients(topology) if client["name"] == name]
            on_all_nodes(topology, lambda node: kill(node, ours["addr"]))

            def is_resubscribed() -> bool:
                return reader._subscription not in (None, cut) and waiting.listens()

            wait_until(is_resubscribed)
            backend.set_result(name, result(1))
            wait_until(waiting.done)


def test_waiting_survives_a_server_restart(name: str) -> None:
    with ServerProcess() as server:
        with opened(server.topology, "results") as backend:
            with BackgroundWait(backend, name) as waiting:
                server.stop()
                server.start()
                backend.set_result(name, result(1))
                wait_until(waiting.done)


def test_subscription_ends_after_the_last_waiter(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "KEEP_OPEN", 0.1)
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    with opened(topology, "results") as backend:
        listener = backend._listener.get()

        def has_ended() -> bool:
            return listener._reader is None and listener._subscription is None

        for number in range(2):
            task_id = f"{name}:{number}"
            with BackgroundWait(backend, task_id) as waiting:
                backend.set_result(task_id, result(1))
                wait_until(waiting.done)
            wait_until(has_ended)


def create_user(node: Any, name: str) -> None:
    """Create a user without rights to any channel."""
    rules = {"reset": True, "keys": ["*"], "commands": ["+@all"], "channels": []}
    node.acl_setuser(name, enabled=True, passwords=["+secret"], reset_channels=True, **rules)


def test_user_without_subscribe_polls(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        with (
            opened(topology, "results", username=name, password="secret") as backend,
            opened(topology, "results") as writer,
        ):
            listener = backend._listener.get()
            found: list[Any] = []

            def wait() -> None:
                found.append(backend.wait_result(name, LONG))

            with Running(wait):

                def refused() -> bool:
                    return bool(listener.refused)

                wait_until(refused)
                writer.set_result(name, result(1))

                def result_is_found() -> bool:
                    return bool(found)

                wait_until(result_is_found)
        assert "Result notifications are off" in caplog.text
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


def test_user_is_notified_once_subscribe_is_granted(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "RETRY_REFUSED_AFTER", 0.5)
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        with opened(topology, "results", username=name, password="secret") as backend:
            listener = backend._listener.get()

            def is_refused() -> bool:
                with suppress(TaskiqResultTimeoutError):
                    backend.wait_result(name, 0.1)
                return listener._refused_until is not None

            wait_until(is_refused)
            on_all_nodes(
                topology, lambda node: node.acl_setuser(name, enabled=True, channels=["*"])
            )

            def may_try_again() -> bool:
                return not listener.refused

            wait_until(may_try_again)
            with BackgroundWait(backend, name) as waiting:
                assert waiting.listens()
                backend.set_result(name, result(1))
                wait_until(waiting.done)
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


def test_notifications_do_not_postpone_the_next_check(topology: Topology, name: str) -> None:
    waits: list[float] = []
    with opened(topology, "results") as backend:
        with BackgroundWait(backend, name) as waiting:
            listener = backend._listener.get()
            subscription = listener._subscription
            receive = subscription.receive

            def recording_receive(wait: float) -> Any:
                waits.append(wait)
                return receive(wait)

            subscription.receive = recording_receive

            def one_wait_was_shorter() -> bool:
                redis_of(topology).publish(backend._task_name(name), b"")
                return any(wait < result_waiters.CHECK_INTERVAL / 2 for wait in waits)

            wait_until(one_wait_was_shorter)
            backend.set_result(name, result(1))
            wait_until(waiting.done)
    assert all(wait <= result_waiters.CHECK_INTERVAL for wait in waits)


def test_waiter_polls_after_shutdown(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend, opened(topology, "results") as writer:
        with BackgroundWait(backend, name) as waiting:
            listener = backend._listener.get()
            backend.shutdown()
            # Longer than until the waiter's own next check.
            sleep(2 * result_waiters.CHECK_INTERVAL)
            assert listener._reader is None
            assert backend._listener.get()._reader is None
            writer.set_result(name, result(1))
            wait_until(waiting.done)


def test_shutdown_ends_the_subscription(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "KEEP_OPEN", LONG)
    backend = build(topology, "results")
    with BackgroundWait(backend, name) as waiting:
        listener = backend._listener.get()
        backend.set_result(name, result(1))
        wait_until(waiting.done)
    assert listener._subscription is not None
    backend.shutdown()
    assert listener._subscription is None
    assert listener._reader is None
