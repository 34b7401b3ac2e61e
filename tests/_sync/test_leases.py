# Generated from tests/_async/test_leases.py by scripts/unasync.py; edit that.

"""Leases on messages, claims of messages of dead workers, and dead letters."""

import gc
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from taskiq_redis._core.keys import delayed_key, workers_key
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers.leases import HANDED_BACK, RENEW
from tests._sync.pending import (
    LEASE,
    LONG_LEASE,
    consumers_of,
    is_nothing_pending,
    leave_pending,
    pending_of,
    task_message,
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
from tests._threads import TIMEOUT, sleep, together, wait_until
from tests.faults.proxy import HalfOpen, faulty_network
from tests.servers import ServerProcess, Topology


@pytest.mark.smoke
def test_lease_is_renewed_while_a_message_is_processed(topology: Topology, name: str) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    with Listener(build(topology, "stream", **options), acknowledge=False) as busy:
        busy.broker.kick(message(b"long"))
        wait_until(partial(busy.has, b"long"))
        with Listener(build(topology, "stream", **options)) as idle:
            sleep(2 * LONG_LEASE / 1000)
            assert idle.got == []
            ((holder, deliveries),) = pending_of(topology, name).values()
            assert (holder, deliveries) == (busy.broker.consumer_name, 1)
            call(busy.held[0].ack)
        assert pending_of(topology, name) == {}


def test_lease_is_renewed_if_a_connection_is_lost_without_being_closed(
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
        with Listener(busy, acknowledge=False) as listener:
            busy.kick(message(b"long"))
            wait_until(partial(listener.has, b"long"))
            lost.active = True

            def is_lost() -> int:
                return lost.injected["lose the connection"]

            wait_until(is_lost)
            with Listener(build(topology, "stream", **options)) as idle:
                sleep(2 * LONG_LEASE / 1000)
                assert idle.got == []
            assert list(pending_of(topology, name).values()) == [(busy.consumer_name, 1)]
            call(listener.held[0].ack)


def test_messages_of_dead_worker_are_claimed(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(5)]
    leave_pending(topology, name, "dead", *sent)
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, *sent))
        wait_until(partial(is_nothing_pending, topology, name))


def test_longer_lease_of_another_worker_is_respected(topology: Topology, name: str) -> None:
    leave_pending(topology, name, "long-lease", b"kept", idle=10 * LEASE, lease=1000 * LEASE)
    leave_pending(topology, name, "dead", b"left")
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, b"left"))
        sleep(LEASE / 1000)
        assert survivor.got == [b"left"]


def test_messages_of_1_2_4_worker_are_claimed_after_ten_minutes_with_new_count(
    topology: Topology, name: str
) -> None:
    leave_pending(topology, name, "old", b"kept", idle=590_000, lease=None, deliveries=9)
    leave_pending(topology, name, "older", b"left", idle=601_000, lease=None, deliveries=9)
    survivor = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    with Listener(survivor, acknowledge=False) as listener:
        wait_until(partial(listener.has, b"left"))
        sleep(LEASE / 1000)
        assert listener.got == [b"left"]
        assert sorted(pending_of(topology, name).values()) == sorted(
            [("old", 9), (survivor.consumer_name, 1)]
        )


def test_worker_claims_nothing_right_after_its_start(topology: Topology, name: str) -> None:
    leave_pending(topology, name, "frozen", b"a")
    began = time.monotonic()
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as survivor:
        wait_until(partial(survivor.has, b"a"))
    assert time.monotonic() - began >= LEASE / 2000


def test_claim_that_reaches_redis_late_claims_nothing(name: str) -> None:
    with ServerProcess() as server:
        topology = server.topology
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        reader = broker._open_reader()
        slot: Any = reader._source

        def may_claim() -> int:
            return slot._keeper.may_claim_until(name)

        def resume_later() -> None:
            sleep(2 * LEASE / 1000)
            server.resume()

        wait_until(may_claim)
        # This lease seems to have ended when the claim is sent, not when it arrives.
        (entry_id,) = leave_pending(topology, name, "busy", b"a", idle=0)
        server.pause()
        claimed, _ = together(partial(slot._claimer.claim, slot._client, 10), resume_later)
        assert claimed == []
        assert pending_of(topology, name) == {entry_id: ("busy", 1)}
        reader.close()
        broker.shutdown()


