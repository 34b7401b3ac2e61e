"""Leases on messages, claims of messages of dead workers, and dead letters."""

import copy
import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from taskiq import AckableMessage

from taskiq_redis._async.brokers.leases import HANDED_BACK, RENEW
from taskiq_redis._core.keys import workers_key
from tests._aio import sleep, together, wait_until
from tests._async.pending import (
    LEASE,
    LONG_LEASE,
    is_nothing_pending,
    leased_entry,
    leave_pending,
    pending_of,
    task_message,
)
from tests._async.support import (
    Listener,
    build,
    call,
    message,
    opened,
    redis_of,
)
from tests.faults.proxy import HalfOpen, faulty_network
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio


@pytest.mark.smoke
async def test_lease_is_renewed_while_a_message_is_processed(topology: Topology, name: str) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    async with Listener(build(topology, "stream", **options), acknowledge=False) as busy:
        await busy.broker.kick(message(b"long"))
        await wait_until(partial(busy.has, b"long"))
        async with Listener(build(topology, "stream", **options)) as idle:
            await sleep(2 * LONG_LEASE / 1000)
            assert idle.got == []
            ((holder, deliveries),) = pending_of(topology, name).values()
            assert (holder, deliveries) == (busy.broker.consumer_name, 1)
            await call(busy.held[0].ack)
        assert pending_of(topology, name) == {}


async def test_lease_is_renewed_if_a_connection_is_lost_without_being_closed(
    topology: Topology, name: str
) -> None:
    lost = HalfOpen(RENEW.sha)
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    with faulty_network(topology, lost) as proxies:
        # Also if the user lets other commands wait for ever.
        through: dict[str, Any] = {**options, "socket_timeout": None}
        if topology.kind == "cluster":
            through["address_remap"] = proxies.remap
        busy = build(proxies.topology, "stream", **through)
        async with Listener(busy, acknowledge=False) as listener:
            await busy.kick(message(b"long"))
            await wait_until(partial(listener.has, b"long"))
            lost.active = True

            async def is_lost() -> int:
                return lost.injected["lose the connection"]

            await wait_until(is_lost)
            async with Listener(build(topology, "stream", **options)) as idle:
                await sleep(2 * LONG_LEASE / 1000)
                assert idle.got == []
            assert list(pending_of(topology, name).values()) == [(busy.consumer_name, 1)]
            await call(listener.held[0].ack)


async def test_messages_of_dead_worker_are_claimed(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(5)]
    await leave_pending(topology, name, "dead", *sent)
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, *sent))
        await wait_until(partial(is_nothing_pending, topology, name))


async def test_longer_lease_of_another_worker_is_respected(topology: Topology, name: str) -> None:
    await leave_pending(topology, name, "long-lease", b"kept", idle=10 * LEASE, lease=1000 * LEASE)
    await leave_pending(topology, name, "dead", b"left")
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, b"left"))
        await sleep(LEASE / 1000)
        assert survivor.got == [b"left"]


async def test_messages_of_1_2_4_worker_are_claimed_after_ten_minutes_with_new_count(
    topology: Topology, name: str
) -> None:
    await leave_pending(topology, name, "old", b"kept", idle=590_000, lease=None, deliveries=9)
    await leave_pending(topology, name, "older", b"left", idle=601_000, lease=None, deliveries=9)
    survivor = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    async with Listener(survivor, acknowledge=False) as listener:
        await wait_until(partial(listener.has, b"left"))
        await sleep(LEASE / 1000)
        assert listener.got == [b"left"]
        assert sorted(pending_of(topology, name).values()) == sorted(
            [("old", 9), (survivor.consumer_name, 1)]
        )


async def test_worker_claims_nothing_right_after_its_start(topology: Topology, name: str) -> None:
    await leave_pending(topology, name, "frozen", b"a")
    began = time.monotonic()
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, b"a"))
    assert time.monotonic() - began >= LEASE / 2000


