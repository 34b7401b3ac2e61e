# Generated from tests/_async/test_unknown_tasks.py by scripts/unasync.py; edit that.

"""Messages of tasks that a worker doesn't know: others get them, and later they are dead letters."""

from functools import partial
from typing import Any

import pytest

from taskiq_redis import Signer
from taskiq_redis._core import unknown_tasks as unknown_entries
from taskiq_redis._core.keys import dead_letters_key, delayed_key, unknown_tasks_key
from taskiq_redis._core.messages import is_task_unknown
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers import claims, stream_reader, unknown_tasks as unknown_messages
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._sync.brokers.stream_reader import read_group
from taskiq_redis.exceptions import UndeclaredTaskError
from tests._sync.pending import is_nothing_pending, leave_pending, pending_of, task_message
from tests._sync.support import Listener, build, call, message, opened, redis_of
from tests._threads import collect, sleep, wait_until
from tests.servers import Topology

#: where others of these tests cover all topologies
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)

#: ms; nothing is claimed in this time, because its worker seems to be dead
LEASE = 300_000


def build_worker(topology: Topology, name: str, mechanism: str = "stream", **options: Any) -> Any:
    """Return a broker of a worker process that knows no task."""
    if mechanism == "stream":
        options["idle_timeout"] = LEASE
    broker = build(topology, mechanism, queue_name=name, **options)
    broker.is_worker_process = True
    return broker


def refuse(messages: Any) -> bytes:
    """Acknowledge a message as taskiq's receiver does if it doesn't know the task."""
    received: Any = next(messages)
    is_task_unknown.set(True)
    call(received.ack)
    assert not is_task_unknown.get()
    data: bytes = received.data
    return data


def test_refused_message_is_handed_back_uncounted_and_run_by_another_worker(
    topology: Topology, name: str
) -> None:
    broker = build_worker(topology, name)
    sent = [task_message(broker, "other:task", f"id-{number}").message for number in range(3)]
    for data in sent:
        broker.kick(message(data))
    messages = broker.listen()
    assert sorted([refuse(messages) for _ in sent]) == sorted(sent)
    assert set(pending_of(topology, name).values()) == {(HANDED_BACK, 0)}
    with Listener(build(topology, "stream", queue_name=name, idle_timeout=LEASE)) as other:
        wait_until(partial(other.has, *sent))
        wait_until(partial(is_nothing_pending, topology, name))
    messages.close()
    broker.shutdown()


