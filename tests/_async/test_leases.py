"""Leases on messages, claims of messages of dead workers, and dead letters."""

import gc
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from taskiq_redis._async.brokers.leases import HANDED_BACK, RENEW
from taskiq_redis._core.keys import delayed_key, workers_key
from taskiq_redis._core.wire import StreamEntry
from tests._aio import TIMEOUT, sleep, together, wait_until
from tests._async.pending import (
    LEASE,
    LONG_LEASE,
    consumers_of,
    is_nothing_pending,
    leave_pending,
    pending_of,
    task_message,
)
from tests._async.support import (
    Listener,
    build,
    call,
    data_of,
    message,
    on_all_nodes,
    opened,
    redis_of,
    take,
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
        # From here on, it renews nothing by itself.
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


async def test_message_of_failed_receiver_is_handed_back_at_once(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = await leased_entry(reader)
        keeper.receiver_done(entry, failed=True)
        # The lease thread does the same with the next renewal.
        await keeper._hand_back_ended(broker._connection)
        assert list(pending_of(topology, name).values()) == [(HANDED_BACK, 1)]
        assert not keeper.is_leased(entry)
        await reader.close()
    assert "The receiver failed on" in caplog.text


async def leased_entry(reader: Any) -> StreamEntry:
    """Fetch a message, and return its leased entry."""
    deadline = time.monotonic() + TIMEOUT
    while not await reader.fetch():
        assert time.monotonic() < deadline
    (entry,) = reader._source._keeper._table._leased.values()
    found: StreamEntry = entry
    return found


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
        assert list(pending_of(topology, name).values()) == [(HANDED_BACK, 0)]
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


async def test_clean_stop_keeps_delivery_count_of_unacknowledged_message(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        reader._source._keeper.receiver_done(await leased_entry(reader), failed=False)
        await reader.close()
        assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]


async def test_entry_can_be_redelivered_while_it_is_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        give_back, again = keeper._hand_back, list[StreamEntry]()

        async def give_back_and_fetch(*arguments: Any, **options: Any) -> None:
            await give_back(*arguments, **options)
            again.append(await leased_entry(reader))

        first = await leased_entry(reader)
        # The lease thread would do the same.
        await keeper.stop()
        monkeypatch.setattr(keeper, "_hand_back", give_back_and_fetch)
        (entry_id,) = pending_of(topology, name)
        keeper.receiver_done(first, failed=True)
        await keeper._hand_back_ended(broker._connection)
        assert again[0] is not first
        assert keeper.is_leased(again[0])
        assert pending_of(topology, name) == {entry_id: (broker.consumer_name, 2)}
        monkeypatch.undo()
        await broker._ack_generator(entry_id, name)()
        await reader.close()


async def test_clean_stop_hands_back_prefetched_messages(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(60)]
    async with opened(topology, "stream", queue_name=name) as broker:
        for data in sent:
            await broker.kick(message(data))
        messages = broker.listen()
        got = [await data_of(await anext(messages))]
        # Until more messages are fetched than yielded.
        while not pending_of(topology, name):
            got.append(await data_of(await anext(messages)))
        await messages.aclose()
        left = pending_of(topology, name)
        assert left
        assert set(left.values()) == {(HANDED_BACK, 0)}
        assert len(got) + len(left) <= len(sent)
    assert consumers_of(topology, name) == set()
    async with Listener(build(topology, "stream", queue_name=name)) as next_worker:
        await wait_until(partial(next_worker.has, *sent[len(got) :]))


async def test_shutdown_hands_back_messages_prefetched_by_open_listener(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name)
    for number in range(60):
        await broker.kick(message(b"%d" % number))
    messages = broker.listen()
    await data_of(await anext(messages))
    while not pending_of(topology, name):
        await data_of(await anext(messages))
    await broker.shutdown()
    assert {holder for holder, _ in pending_of(topology, name).values()} == {HANDED_BACK}
    with pytest.raises(StopAsyncIteration):
        await anext(messages)
    await broker.shutdown()


async def test_stop_hands_back_nothing_of_other_worker_with_same_name(
    topology: Topology, name: str
) -> None:
    options: dict[str, Any] = {"queue_name": name, "consumer_name": "same"}
    async with opened(topology, "stream", **options) as first:
        await first.kick(message(b"a"))
        await take(first, 1, acknowledge=False)
        async with opened(topology, "stream", **options) as second:
            await second.kick(message(b"b"))
            assert await take(second, 1) == [b"b"]
        assert list(pending_of(topology, name).values()) == [("same", 1)]


async def test_message_in_progress_stays_pending_after_shutdown(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        await broker.kick(message(b"a"))
        await take(broker, 1, acknowledge=False)
        assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    assert consumers_of(topology, name) == {broker.consumer_name}


async def test_message_in_progress_is_never_handed_back(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        reader = await broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = await leased_entry(reader)
        before = pending_of(topology, name)
        # As if this worker had claimed the entry from itself.
        keeper.add_fetched([entry])
        await reader.close()
        assert pending_of(topology, name) == before
        await broker._ack_generator(entry.id, name)()


async def test_refused_move_of_due_messages_does_not_stop_claims(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(delayed_key(name), "a string")
    await leave_pending(topology, name, "dead", b"a")
    async with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        await wait_until(partial(survivor.has, b"a"))
    assert "Moving due messages" in caplog.text


async def test_refused_claim_on_one_stream_does_not_stop_claims_on_another(
    topology: Topology, name: str
) -> None:
    broken = f"{{{name}}}:broken"
    stream = f"{{{name}}}"
    await leave_pending(topology, stream, "dead", b"a", deliveries=2)
    options: dict[str, Any] = {"queue_name": stream, "idle_timeout": LEASE}
    async with opened(topology, "stream", **options, additional_streams={broken: ">"}) as broker:
        reader = await broker._open_reader()
        slot: Any = reader._source

        async def may_claim() -> int:
            return slot._keeper.may_claim_until(stream)

        await wait_until(may_claim)
        redis_of(topology).delete(broken)
        redis_of(topology).set(broken, "a string")
        claimed: list[Any] = []

        async def is_claimed() -> bool:
            # Whichever stream comes first, as soon as the entry has been idle for long enough.
            with suppress(ResponseError):
                claimed.extend(await slot._claimer.claim(slot._client, 10))
            return bool(claimed)

        await wait_until(is_claimed)
        assert [fetched.entry.fields["data"] for fetched in claimed] == [b"a"]
        redis_of(topology).delete(broken)
        await reader.close()


async def test_refused_renewal_on_one_stream_ends_no_lease_on_another(
    topology: Topology, name: str
) -> None:
    broken, stream = f"{{{name}}}:broken", f"{{{name}}}"
    options: dict[str, Any] = {"queue_name": broken, "idle_timeout": LONG_LEASE}
    options["additional_streams"] = {stream: ">"}
    async with Listener(build(topology, "stream", **options), acknowledge=False) as busy:
        await busy.broker.kick(message(b"a", queue_name=stream))
        await wait_until(partial(busy.has, b"a"))
        redis_of(topology).delete(workers_key(broken, "taskiq"))
        redis_of(topology).set(workers_key(broken, "taskiq"), "a string")
        only_stream: dict[str, Any] = {"queue_name": stream, "idle_timeout": LONG_LEASE}
        async with Listener(build(topology, "stream", **only_stream)) as idle:
            await sleep(2 * LONG_LEASE / 1000)
            assert idle.got == []
        redis_of(topology).delete(workers_key(broken, "taskiq"))
        await call(busy.held[0].ack)


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_busy_workers_do_not_claim_prefetched_messages_from_each_other(
    topology: Topology, name: str
) -> None:
    others = {f"{name}:{number}": ">" for number in range(3)}
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LEASE}
    brokers = [
        build(topology, "stream", **options, additional_streams=others, max_deliveries=3)
        for _ in range(3)
    ]
    listener_states = [broker.listen() for broker in brokers]
    held = []
    for messages in listener_states:
        await brokers[0].kick(message(b"long"))
        held.append(await anext(messages))
    # For a while, no worker asks for another message.
    await brokers[0].kick(message(b"harmless", queue_name=f"{name}:1"))
    await sleep(8 * LEASE / 1000)
    for received in held:
        await call(received.ack)
    assert await brokers[0].dead_letters(queue_name=f"{name}:1") == []
    received = await anext(listener_states[0])
    assert await data_of(received) == b"harmless"
    for messages, broker in zip(listener_states, brokers, strict=True):
        await messages.aclose()
        await broker.shutdown()


async def test_user_without_scripts_receives_messages(topology: Topology, name: str) -> None:
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": ["*"]}
    categories = ["+@all", "-@scripting"]
    on_all_nodes(topology, lambda node: node.acl_setuser(name, categories=categories, **rules))
    sent = [b"%d" % number for number in range(30)]
    async with opened(topology, "stream", queue_name=name) as sender:
        for data in sent:
            await sender.kick(message(data))
    login = {"username": name, "password": "any"}
    async with opened(topology, "stream", queue_name=name, idle_timeout=LEASE, **login) as broker:
        messages = broker.listen()
        got: list[bytes] = []
        while len(got) < len(sent):
            got.append(await data_of(await anext(messages)))
            if len(got) == 20:
                await sleep(2 * LEASE / 1000)
        await messages.aclose()
    assert got == sent
    on_all_nodes(topology, lambda node: node.acl_deluser(name))