async def test_claim_that_reaches_redis_late_claims_nothing(name: str) -> None:
    with ServerProcess() as server:
        topology = server.topology
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        reader = await broker._open_reader()
        slot: Any = reader._source

        async def may_claim() -> int:
            return slot._keeper.may_claim_until(name)

        async def resume_later() -> None:
            await sleep(2 * LEASE / 1000)
            server.resume()

        await wait_until(may_claim)
        # This lease seems to have ended when the claim is sent, not when it arrives.
        (entry_id,) = await leave_pending(topology, name, "busy", b"a", idle=0)
        server.pause()
        claimed, _ = await together(partial(slot._claimer.claim, slot._client, 10), resume_later)
        assert claimed == []
        assert pending_of(topology, name) == {entry_id: ("busy", 1)}
        await reader.close()
        await broker.shutdown()


async def test_worker_without_current_registration_claims_nothing(
    topology: Topology, name: str
) -> None:
    # As after a failover: leases whose renewals were not replicated seem to have ended.
    async with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        reader = await broker._open_reader()
        slot: Any = reader._source

        async def may_claim() -> int:
            return slot._keeper.may_claim_until(name)

        await wait_until(may_claim)
        # The lease thread ends, so nothing renews its registration.
        await slot._keeper.stop()
        (entry_id,) = await leave_pending(topology, name, "busy", b"a")
        seen = round(time.time() * 1000) - LEASE
        redis_of(topology).hset(
            workers_key(name, "taskiq"), broker.consumer_name, f"{LEASE} {seen}"
        )
        assert await slot._claimer.claim(slot._client, 10) == []
        # After the next renewal, it may not claim either.
        await slot._keeper._step(broker._connection)
        assert not slot._keeper.may_claim_until(name)
        assert await slot._claimer.claim(slot._client, 10) == []
        assert pending_of(topology, name) == {entry_id: ("busy", 1)}
        await reader.close()