def test_worker_without_current_registration_claims_nothing(topology: Topology, name: str) -> None:
    # As after a failover: leases whose renewals were not replicated seem to have ended.
    with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        reader = broker._open_reader()
        slot: Any = reader._source

        def may_claim() -> int:
            return slot._keeper.may_claim_until(name)

        wait_until(may_claim)
        # From here on, it renews nothing by itself.
        slot._keeper.stop()
        (entry_id,) = leave_pending(topology, name, "busy", b"a")
        seen = round(time.time() * 1000) - LEASE
        redis_of(topology).hset(
            workers_key(name, "taskiq"), broker.consumer_name, f"{LEASE} {seen}"
        )
        assert slot._claimer.claim(slot._client, 10) == []
        # After the next renewal, it may not claim either.
        slot._keeper._step(broker._connection)
        assert not slot._keeper.may_claim_until(name)
        assert slot._claimer.claim(slot._client, 10) == []
        assert pending_of(topology, name) == {entry_id: ("busy", 1)}
        reader.close()


def test_lost_lease_is_logged_and_message_can_still_be_acknowledged(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    with Listener(broker, acknowledge=False) as listener:
        sent = task_message(broker, "mail:send", "id-7")
        broker.kick(sent)
        wait_until(partial(listener.has, sent.message))
        (entry_id,) = pending_of(topology, name)
        redis_of(topology).xclaim(name, "taskiq", "thief", 0, [entry_id])

        def is_logged() -> bool:
            return "'thief' has claimed it" in caplog.text

        wait_until(is_logged)
        assert "The lease on the task 'mail:send' with the id 'id-7'" in caplog.text
        assert pending_of(topology, name)[entry_id][0] == "thief"
        call(listener.held[0].ack)
        assert pending_of(topology, name) == {}


def test_message_of_failed_receiver_is_handed_back_at_once(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = leased_entry(reader)
        keeper.receiver_done(entry, failed=True)
        # The lease thread does the same with the next renewal.
        keeper._hand_back_ended(broker._connection)
        assert list(pending_of(topology, name).values()) == [(HANDED_BACK, 1)]
        assert not keeper.is_leased(entry)
        reader.close()
    assert "The receiver failed on" in caplog.text


def leased_entry(reader: Any) -> StreamEntry:
    """Fetch a message, and return its leased entry."""
    deadline = time.monotonic() + TIMEOUT
    while not reader.fetch():
        assert time.monotonic() < deadline
    (entry,) = reader._source._keeper._table._leased.values()
    found: StreamEntry = entry
    return found


def test_message_discarded_by_the_receiver_is_handed_back_uncounted(
    topology: Topology, name: str
) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        keeper: Any = reader._source._keeper
        # Nothing keeps the message, and nothing has read its `ack`.
        entry = leased_entry(reader)
        gc.collect()
        keeper._hand_back_ended(broker._connection)
        assert list(pending_of(topology, name).values()) == [(HANDED_BACK, 0)]
        assert not keeper.is_leased(entry)
        reader.close()


def test_unacknowledged_message_is_redelivered_after_its_lease(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    broker.kick(message(b"a"))
    reader = broker._open_reader()
    keeper: Any = reader._source._keeper
    entry = leased_entry(reader)
    sleep(2 * LEASE / 1000)
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 1)]
    keeper.receiver_done(entry, failed=False)

    def is_logged() -> bool:
        return "The receiver didn't acknowledge" in caplog.text

    wait_until(is_logged)
    again = leased_entry(reader)
    assert (again.id, again.fields) == (entry.id, entry.fields)
    assert list(pending_of(topology, name).values()) == [(broker.consumer_name, 2)]
    # The end of the earlier delivery doesn't affect the new lease.
    keeper.receiver_done(entry, failed=True)
    assert keeper.is_leased(again)
    broker._ack_generator(entry.id, name)()
    assert pending_of(topology, name) == {}
    reader.close()
    broker.shutdown()


@pytest.mark.parametrize("by", ["acknowledged", "claimed"])
def test_entry_that_is_not_pending_any_more_is_forgotten(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        keeper: Any = reader._source._keeper
        entry = leased_entry(reader)
        if by == "acknowledged":
            # Without this package, as subclasses of 1.2.4 do.
            redis_of(topology).xack(name, "taskiq", entry.id)
        else:
            redis_of(topology).xclaim(name, "taskiq", "other", 0, [entry.id])
        keeper.receiver_done(entry, failed=False)

        def is_forgotten() -> bool:
            return not keeper._table.unacked(name)

        wait_until(is_forgotten)
        assert "didn't acknowledge" not in caplog.text
        reader.close()


def test_reading_ack_while_listening_does_not_end_the_lease(topology: Topology, name: str) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    broker = build(topology, "stream", **options)
    broker.is_worker_process = True
    broker.kick(message(b"a"))
    messages = broker.listen()

    def read_ack() -> Any:
        received = next(messages)
        return received.ack

    # In a task of its own, as taskiq's receiver listens.
    (acknowledge,) = together(read_ack)
    with Listener(build(topology, "stream", **options)) as idle:
        sleep(2 * LONG_LEASE / 1000)
        assert idle.got == []
    call(acknowledge)
    assert pending_of(topology, name) == {}
    messages.close()
    broker.shutdown()


def test_acknowledgement_after_the_receiver_is_done_counts(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        reader = broker._open_reader()
        entry = leased_entry(reader)
        reader._source._keeper.receiver_done(entry, failed=False)
        broker._ack_generator(entry.id, name)()
        assert pending_of(topology, name) == {}
        reader.close()


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
        give_back, again = keeper._hand_back, list[StreamEntry]()

        def give_back_and_fetch(*arguments: Any, **options: Any) -> None:
            give_back(*arguments, **options)
            again.append(leased_entry(reader))

        first = leased_entry(reader)
        # The lease thread would do the same.
        keeper.stop()
        monkeypatch.setattr(keeper, "_hand_back", give_back_and_fetch)
        (entry_id,) = pending_of(topology, name)
        keeper.receiver_done(first, failed=True)
        keeper._hand_back_ended(broker._connection)
        assert again[0] is not first
        assert keeper.is_leased(again[0])
        assert pending_of(topology, name) == {entry_id: (broker.consumer_name, 2)}
        monkeypatch.undo()
        broker._ack_generator(entry_id, name)()
        reader.close()


def test_clean_stop_hands_back_prefetched_messages(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(60)]
    with opened(topology, "stream", queue_name=name) as broker:
        for data in sent:
            broker.kick(message(data))
        messages = broker.listen()
        got = [data_of(next(messages))]
        # Until more messages are fetched than yielded.
        while not pending_of(topology, name):
            got.append(data_of(next(messages)))
        messages.close()
        left = pending_of(topology, name)
        assert left
        assert set(left.values()) == {(HANDED_BACK, 0)}
        assert len(got) + len(left) <= len(sent)
    assert consumers_of(topology, name) == set()
    with Listener(build(topology, "stream", queue_name=name)) as next_worker:
        wait_until(partial(next_worker.has, *sent[len(got) :]))


def test_shutdown_hands_back_messages_prefetched_by_open_listener(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name)
    for number in range(60):
        broker.kick(message(b"%d" % number))
    messages = broker.listen()
    data_of(next(messages))
    while not pending_of(topology, name):
        data_of(next(messages))
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
    assert brokers[0].dead_letters(queue_name=f"{name}:1") == []
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
