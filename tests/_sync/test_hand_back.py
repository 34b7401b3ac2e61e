# Generated from tests/_async/test_hand_back.py by scripts/unasync.py; edit that.

"""Messages that are handed back when a worker stops, and what refused commands don't stop."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from taskiq_redis._core.keys import delayed_key, workers_key
from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK, Consumer
from tests._sync.pending import (
    LEASE,
    LONG_LEASE,
    consumers_of,
    leased_entry,
    leave_pending,
    pending_of,
)
from tests._sync.support import (
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
from tests._threads import collect, sleep, wait_until
from tests.servers import Topology


@pytest.fixture
def _prefetching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers prefetch from the start; how much they do depends on how fast a machine is."""
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 10)


def test_clean_stop_keeps_delivery_count_of_unacknowledged_message(
    topology: Topology, name: str
) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        reader._source._keeper.receiver_done(leased_entry(reader), failed=False)
        reader.close()
        assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]


def test_entry_can_be_redelivered_while_it_is_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        keeper: Any = reader._source._keeper
        hand_back, again = Consumer.hand_back, list[StreamEntry]()

        def hand_back_and_fetch(*arguments: Any, **options: Any) -> None:
            hand_back(*arguments, **options)
            again.append(leased_entry(reader))

        first = leased_entry(reader)
        # The lease thread would do the same.
        keeper.stop()
        monkeypatch.setattr(Consumer, "hand_back", hand_back_and_fetch)
        (entry_id,) = pending_of(topology, name)
        keeper.receiver_done(first, failed=True)
        keeper._hand_back_ended(broker._connection)
        assert again[0] is not first
        assert keeper.is_leased(again[0])
        assert pending_of(topology, name) == {entry_id: (broker.consumer_name, 2)}
        monkeypatch.undo()
        broker._ack_generator(entry_id, name)()
        reader.close()


@pytest.mark.usefixtures("_prefetching")
def test_clean_stop_hands_back_prefetched_messages(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(20)]
    with opened(topology, "stream", queue_name=name) as broker:
        for data in sent:
            broker.kick(message(data))
        messages = broker.listen()
        got = [data_of(next(messages))]
        assert len(pending_of(topology, name)) == 9
        messages.close()
        left = pending_of(topology, name)
        assert len(left) == 9
        assert set(left.values()) == {(HANDED_BACK, 0)}
    assert consumers_of(topology, name) == set()
    with Listener(build(topology, "stream", queue_name=name)) as next_worker:
        wait_until(partial(next_worker.has, *sent[len(got) :]))


@pytest.mark.usefixtures("_prefetching")
def test_shutdown_hands_back_messages_prefetched_by_open_listener(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name)
    for number in range(20):
        broker.kick(message(b"%d" % number))
    messages = broker.listen()
    data_of(next(messages))
    assert len(pending_of(topology, name)) == 9
    broker.shutdown()
    assert {holder for holder, _ in pending_of(topology, name).values()} == {HANDED_BACK}
    with pytest.raises(StopIteration):
        next(messages)
    broker.shutdown()


def test_stop_hands_back_nothing_of_other_worker_with_same_name(
    topology: Topology, name: str
) -> None:
    options: dict[str, Any] = {"queue_name": name, "consumer_name": "same"}
    with opened(topology, "stream", **options) as first:
        first.kick(message(b"a"))
        take(first, 1, acknowledge=False)
        with opened(topology, "stream", **options) as second:
            second.kick(message(b"b"))
            assert take(second, 1) == [b"b"]
        assert list(pending_of(topology, name).values()) == [("same", 1)]