async def test_lost_lease_is_logged_and_message_can_still_be_acknowledged(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    async with Listener(broker, acknowledge=False) as listener:
        sent = task_message(broker, "mail:send", "id-7")
        await broker.kick(sent)
        await wait_until(partial(listener.has, sent.message))
        (entry_id,) = pending_of(topology, name)
        redis_of(topology).xclaim(name, "taskiq", "thief", 0, [entry_id])

        async def is_logged() -> bool:
            return "'thief' has claimed it" in caplog.text

        await wait_until(is_logged)
        assert "The lease on the task 'mail:send' with the id 'id-7'" in caplog.text
        assert pending_of(topology, name)[entry_id][0] == "thief"
        await call(listener.held[0].ack)
        assert pending_of(topology, name) == {}


#: what other code does with a message that it hands on
LOOKS: list[Callable[[Any], Any]] = [
    lambda received: received if hasattr(received, "ack") else None,
    lambda received: received if received.ack else None,
    lambda received: received.ack,
    lambda received: AckableMessage(data=received.data, ack=received.ack),
    lambda received: AckableMessage(**received.model_dump()),
    lambda received: received.model_copy(update={"data": b"changed"}),
    copy.copy,
]


async def look_at(received: Any, look: Callable[[Any], Any]) -> Any:
    """Return what other code hands on."""
    return look(received)


async def is_handed_back(topology: Topology, stream: str, failures: int) -> bool:
    """Return whether the only pending entry is handed back, with that many failed deliveries."""
    return list(pending_of(topology, stream).values()) == [(HANDED_BACK, failures)]


async def test_message_of_failed_receiver_is_handed_back_at_once(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = await leased_entry(reader)
        keeper.receiver_done(entry, failed=True)
        # The lease thread does the same with each renewal, and may be about to do it.
        await keeper._hand_back_ended(broker._connection)
        await wait_until(partial(is_handed_back, topology, name, failures=1))
        assert not keeper.is_leased(entry)
        await reader.close()
    assert "The receiver failed on" in caplog.text


async def test_message_discarded_by_the_receiver_is_handed_back_uncounted(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        # Nothing keeps the message, and nothing has read its `ack`.
        entry = await leased_entry(reader)
        gc.collect()
        await keeper._hand_back_ended(broker._connection)
        await wait_until(partial(is_handed_back, topology, name, failures=0))
        assert not keeper.is_leased(entry)
        await reader.close()


async def test_unacknowledged_message_is_redelivered_after_its_lease(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    await broker.kick(message(b"a"))
    reader = await broker._open_reader()
    keeper: Any = reader._source._keeper
    entry = await leased_entry(reader)
    await sleep(2 * LEASE / 1000)
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    keeper.receiver_done(entry, failed=False)

    async def is_logged() -> bool:
        return "The receiver didn't acknowledge" in caplog.text

    await wait_until(is_logged)
    again = await leased_entry(reader)
    assert (again.id, again.fields) == (entry.id, entry.fields)
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 2)]
    # The end of the earlier delivery doesn't affect the new lease.
    keeper.receiver_done(entry, failed=True)
    assert keeper.is_leased(again)
    await broker._ack_generator(entry.id, name)()
    assert pending_of(topology, name) == {}
    await reader.close()
    await broker.shutdown()


@pytest.mark.parametrize("by", ["acknowledged", "claimed"])
async def test_entry_that_is_not_pending_any_more_is_forgotten(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    async with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = await leased_entry(reader)
        if by == "acknowledged":
            # Without this package, as subclasses of 1.2.4 do.
            redis_of(topology).xack(name, "taskiq", entry.id)
        else:
            redis_of(topology).xclaim(name, "taskiq", "other", 0, [entry.id])
        keeper.receiver_done(entry, failed=False)

        async def is_forgotten() -> bool:
            return not keeper._table.unacked(name)

        await wait_until(is_forgotten)
        assert "didn't acknowledge" not in caplog.text
        await reader.close()


async def test_reading_ack_while_listening_does_not_end_the_lease(
    topology: Topology, name: str
) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    broker = build(topology, "stream", **options)
    broker.is_worker_process = True
    await broker.kick(message(b"a"))
    messages = broker.listen()

    async def read_ack() -> Any:
        received = await anext(messages)
        return received.ack

    # In a task of its own, as taskiq's receiver listens.
    (acknowledge,) = await together(read_ack)
    async with Listener(build(topology, "stream", **options)) as idle:
        await sleep(2 * LONG_LEASE / 1000)
        assert idle.got == []
    await call(acknowledge)
    assert pending_of(topology, name) == {}
    await messages.aclose()
    await broker.shutdown()


@pytest.mark.parametrize("is_worker_process", [False, True])
async def test_messages_that_other_code_looks_at_stay_leased(
    topology: Topology, name: str, is_worker_process: bool
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = is_worker_process
        await broker.kick_many([message(b"a") for _ in LOOKS])
        reader = await broker._open_reader()
        kept: list[Any] = []
        while len(kept) < len(LOOKS):
            for received in await reader.fetch():
                # In a task of its own, whose end must not end the lease.
                kept += await together(partial(look_at, received, LOOKS[len(kept)]))
        del received
        gc.collect()
        await reader._source._keeper._hand_back_ended(broker._connection)
        table = reader._source._keeper._table
        assert len(table.leased(name)) == len(LOOKS)
        assert table.unacked(name) == []
        for each in kept:
            await call(getattr(each, "ack", each))
        assert pending_of(topology, name) == {}
        assert len(table) == 0
        await reader.close()


async def test_message_that_was_read_and_dropped_is_redelivered_after_its_lease(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        await broker.kick_many([message(b"a"), message(b"b")])
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        for received in await reader.fetch():
            kept = AckableMessage(data=received.data, ack=received.ack)
        del received
        gc.collect()
        await keeper._hand_back_ended(broker._connection)
        (entry_id,) = keeper._table.leased(name)
        del kept
        gc.collect()
        await keeper._hand_back_ended(broker._connection)
        assert keeper._table.leased(name) == []
        assert keeper._table.unacked(name) == [entry_id]
        await reader.close()


async def test_acknowledgement_after_the_receiver_is_done_counts(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        entry = await leased_entry(reader)
        reader._source._keeper.receiver_done(entry, failed=False)
        await broker._ack_generator(entry.id, name)()
        assert pending_of(topology, name) == {}
        await reader.close()
