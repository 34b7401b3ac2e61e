# Generated from tests/_async/test_leases.py by scripts/unasync.py; edit that.

"""Leases on messages, claims of messages of dead workers, and dead letters."""

import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError
from taskiq import BrokerMessage, TaskiqMessage

from taskiq_redis._core.dead_letters import DEAD_LETTER_FIELDS
from taskiq_redis._core.keys import dead_letters_key, delayed_key, workers_key
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers.leases import HANDED_BACK
from taskiq_redis.exceptions import InvalidOptionError
from tests._sync.support import (
    Listener,
    build,
    call,
    data_of,
    message,
    on_all_nodes,
    opened,
    redis_of,
    result,
    take,
)
from tests._threads import TIMEOUT, sleep, together, wait_until
from tests.servers import ServerProcess, Topology

#: ms
LEASE = 600
#: ms; for leases that a busy machine must renew in time
LONG_LEASE = 3 * LEASE


def pending_of(topology: Topology, stream: str) -> dict[str, tuple[str, int]]:
    """Return the consumer and the delivery count of each pending entry."""
    rows = redis_of(topology).xpending_range(stream, "taskiq", "-", "+", 1000)
    return {
        row["message_id"].decode(): (row["consumer"].decode(), row["times_delivered"])
        for row in rows
    }


def consumers_of(topology: Topology, stream: str) -> set[str]:
    """Return the consumers of a stream, without the one that holds messages handed back."""
    consumers = redis_of(topology).xinfo_consumers(stream, "taskiq")
    return {consumer["name"].decode() for consumer in consumers} - {HANDED_BACK}


def leave_pending(
    topology: Topology,
    stream: str,
    consumer: str,
    *sent: bytes,
    idle: int = 10 * LEASE,
    deliveries: int = 1,
    lease: int | None = LEASE,
) -> list[str]:
    """Leave messages pending for a dead worker; with `lease=None`, for one of 1.2.4."""
    client = redis_of(topology)
    ids = [client.xadd(stream, {"data": data}).decode() for data in sent]
    if not client.exists(stream) or not client.xinfo_groups(stream):
        client.xgroup_create(stream, "taskiq", id="0")
    client.xreadgroup("taskiq", consumer, {stream: ">"})
    client.xclaim(stream, "taskiq", consumer, 0, ids, idle=idle, retrycount=deliveries)
    if lease is not None:
        seen = round(time.time() * 1000) - idle
        client.hset(workers_key(stream, "taskiq"), consumer, f"{lease} {seen}")
    return ids


def is_nothing_pending(topology: Topology, stream: str) -> bool:
    """Return whether all delivered messages are acknowledged."""
    return not pending_of(topology, stream)


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


def task_message(broker: Any, task_name: str, task_id: str) -> BrokerMessage:
    """Return the message of a task, as the broker's formatter builds it."""
    task = TaskiqMessage(task_id=task_id, task_name=task_name, labels={}, args=[], kwargs={})
    formatted: BrokerMessage = broker.formatter.dumps(task)
    return formatted


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
        keeper._hand_back_failed(broker._connection)
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
    assert "The receiver didn't acknowledge" in caplog.text
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
        give_back, again = keeper._give_back, list[StreamEntry]()

        def give_back_and_fetch(*arguments: Any, **options: Any) -> None:
            give_back(*arguments, **options)
            again.append(leased_entry(reader))

        first = leased_entry(reader)
        # The lease thread would do the same.
        keeper.stop()
        monkeypatch.setattr(keeper, "_give_back", give_back_and_fetch)
        (entry_id,) = pending_of(topology, name)
        keeper.receiver_done(first, failed=True)
        keeper._hand_back_failed(broker._connection)
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