def test_message_in_progress_stays_pending_after_shutdown(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        broker.kick(message(b"a"))
        take(broker, 1, acknowledge=False)
        assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    assert consumers_of(topology, name) == {broker.consumer_name}


def test_message_in_progress_is_never_handed_back(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = leased_entry(reader)
        before = pending_of(topology, name)
        # As if this worker had claimed the entry from itself.
        keeper.add_fetched([entry])
        reader.close()
        assert pending_of(topology, name) == before
        broker._ack_generator(entry.id, name)()


def test_refused_move_of_due_messages_does_not_stop_claims(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(delayed_key(name), "a string")
    leave_pending(topology, name, "dead", b"a")
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, b"a"))
    assert "Moving due messages" in caplog.text


def test_refused_claim_on_one_stream_does_not_stop_claims_on_another(
    topology: Topology, name: str
) -> None:
    broken = f"{{{name}}}:broken"
    stream = f"{{{name}}}"
    leave_pending(topology, stream, "dead", b"a", deliveries=2)
    options: dict[str, Any] = {"queue_name": stream, "idle_timeout": LEASE}
    with opened(topology, "stream", **options, additional_streams={broken: ">"}) as broker:
        reader = broker._open_reader()
        slot: Any = reader._source

        def may_claim() -> int:
            return slot._keeper.may_claim_until(stream)

        wait_until(may_claim)
        redis_of(topology).delete(broken)
        redis_of(topology).set(broken, "a string")
        claimed: list[Any] = []

        def is_claimed() -> bool:
            # Whichever stream comes first, as soon as the entry has been idle for long enough.
            with suppress(ResponseError):
                claimed.extend(slot._claimer.claim(slot._client, 10))
            return bool(claimed)

        wait_until(is_claimed)
        assert [fetched.entry.fields["data"] for fetched in claimed] == [b"a"]
        redis_of(topology).delete(broken)
        reader.close()


def test_refused_renewal_on_one_stream_ends_no_lease_on_another(
    topology: Topology, name: str
) -> None:
    broken, stream = f"{{{name}}}:broken", f"{{{name}}}"
    options: dict[str, Any] = {"queue_name": broken, "idle_timeout": LONG_LEASE}
    options["additional_streams"] = {stream: ">"}
    with Listener(build(topology, "stream", **options), acknowledge=False) as busy:
        busy.broker.kick(message(b"a", queue_name=stream))
        wait_until(partial(busy.has, b"a"))
        redis_of(topology).delete(workers_key(broken, "taskiq"))
        redis_of(topology).set(workers_key(broken, "taskiq"), "a string")
        only_stream: dict[str, Any] = {"queue_name": stream, "idle_timeout": LONG_LEASE}
        with Listener(build(topology, "stream", **only_stream)) as idle:
            sleep(2 * LONG_LEASE / 1000)
            assert idle.got == []
        redis_of(topology).delete(workers_key(broken, "taskiq"))
        call(busy.held[0].ack)


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_busy_workers_do_not_claim_prefetched_messages_from_each_other(
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
        brokers[0].kick(message(b"long"))
        held.append(next(messages))
    # For a while, no worker asks for another message.
    brokers[0].kick(message(b"harmless", queue_name=f"{name}:1"))
    sleep(8 * LEASE / 1000)
    for received in held:
        call(received.ack)
    assert collect(brokers[0].dead_letters(queue_name=f"{name}:1")) == []
    received = next(listener_states[0])
    assert data_of(received) == b"harmless"
    for messages, broker in zip(listener_states, brokers, strict=True):
        messages.close()
        broker.shutdown()


def test_user_without_scripts_receives_messages(topology: Topology, name: str) -> None:
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": ["*"]}
    categories = ["+@all", "-@scripting"]
    on_all_nodes(topology, lambda node: node.acl_setuser(name, categories=categories, **rules))
    sent = [b"%d" % number for number in range(30)]
    with opened(topology, "stream", queue_name=name) as sender:
        for data in sent:
            sender.kick(message(data))
    login = {"username": name, "password": "any"}
    with opened(topology, "stream", queue_name=name, idle_timeout=LEASE, **login) as broker:
        messages = broker.listen()
        got: list[bytes] = []
        while len(got) < len(sent):
            got.append(data_of(next(messages)))
            if len(got) == 20:
                sleep(2 * LEASE / 1000)
        messages.close()
    assert got == sent
    on_all_nodes(topology, lambda node: node.acl_deluser(name))
