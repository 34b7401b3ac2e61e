"""Messages that are handed back when a worker stops, and what refused commands don't stop."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK, Consumer
from taskiq_redis._core.keys import delayed_key, workers_key
from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis._core.wire import StreamEntry
from tests._aio import collect, sleep, wait_until
from tests._async.pending import (
    LEASE,
    LONG_LEASE,
    consumers_of,
    leased_entry,
    leave_pending,
    pending_of,
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
from tests.servers import Topology

pytestmark = pytest.mark.anyio


@pytest.fixture
def _prefetching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers prefetch from the start; how much they do depends on how fast a machine is."""
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 10)


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
        hand_back, again = Consumer.hand_back, list[StreamEntry]()

        async def hand_back_and_fetch(*arguments: Any, **options: Any) -> None:
            await hand_back(*arguments, **options)
            again.append(await leased_entry(reader))

        first = await leased_entry(reader)
        # The lease thread would do the same.
        await keeper.stop()
        monkeypatch.setattr(Consumer, "hand_back", hand_back_and_fetch)
        (entry_id,) = pending_of(topology, name)
        keeper.receiver_done(first, failed=True)
        await keeper._hand_back_ended(broker._connection)
        assert again[0] is not first
        assert keeper.is_leased(again[0])
        assert pending_of(topology, name) == {entry_id: (broker.consumer_name, 2)}
        monkeypatch.undo()
        await broker._ack_generator(entry_id, name)()
        await reader.close()


@pytest.mark.usefixtures("_prefetching")
async def test_clean_stop_hands_back_prefetched_messages(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(20)]
    async with opened(topology, "stream", queue_name=name) as broker:
        for data in sent:
            await broker.kick(message(data))
        messages = broker.listen()
        got = [await data_of(await anext(messages))]
        assert len(pending_of(topology, name)) == 9
        await messages.aclose()
        left = pending_of(topology, name)
        assert len(left) == 9
        assert set(left.values()) == {(HANDED_BACK, 0)}
    assert consumers_of(topology, name) == set()
    async with Listener(build(topology, "stream", queue_name=name)) as next_worker:
        await wait_until(partial(next_worker.has, *sent[len(got) :]))


@pytest.mark.usefixtures("_prefetching")
async def test_shutdown_hands_back_messages_prefetched_by_open_listener(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name)
    for number in range(20):
        await broker.kick(message(b"%d" % number))
    messages = broker.listen()
    await data_of(await anext(messages))
    assert len(pending_of(topology, name)) == 9
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
    assert await collect(brokers[0].dead_letters(queue_name=f"{name}:1")) == []
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