def test_foreign_entries_among_dead_letters_are_tolerated(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    notes = dict.fromkeys(DEAD_LETTER_FIELDS, "x")
    client.xadd(dead_letters_key(name), notes)
    client.xadd(dead_letters_key(name), {"data": "foreign"})
    client.xadd(dead_letters_key(name), {"data": "ours", "more": "y", **notes})
    with opened(topology, "stream", queue_name=name) as broker:
        assert broker.requeue_dead_letters() == 2
    assert [fields for _, fields in client.xrange(name)] == [
        {b"data": b"foreign"},
        {b"data": b"ours", b"more": b"y"},
    ]
    assert client.xlen(dead_letters_key(name)) == 1


def test_worker_runs_one_suspected_poison_message_at_a_time(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(4)]
    leave_pending(topology, name, "dead", *sent, deliveries=2)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    with Listener(broker, acknowledge=False) as listener:
        for number in range(1, len(sent) + 1):
            wait_until(partial(has_received, listener, number))
            broker.kick(message(b"harmless"))
            wait_until(partial(has_received, listener, number, of=b"harmless"))
            assert len([data for data in listener.got if data in sent]) == number
            (suspect,) = [held for held in listener.held if held.data in sent]
            listener.held.remove(suspect)
            call(suspect.ack)
        assert sorted(data for data in listener.got if data in sent) == sent


def has_received(listener: Listener, count: int, of: bytes | None = None) -> bool:
    """Return whether `count` messages equal to `of`, or not "harmless", were received."""
    found = [data for data in listener.got if (data != b"harmless" if of is None else data == of)]
    return len(found) >= count


def test_message_with_too_many_deliveries_becomes_a_dead_letter(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        broker.with_result_backend(results)
        poison = task_message(broker, "bad:task", "id-1").message
        (entry_id,) = leave_pending(topology, name, "last", poison, deliveries=5)
        with Listener(broker) as listener:
            wait_until(partial(has_dead_letters, broker, 1))
            assert listener.got == []
            (letter,) = broker.dead_letters()
            assert (letter.data, letter.entry_id) == (poison, entry_id)
            assert (letter.deliveries, letter.consumer) == (5, "last")
            assert (letter.group, letter.queue_name) == ("taskiq", name)
            assert letter.sent_at <= letter.died_at
            stored = results.get_result("id-1")
            assert stored.is_err
            assert "5 workers received the task" in str(stored.error)
            assert redis_of(topology).xlen(name) == 0
            # Its delivery count starts again.
            assert broker.requeue_dead_letters(letter.id) == 1
            wait_until(partial(listener.has, poison))
            assert broker.dead_letters() == []
            assert not redis_of(topology).exists(dead_letters_key(name))
    assert "Added a dead letter" in caplog.text


def has_dead_letters(broker: Any, count: int) -> bool:
    """Return whether a broker's queue has `count` dead letters."""
    return len(broker.dead_letters()) == count


def test_dead_letter_does_not_overwrite_existing_result(topology: Topology, name: str) -> None:
    with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        broker.with_result_backend(results)
        sent = task_message(broker, "a:task", "id-1").message
        results.set_result("id-1", result(7))
        leave_pending(topology, name, "last", sent, deliveries=5)
        with Listener(broker):
            wait_until(partial(has_dead_letters, broker, 1))
        assert results.get_result("id-1").return_value == 7


def test_message_is_redelivered_without_limit_if_max_deliveries_is_none(
    topology: Topology, name: str
) -> None:
    leave_pending(topology, name, "dead", b"a", deliveries=50)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE, max_deliveries=None)
    with Listener(broker) as listener:
        wait_until(partial(listener.has, b"a"))
        assert broker.dead_letters() == []


def test_dead_letters_are_listed_requeued_and_purged(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(250)]
    leave_pending(topology, name, "dead", *sent, deliveries=1)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE, max_deliveries=1)
    with Listener(broker) as listener:

        def all_are_dead_letters() -> bool:
            return len(broker.dead_letters(limit=1000)) == len(sent)

        wait_until(all_are_dead_letters, timeout=60)
        assert listener.got == []
    letters = broker.dead_letters(limit=120)
    assert len({letter.data for letter in letters} & set(sent)) == 120
    assert len(broker.dead_letters()) == 100
    assert broker.purge_dead_letters(letters[0].id, letters[1].id, "1-1") == 2
    assert broker.requeue_dead_letters(letters[2].id, letters[0].id) == 1
    assert redis_of(topology).xlen(name) == 1
    assert broker.requeue_dead_letters() == 247
    assert redis_of(topology).xlen(name) == 248
    assert not redis_of(topology).exists(dead_letters_key(name))
    assert broker.purge_dead_letters(all=True) == 0
    for ids, everything in ((), False), (("1-1",), True):
        with pytest.raises(InvalidOptionError, match="`all=True` to delete all"):
            broker.purge_dead_letters(*ids, all=everything)
    assert broker.dead_letters(queue_name=f"{name}:other") == []
    broker.shutdown()


def test_dead_letter_stays_in_stream_for_another_group(topology: Topology, name: str) -> None:
    leave_pending(topology, name, "dead", b"a", deliveries=5)
    redis_of(topology).xgroup_create(name, "second", id="0")
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    with Listener(broker):
        wait_until(partial(has_dead_letters, broker, 1))
    assert redis_of(topology).xlen(name) == 1