@on_one_server
def test_worker_does_not_claim_a_message_that_it_has_refused_for_a_moment(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than this test takes.
    monkeypatch.setattr(unknown_entries, "PAUSE", 3600.0)
    broker = build_worker(topology, name)
    broker.kick(task_message(broker, "other:task", "id"))
    reader = broker._open_reader()
    slot: Any = reader._source
    held: list[Any] = []

    def has_fetched() -> bool:
        held.extend(reader.fetch())
        return bool(held)

    wait_until(has_fetched)
    is_task_unknown.set(True)
    call(held[0].ack)
    for _ in range(3):
        assert slot._claimer.claim(slot._client, 10) == []
    assert set(pending_of(topology, name).values()) == {(HANDED_BACK, 0)}
    monkeypatch.setattr(slot._keeper.refused_claims(name), "_paused_until", 0.0)
    (claimed,) = slot._claimer.claim(slot._client, 10)
    assert (claimed.former_owner, claimed.failures) == (HANDED_BACK, 0)
    reader.close()
    broker.shutdown()


@on_one_server
def test_scan_of_many_entries_does_not_wait_for_new_ones(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SCAN_LIMIT", 2)
    monkeypatch.setattr(unknown_entries, "PAUSE", 3600.0)
    blocks: list[int | None] = []

    def read(*arguments: Any, **options: Any) -> Any:
        blocks.append(options["block"])
        return read_group(*arguments, **options)

    leave_pending(topology, name, HANDED_BACK, *[b"a"] * 5, idle=unknown_entries.REFUSED_IDLE)
    broker = build_worker(topology, name)
    reader = broker._open_reader()
    slot: Any = reader._source
    slot._keeper.refused_claims(name).record_refusal(is_new=True)
    monkeypatch.setattr(stream_reader, "read_group", read)
    for _ in range(3):
        assert reader.fetch() == []
    # The scan has three parts, and after the last one the reader waits for the next scan.
    assert blocks[:2] == [None, None]
    assert blocks[2] is not None
    reader.close()
    broker.shutdown()


@on_one_server
def test_refusals_keep_the_time_of_the_first_one(topology: Topology, name: str) -> None:
    for number in range(2):
        broker = build_worker(topology, name)
        if number == 0:
            broker.kick(task_message(broker, "other:task", "id"))
        messages = broker.listen()
        refuse(messages)
        messages.close()
        broker.shutdown()
        sleep(0.1 * (1 - number))
    (entry,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)
    assert entry["time_since_delivered"] >= unknown_entries.REFUSED_IDLE + 100


def test_message_that_no_worker_knows_in_time_becomes_a_dead_letter(
    topology: Topology, name: str
) -> None:
    with opened(topology, "results", prefix_str=name) as results:
        brokers = [build_worker(topology, name, unknown_task_timeout=0.1) for _ in range(2)]
        unknown = task_message(brokers[0], "other:task", "id-1").message
        brokers[0].kick(message(unknown))
        listeners = [broker.listen() for broker in brokers]
        for broker, messages in zip(brokers, listeners, strict=True):
            broker.with_result_backend(results)
            refuse(messages)
            # The time since the first worker has refused it counts.
            sleep(0.2)
        (letter,) = collect(brokers[0].dead_letters())
        assert letter.data == unknown
        assert letter.reason == "no worker knew the task 'other:task' for 0.1 s"
        assert letter.deliveries == 0
        stored = results.get_result("id-1")
        assert isinstance(stored.error, UndeclaredTaskError)
        assert stored.error.task_name == "other:task"
        assert redis_of(topology).xlen(name) == 0
        assert brokers[0].requeue_dead_letters(letter.id) == 1
        # A waiter gets the result of the new run.
        assert not results.is_result_ready("id-1")
        for broker, messages in zip(brokers, listeners, strict=True):
            messages.close()
            broker.shutdown()


def test_message_of_a_list_is_put_back_until_a_worker_knows_the_task(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_messages, "DELAY", 0.01)
    broker = build_worker(topology, name, "list")
    signer = Signer({"key": b"k" * 32})
    broker.with_signer(signer)
    unknown = task_message(broker, "other:task", "id").message
    broker.kick(message(unknown))
    messages = broker.listen()
    for _ in range(2):
        assert refuse(messages) == unknown
    assert redis_of(topology).zcard(delayed_key(name)) == 1
    assert redis_of(topology).zcard(unknown_tasks_key(name)) == 1
    assert redis_of(topology).pttl(unknown_tasks_key(name)) > 0
    messages.close()
    broker.shutdown()
    other = build(topology, "list", queue_name=name).with_signer(signer)
    with Listener(other) as listener:
        wait_until(partial(listener.has, unknown))
    assert redis_of(topology).zcard(delayed_key(name)) == 0


def test_message_of_a_list_that_no_worker_knows_in_time_becomes_a_dead_letter(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unknown_messages, "DELAY", 0.01)
    with opened(topology, "results", prefix_str=name) as results:
        brokers = [build_worker(topology, name, "list", unknown_task_timeout=0.1) for _ in range(2)]
        unknown = task_message(brokers[0], "other:task", "id-1").message
        brokers[0].kick(message(unknown))
        for broker in brokers:
            broker.with_result_backend(results)
            messages = broker.listen()
            refuse(messages)
            messages.close()
            # The time since the first worker has refused it counts.
            sleep(0.2)
        (letter,) = collect(brokers[0].dead_letters())
        assert letter.data == unknown
        assert letter.reason == "no worker knew the task 'other:task' for 0.1 s"
        assert "the task 'other:task' with the id 'id-1' is not run" in caplog.text
        stored = results.get_result("id-1")
        assert isinstance(stored.error, UndeclaredTaskError)
        assert brokers[0].requeue_dead_letters(letter.id) == 1
        # The time begins anew.
        messages = brokers[0].listen()
        refuse(messages)
        messages.close()
        assert collect(brokers[0].dead_letters()) == []
        for broker in brokers:
            broker.shutdown()


@on_one_server
def test_requeued_message_of_a_list_may_be_refused_like_a_new_one(
    topology: Topology, name: str
) -> None:
    client, key = redis_of(topology), unknown_tasks_key(name)
    broker = build_worker(topology, name, "list")
    broker.kick(task_message(broker, "other:task", "id"))
    messages = broker.listen()
    sent = refuse(messages)
    # After that, another worker has run the task, which has failed and was kept.
    (digest,) = client.zrange(key, 0, -1)
    client.zadd(key, {digest: 0, b"other": 1})
    client.delete(delayed_key(name))
    client.xadd(dead_letters_key(name), {"data": sent, "dead-reason": "it has failed"})
    assert broker.requeue_dead_letters() == 1
    assert client.zrange(key, 0, -1) == [b"other"]
    messages.close()
    broker.shutdown()


@on_one_server
def test_known_task_is_acknowledged_although_another_one_was_looked_for(
    topology: Topology, name: str
) -> None:
    broker = build_worker(topology, name)
    broker.register_task(call, task_name="known")
    for data in (task_message(broker, "known", "id").message, b"not a message"):
        broker.kick(message(data))
    messages = broker.listen()
    for _ in range(2):
        refuse(messages)
    assert pending_of(topology, name) == {}
    assert collect(broker.dead_letters()) == []
    messages.close()
    broker.shutdown()


def test_stop_of_a_worker_hands_back_tasks_that_it_cuts_short(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build_worker(topology, name)
    unknown = task_message(broker, "a:task", "id").message
    broker.kick(message(unknown))
    messages = broker.listen()
    running: Any = next(messages)
    ((entry_id, holder),) = pending_of(topology, name).items()
    assert holder == (broker.consumer_name, 1)
    broker.shutdown()
    assert pending_of(topology, name) == {entry_id: (HANDED_BACK, 0)}
    assert "stops before 1 tasks are done, such as the task 'a:task'" in caplog.text
    # It is done all the same, for example in a thread.
    call(running.ack)
    assert pending_of(topology, name) == {}
    messages.close()
    broker.shutdown()


@on_one_server
@pytest.mark.parametrize("stops", [True, False])
def test_cancelled_receiver_is_a_failed_delivery_unless_the_worker_stops(
    topology: Topology, name: str, stops: bool
) -> None:
    broker = build_worker(topology, name)
    broker.kick(message(b"a"))
    reader = broker._open_reader()
    keeper: Any = reader._source._keeper
    held: list[Any] = []

    def has_fetched() -> bool:
        held.extend(reader.fetch())
        return bool(held)

    wait_until(has_fetched)
    (entry,) = keeper._table._leased.values()
    assert isinstance(entry, StreamEntry)
    keeper.receiver_done(entry, failed=True, cancelled=True)
    if not stops:
        # As if the worker went on for some time.
        keeper._table._cancelled.clear()
        keeper._hand_back_ended(broker._connection)
    reader.close()
    broker.shutdown()
    assert list(pending_of(topology, name).values()) == [(HANDED_BACK, 0 if stops else 1)]
