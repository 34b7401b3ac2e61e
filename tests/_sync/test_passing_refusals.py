# Generated from tests/_async/test_passing_refusals.py by scripts/unasync.py; edit that.

"""What Redis refuses for a short time is waited out, or tried again."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core import refusals
from taskiq_redis._core.keys import workers_key
from taskiq_redis._sync.brokers import leases
from taskiq_redis._sync.schedules import claims
from tests._sync.schedules import BOTH, PAST, schedule
from tests._sync.support import (
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    redis_of,
    result,
    take,
)
from tests._threads import TIMEOUT, sleep, together, wait_until
from tests.servers import ServerProcess, Topology

#: rules of a user, who may do everything
ALL = ("+@all", "~*", "&*")
#: the same without scripts, and without XACKDEL, which not every server knows
STREAM_COMMANDS = ("+xadd", "+xreadgroup", "+xgroup", "+xinfo", "+xpending", "+xack")
NO_SCRIPTS = (*ALL, "-eval", "-evalsha", "-@stream", *STREAM_COMMANDS)


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scripts be tried again soon."""
    monkeypatch.setattr(refusals, "MIN_REFUSED_PAUSE", 0.1)
    monkeypatch.setattr(refusals, "MAX_REFUSED_PAUSE", 0.2)


@pytest.fixture
def full_server() -> Iterator[ServerProcess]:
    """A server that `fill` fills."""
    with ServerProcess() as server:
        yield server


def fill(server: ServerProcess, full: bool = True) -> None:
    """Let a server refuse whatever needs memory, or no longer."""
    redis_of(server.topology).config_set("maxmemory", 1 if full else 0)


def later(call: Callable[[], Any]) -> None:
    """Call a function when others have failed for a while."""
    sleep(0.5)
    call()


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("mechanism", ["list", "stream"])
def test_messages_are_sent_exactly_once_again(
    topology: Topology, name: str, mechanism: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "taskiq_redis")
    options = {"queue_name": name, **user(*NO_SCRIPTS)}
    with opened(topology, mechanism, **options) as broker:
        broker.kick(message(b"a"))
        sleep(0.2)
        broker.kick(message(b"a"))
        assert caplog.text.count("by plain commands") == 1
        user(*ALL)

        def is_back() -> bool:
            broker.kick(message(b"a"))
            return "sent exactly once again" in caplog.text

        wait_until(is_back)
        assert not broker._producer.get()._refusal.active


@pytest.mark.usefixtures("_short_pauses")
def test_waiters_are_notified_again(
    topology: Topology, name: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "taskiq_redis")
    with opened(topology, "results", prefix_str=name, **user(*NO_SCRIPTS)) as backend:
        backend.set_result("id", result(1))
        assert caplog.text.count("notifications are off") == 1
        user(*ALL)

        def is_back() -> bool:
            backend.set_result("id", result(1))
            return "notifications are on again" in caplog.text

        wait_until(is_back)


@pytest.mark.usefixtures("_short_pauses")
def test_acknowledged_entries_are_deleted_again(
    topology: Topology, name: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "taskiq_redis")
    options = {"queue_name": name, **user(*NO_SCRIPTS)}
    with opened(topology, "stream", queue_name=name) as sender:
        with Listener(build(topology, "stream", **options)) as listener:
            sender.kick(message(b"kept"))
            wait_until(partial(listener.has, b"kept"))
            assert redis_of(topology).xlen(name) == 1
            user(*ALL)

            def is_back() -> bool:
                sender.kick(message(b"a"))
                return "are deleted again" in caplog.text

            wait_until(is_back)
        assert sender.trim() > 0


def test_worker_starts_while_server_is_full(full_server: ServerProcess, name: str) -> None:
    topology = full_server.topology
    with opened(topology, "stream", queue_name=name) as sender:
        sender.kick(message(b"first"))
        assert take(sender, 1) == [b"first"]
        for _ in range(5):
            sender.kick(message(b"a"))
        fill(full_server)
        worker = build(topology, "stream", queue_name=name)
        worker.is_worker_process = True
        worker.startup()
        with Listener(worker) as listener:
            wait_until(partial(listener.has, *[b"a"] * 5))
        fill(full_server, full=False)
        assert redis_of(topology).xlen(name) == 0


#: ms; an idle time that no entry reaches in a test
LONG_IDLE = 1_000_000


