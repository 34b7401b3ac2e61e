# Generated from tests/_async/test_consumers.py by scripts/unasync.py; edit that.

"""Consumers of a group: their names, their registration, and their removal."""

import time
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.keys import workers_key
from taskiq_redis._sync.brokers.leases import RENEW
from tests._sync.pending import LEASE, consumers_of, leave_pending, pending_of
from tests._sync.support import Listener, build, call, message, opened, redis_of, take
from tests._threads import together, wait_until
from tests.servers import Topology


def test_shutdown_removes_consumer_and_registration(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        take(broker, 1)
    assert consumers_of(topology, name) == set()
    assert redis_of(topology).hgetall(workers_key(name, "taskiq")) == {}


def test_dead_consumers_are_removed_when_they_hold_nothing(topology: Topology, name: str) -> None:
    leave_pending(topology, name, "dead", b"a", idle=10_000_000)
    leave_pending(topology, name, "holder", b"b", idle=10, lease=10_000_000)
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, b"a"))
    # The next worker removes dead consumers when it starts.
    leave_pending(topology, name, "dead", b"c", idle=10_000_000)
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, b"c"))

    def is_removed() -> bool:
        return consumers_of(topology, name) == {"holder"}

    with Listener(build(topology, "stream", queue_name=name, consumer_name="me")) as last:
        last.broker.kick(message(b"d"))
        wait_until(partial(last.has, b"d"))
    wait_until(is_removed)
    assert set(redis_of(topology).hgetall(workers_key(name, "taskiq"))) == {b"holder"}


def test_listeners_of_one_broker_are_separate_consumers(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name, consumer_name="me")
    first, second = broker.listen(), broker.listen()
    held = []
    for messages in (first, second):
        broker.kick(message(b"a"))
        held.append(next(messages))
    holders = {holder for holder, _ in pending_of(topology, name).values()}
    assert len(holders) == 2
    assert "me" in holders
    # Closing one listener hands back nothing of the other.
    second.close()
    assert {holder for holder, _ in pending_of(topology, name).values()} == holders
    first.close()
    for received in held:
        call(received.ack)
    broker.shutdown()
    assert consumers_of(topology, name) == set()


def test_listeners_started_together_have_unique_consumer_names(
    topology: Topology, name: str
) -> None:
    others = {f"{name}:{number}": ">" for number in range(2)}
    with opened(topology, "stream", queue_name=name, additional_streams=others) as broker:
        readers = together(*[broker._open_reader] * 3)
        names = [reader._listener_state.consumer_name for reader in readers]
        assert len(set(names)) == 3
        assert broker.consumer_name in names
        for reader in readers:
            reader.close()
        # The name is free again when all readers are closed.
        again = broker._open_reader()
        assert again._listener_state.consumer_name == broker.consumer_name
        again.close()


def test_stale_registrations_are_not_counted_as_workers(topology: Topology, name: str) -> None:
    seen = round(time.time() * 1000) - 60_000
    stale = {f"gone-{number}": f"1000 {seen}" for number in range(400)}
    redis_of(topology).hset(workers_key(name, "taskiq"), mapping=stale)
    with opened(topology, "stream", queue_name=name) as broker:
        reader = broker._open_reader()
        slot: Any = reader._source
        assert slot._claimer.claim(slot._client, 10) == []
        assert slot._claimer.workers == 1
        reader.close()


@pytest.mark.parametrize(
    "rest", ["", " 1700000000000 42 2.0.0 a host"], ids=["two values", "six values"]
)
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_registrations_of_both_forms_are_read(topology: Topology, name: str, rest: str) -> None:
    client, key = redis_of(topology), workers_key(name, "taskiq")
    now, lease = round(time.time() * 1000), 100_000
    registered = {
        "alive": f"{lease} {now}{rest}",
        "dead": f"{lease} {now - 4 * lease}{rest}",
        "gone": f"{lease} {now - 20 * lease}{rest}",
    }
    client.hset(key, mapping=registered)
    with opened(topology, "stream", queue_name=name) as broker:
        reader = broker._open_reader()
        slot: Any = reader._source
        assert slot._claimer.claim(slot._client, 10) == []
        assert slot._claimer.workers == 2

        def is_swept() -> bool:
            return not client.hexists(key, "gone")

        wait_until(is_swept)
        assert client.hexists(key, "dead")
        arguments = ["taskiq", "alive", lease, 60_000, 0, now, "1 2.0.0 host"]
        reply = broker._connection.run_script(RENEW, [name, key], arguments)
        assert reply[1] == now
        assert client.hget(key, "alive") == f"{lease} {reply[0]} {now} 1 2.0.0 host".encode()
        reader.close()
