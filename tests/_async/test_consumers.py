"""Consumers of a group: their names, their registration, and their removal."""

import time
from functools import partial
from typing import Any

import pytest

from taskiq_redis._async.brokers.leases import RENEW
from taskiq_redis._core.keys import workers_key
from tests._aio import together, wait_until
from tests._async.pending import (
    LEASE,
    consumers_of,
    leave_pending,
    pending_of,
)
from tests._async.support import (
    Listener,
    build,
    call,
    message,
    opened,
    redis_of,
    take,
)
from tests.servers import Topology

pytestmark = pytest.mark.anyio


async def test_shutdown_removes_consumer_and_registration(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        await take(broker, 1)
    assert consumers_of(topology, name) == set()
    assert redis_of(topology).hgetall(workers_key(name, "taskiq")) == {}


async def test_dead_consumers_are_removed_when_they_hold_nothing(
    topology: Topology, name: str
) -> None:
    await leave_pending(topology, name, "dead", b"a", idle=10_000_000)
    await leave_pending(topology, name, "holder", b"b", idle=10, lease=10_000_000)
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, b"a"))
    # The next worker removes dead consumers when it starts.
    await leave_pending(topology, name, "dead", b"c", idle=10_000_000)
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, b"c"))

    async def is_removed() -> bool:
        return consumers_of(topology, name) == {"holder"}

    async with Listener(build(topology, "stream", queue_name=name, consumer_name="me")) as last:
        await last.broker.kick(message(b"d"))
        await wait_until(partial(last.has, b"d"))
    await wait_until(is_removed)
    assert set(redis_of(topology).hgetall(workers_key(name, "taskiq"))) == {b"holder"}


async def test_listeners_of_one_broker_are_separate_consumers(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name, consumer_name="me")
    first, second = broker.listen(), broker.listen()
    held = []
    for messages in (first, second):
        await broker.kick(message(b"a"))
        held.append(await anext(messages))
    holders = {holder for holder, _ in pending_of(topology, name).values()}
    assert len(holders) == 2
    assert "me" in holders
    # Closing one listener hands back nothing of the other.
    await second.aclose()
    assert {holder for holder, _ in pending_of(topology, name).values()} == holders
    await first.aclose()
    for received in held:
        await call(received.ack)
    await broker.shutdown()
    assert consumers_of(topology, name) == set()


async def test_listeners_started_together_have_unique_consumer_names(
    topology: Topology, name: str
) -> None:
    others = {f"{name}:{number}": ">" for number in range(2)}
    async with opened(topology, "stream", queue_name=name, additional_streams=others) as broker:
        readers = await together(*[broker._open_reader] * 3)
        names = [reader._listener_state.consumer_name for reader in readers]
        assert len(set(names)) == 3
        assert broker.consumer_name in names
        for reader in readers:
            await reader.close()
        # The name is free again when all readers are closed.
        again = await broker._open_reader()
        assert again._listener_state.consumer_name == broker.consumer_name
        await again.close()


async def test_stale_registrations_are_not_counted_as_workers(
    topology: Topology, name: str
) -> None:
    seen = round(time.time() * 1000) - 60_000
    stale = {f"gone-{number}": f"1000 {seen}" for number in range(400)}
    redis_of(topology).hset(workers_key(name, "taskiq"), mapping=stale)
    async with opened(topology, "stream", queue_name=name) as broker:
        reader = await broker._open_reader()
        slot: Any = reader._source
        assert await slot._claimer.claim(slot._client, 10) == []
        assert slot._claimer.workers == 1
        await reader.close()


@pytest.mark.parametrize(
    "rest", ["", " 1700000000000 42 2.0.0 a host"], ids=["two values", "six values"]
)
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_registrations_of_both_forms_are_read(
    topology: Topology, name: str, rest: str
) -> None:
    client, key = redis_of(topology), workers_key(name, "taskiq")
    now, lease = round(time.time() * 1000), 100_000
    registered = {
        "alive": f"{lease} {now}{rest}",
        "dead": f"{lease} {now - 4 * lease}{rest}",
        "gone": f"{lease} {now - 20 * lease}{rest}",
    }
    client.hset(key, mapping=registered)
    async with opened(topology, "stream", queue_name=name) as broker:
        reader = await broker._open_reader()
        slot: Any = reader._source
        assert await slot._claimer.claim(slot._client, 10) == []
        assert slot._claimer.workers == 2

        async def is_swept() -> bool:
            return not client.hexists(key, "gone")

        await wait_until(is_swept)
        assert client.hexists(key, "dead")
        arguments = ["taskiq", "alive", lease, 60_000, 0, now, "1 2.0.0 host"]
        reply = await broker._connection.run_script(RENEW, [name, key], arguments)
        assert reply[1] == now
        assert client.hget(key, "alive") == f"{lease} {reply[0]} {now} 1 2.0.0 host".encode()
        await reader.close()