def test_leases_are_renewed_while_server_is_full(
    full_server: ServerProcess,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topology = full_server.topology
    # A busy machine may take longer, which is no refusal.
    monkeypatch.setattr(leases, "renewal_timeout", lambda lease: TIMEOUT)
    caplog.set_level(logging.WARNING, "taskiq_redis")
    broker = build(topology, "stream", queue_name=name, idle_timeout=1500)
    with Listener(broker, acknowledge=False) as listener:
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        fill(full_server)
        workers = redis_of(topology).hgetall(workers_key(name, "taskiq"))
        make_idle(topology, broker)
        wait_until(partial(is_renewed, topology, name))

        def is_registered_again() -> bool:
            return bool(redis_of(topology).hgetall(workers_key(name, "taskiq")) != workers)

        wait_until(is_registered_again)
        assert "Renewing leases" not in caplog.text


def test_leases_are_renewed_if_the_worker_cannot_be_registered(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=1500)
    with Listener(broker, acknowledge=False) as listener:
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        redis_of(topology).delete(workers_key(name, "taskiq"))
        redis_of(topology).set(workers_key(name, "taskiq"), "other")
        make_idle(topology, broker)
        wait_until(partial(is_renewed, topology, name))


def make_idle(topology: Topology, broker: Any) -> None:
    """Let the lease of the only pending entry look as if it was never renewed."""
    redis, name = redis_of(topology), broker.queue_name
    (row,) = redis.xpending_range(name, "taskiq", "-", "+", 10)
    redis.xclaim(
        name, "taskiq", broker.consumer_name, 0, [row["message_id"]], idle=LONG_IDLE, justid=True
    )


def is_renewed(topology: Topology, name: str) -> bool:
    """Return whether the lease of the only pending entry was renewed since `make_idle`."""
    (row,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)
    return bool(row["time_since_delivered"] < LONG_IDLE)


@BOTH
@pytest.mark.parametrize("when", [{"cron": "* * * * *"}, {"time": PAST}], ids=["cron", "once"])
def test_schedule_is_sent_once_while_server_is_full(
    full_server: ServerProcess, prefix: str, mechanism: str, when: dict[str, Any]
) -> None:
    with opened(full_server.topology, mechanism, prefix=prefix) as source:
        source.add_schedule(schedule(**when))
        (due,) = source.get_schedules()
        fill(full_server)
        source.pre_send(due)
        redis, key = redis_of(full_server.topology), source._keys.claims
        claimed = redis.hgetall(key)

        def is_kept() -> bool:
            source._claims._renew(claims.LEASE, list(source._claims._held.values()))
            return bool(redis.hgetall(key) != claimed)

        wait_until(is_kept)
        source.post_send(due)
        assert not redis.exists(key)


def test_result_waits_for_memory(full_server: ServerProcess, name: str) -> None:
    with opened(full_server.topology, "results", prefix_str=name) as backend:
        backend.set_result("before", result(0))
        fill(full_server)
        together(
            *[partial(backend.set_result, str(number), result(number)) for number in range(20)],
            partial(later, partial(fill, full_server, full=False)),
        )
        assert len(backend.get_results([str(number) for number in range(20)])) == 20


@pytest.mark.parametrize("rules", [("+@connection", "+cluster", "+command", "~*"), ("off", *ALL)])
def test_result_waits_for_user(
    topology: Topology, name: str, user: Any, rules: tuple[str, ...]
) -> None:
    with opened(topology, "results", prefix_str=name, **user(*ALL)) as backend:
        backend.set_result("before", result(0))
        user(*rules)
        on_all_nodes(topology, lambda node: node.execute_command("CLIENT", "KILL", "USER", name))
        together(
            *[partial(backend.set_result, str(number), result(number)) for number in range(5)],
            partial(later, partial(user, *ALL)),
        )
        assert len(backend.get_results([str(number) for number in range(5)])) == 5


@pytest.mark.parametrize("rules", [("+@connection", "+cluster", "+command", "~*"), ("off", *ALL)])
def test_acknowledgement_waits_for_user(
    topology: Topology, name: str, user: Any, rules: tuple[str, ...]
) -> None:
    broker = build(topology, "stream", queue_name=name, **user(*ALL))
    with Listener(broker, acknowledge=False) as listener:
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        user(*rules)
        on_all_nodes(topology, lambda node: node.execute_command("CLIENT", "KILL", "USER", name))
        together(listener.held[0].ack, partial(later, partial(user, *ALL)))
        assert redis_of(topology).xpending(name, "taskiq")["pending"] == 0
