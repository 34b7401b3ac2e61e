# Generated from tests/_async/test_pausing.py by scripts/unasync.py; edit that.

"""Paused queues: workers fetch nothing from them, and go on when they are resumed."""

import time
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.keys import delayed_key, paused_key
from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis._sync.brokers import delays, stream_reader
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK, Consumer
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis.exceptions import InvalidOptionError, ServerUnavailableError
from tests._sync.pending import LONG_LEASE, leave_pending, pending_of
from tests._sync.support import Listener, build, call, data_of, length, message, opened, redis_of
from tests._threads import wait_until
from tests.servers import ServerProcess, Topology

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers look more often whether their queue is paused."""
    monkeypatch.setattr(delays, "INTERVAL", 0.05)


def poll_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker check whether its queue is paused before each message that it hands over."""
    for constant in ("INTERVAL", "INTERVAL_PER_WORKER", "OVERDUE"):
        monkeypatch.setattr(delays, constant, -1)


def until_polled(topology: Topology, broker: Any, queue_name: str) -> None:
    """Wait until the only worker of a queue has checked whether it is paused.

    The same script moves a delayed message, which stays in the queue if it is paused.
    """
    broker.kick(message(b"moved", queue_name=queue_name, delay=0.001, _delayed="True"))

    def is_moved() -> bool:
        return not redis_of(topology).exists(delayed_key(queue_name))

    wait_until(is_moved)


@pytest.mark.smoke
@QUEUES
def test_worker_fetches_nothing_while_its_queue_is_paused(
    topology: Topology, name: str, mechanism: str
) -> None:
    with Listener(build(topology, mechanism, queue_name=name)) as listener:
        broker = listener.broker
        broker.kick(message(b"before"))
        wait_until(partial(listener.has, b"before"))
        broker.pause()
        until_polled(topology, broker, name)
        broker.kick(message(b"meanwhile"))
        until_polled(topology, broker, name)
        assert listener.got == [b"before"]
        assert length(topology, mechanism, name) == 3
        broker.resume()
        wait_until(partial(listener.has, b"before", b"moved", b"meanwhile", b"moved"))


@QUEUES
def test_pausing_and_resuming_say_what_they_did(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name="other") as broker:
        assert not broker.resume(name)
        assert broker.pause(name)
        since = redis_of(topology).get(paused_key(name))
        assert abs(int(since) / 1000 - time.time()) < 3600
        assert not broker.pause(name)
        assert redis_of(topology).get(paused_key(name)) == since
        assert broker.resume(name)
        assert not redis_of(topology).exists(paused_key(name))
        assert not broker.resume(name)
        with pytest.raises(InvalidOptionError):
            broker.pause("")


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_worker_that_starts_on_a_paused_queue_claims_nothing(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name)
    leave_pending(topology, name, HANDED_BACK, b"handed back", idle=10_000_000)
    broker.kick(message(b"new"))
    broker.pause()
    with Listener(broker) as listener:
        for _ in range(3):
            until_polled(topology, broker, name)
        assert listener.got == []
        assert {consumer for consumer, _ in pending_of(topology, name).values()} == {HANDED_BACK}
        broker.resume()
        wait_until(partial(listener.has, b"handed back", b"new", *[b"moved"] * 3))
    assert caplog.messages == []


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_leases_are_renewed_and_messages_acknowledged_during_a_pause(
    topology: Topology, name: str
) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    with Listener(build(topology, "stream", **options), acknowledge=False) as listener:
        listener.broker.kick(message(b"running"))
        wait_until(partial(listener.has, b"running"))
        listener.broker.pause()
        until_polled(topology, listener.broker, name)
        (row,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)

        def is_renewed() -> bool:
            (now,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)
            return bool(now["time_since_delivered"] < row["time_since_delivered"])

        wait_until(is_renewed)
        call(listener.held.pop().ack)
        assert pending_of(topology, name) == {}
        listener.broker.resume()
        wait_until(partial(listener.has, b"running", b"moved"))


@pytest.mark.parametrize(
    ("topology", "suffix"),
    [("single", ""), ("cluster", ":other")],
    indirect=["topology"],
)
def test_each_stream_of_a_worker_is_paused_separately(
    topology: Topology, name: str, suffix: str
) -> None:
    # With braces, both are in the same hash slot.
    first, second = f"{{{name}}}:a", f"{{{name}{suffix}}}:b"
    options: dict[str, Any] = {"queue_name": first, "additional_streams": {second: ">"}}
    leave_pending(topology, second, HANDED_BACK, b"back", idle=10_000_000)
    broker = build(topology, "stream", **options)
    broker.pause(second)
    with Listener(broker) as listener:
        until_polled(topology, broker, second)
        broker.kick(message(b"paused", queue_name=second))
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        until_polled(topology, broker, second)
        assert listener.got == [b"a"]
        broker.pause()
        broker.resume(second)
        wait_until(partial(listener.has, b"a", b"back", b"moved", b"paused", b"moved"))
        broker.resume()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_worker_that_joins_its_polls_notices_a_pause(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "is_distant", True)
    monkeypatch.setattr(stream_reader, "DUE_SOON", float("inf"))
    with Listener(build(topology, "stream", queue_name=name)) as listener:
        listener.broker.kick(message(b"before"))
        wait_until(partial(listener.has, b"before"))
        listener.broker.pause()
        until_polled(topology, listener.broker, name)
        listener.broker.kick(message(b"meanwhile"))
        until_polled(topology, listener.broker, name)
        assert listener.got == [b"before"]
        listener.broker.resume()
        wait_until(partial(listener.has, b"before", b"moved", b"meanwhile", b"moved"))


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_messages_that_can_not_be_moved_do_not_hide_a_pause(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name)
    redis_of(topology).set(delayed_key(name), "a string")
    broker.pause()
    broker.kick(message(b"a"))
    monkeypatch.setattr(delays, "REFUSED_PAUSE", 0.05)
    record, replies = Promoter.record, list[Any]()

    def record_and_count(promoter: Any, reply: Any, workers: int) -> None:
        replies.append(reply)
        record(promoter, reply, workers)

    monkeypatch.setattr(Promoter, "record", record_and_count)

    def has_polled() -> bool:
        return len(replies) >= 3

    with Listener(broker) as listener:
        wait_until(has_polled)
        assert "WRONGTYPE" in caplog.text
        assert listener.got == []
        assert length(topology, "stream", name) == 1
        redis_of(topology).delete(paused_key(name), delayed_key(name), name)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_messages_that_are_claimed_when_a_pause_is_noticed_are_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One round trip claims messages and looks for a pause.
    monkeypatch.setattr(PrefetchSize, "is_distant", True)
    monkeypatch.setattr(stream_reader, "DUE_SOON", float("inf"))
    leave_pending(topology, name, HANDED_BACK, b"a", b"b", idle=10_000_000)
    with opened(topology, "stream", queue_name=name) as broker:
        broker.pause()
        reader = broker._open_reader()
        assert reader.fetch() == []
        assert {owner for owner, _ in pending_of(topology, name).values()} == {HANDED_BACK}
        broker.resume()
        reader.close()


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_prefetched_messages_are_handed_back_when_a_pause_is_noticed(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 10)
    poll_always(monkeypatch)
    with opened(topology, "stream", queue_name=name) as broker:
        for number in range(10):
            broker.kick(message(b"%d" % number))
        reader = broker._open_reader()
        (running,) = reader.fetch()
        assert len(reader.fetch()) == 1
        broker.pause()
        assert reader.fetch() == []
        owners = [consumer for consumer, _ in pending_of(topology, name).values()]
        assert sorted(owners) == sorted([broker.consumer_name] * 2 + [HANDED_BACK] * 8)
        assert reader.fetch() == []
        # They wait again, so they can be purged.
        assert broker.purge_queue() == 8
        broker.resume()
        broker.kick(message(b"new"))
        (new,) = reader.fetch()
        assert data_of(new) == b"new"
        call(running.ack)
        reader.close()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_nothing_is_fetched_once_prefetched_messages_are_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 2)
    # The next poll is due after this test.
    monkeypatch.setattr(delays, "INTERVAL", 3600.0)
    monkeypatch.setattr(delays, "LONGEST_INTERVAL", 3600.0)
    with opened(topology, "stream", queue_name=name) as broker:
        for number in range(4):
            broker.kick(message(b"%d" % number))
        reader = broker._open_reader()
        assert len(reader.fetch()) == 1
        broker.pause()
        reader._promoters[name]._next_poll = time.monotonic() - 60
        assert reader.fetch() == []
        owners = pending_of(topology, name)
        assert reader.fetch() == []
        assert pending_of(topology, name) == owners
        assert len(owners) == 2
        broker.resume()
        reader.close()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_prefetched_message_is_not_run_if_its_hand_back_was_not_confirmed(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 2)
    poll_always(monkeypatch)
    with opened(topology, "stream", queue_name=name) as broker:
        for data in (b"running", b"handed back"):
            broker.kick(message(data))
        reader = broker._open_reader()
        assert len(reader.fetch()) == 1
        hand_back = Consumer.hand_back

        def lose_reply(*arguments: Any, **options: Any) -> None:
            hand_back(*arguments, **options)
            raise ServerUnavailableError(server="a", reason="b", advice="c")

        with monkeypatch.context() as patch:
            patch.setattr(Consumer, "hand_back", lose_reply)
            broker.pause()
            with pytest.raises(ServerUnavailableError):
                reader.fetch()
        broker.resume()
        assert reader.fetch() == []
        reader.close()


@QUEUES
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_worker_without_rights_says_that_it_does_not_see_a_pause(
    topology: Topology, name: str, mechanism: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = (f"~{name}", f"~{delayed_key(name)}", f"~{{{name}}}:workers:*")
    options = {"queue_name": name, **user("+@all", *keys)}
    with opened(topology, mechanism, queue_name=name) as sender:
        sender.pause()
        sender.kick(message(b"a"))
        with Listener(build(topology, mechanism, **options)) as listener:
            wait_until(partial(listener.has, b"a"))
        assert "checking whether it is paused was interrupted" in caplog.text
        sender.resume()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_full_server_can_be_paused(topology: Topology, name: str) -> None:
    with ServerProcess() as server:
        with opened(server.topology, "stream", queue_name=name) as broker:
            redis_of(server.topology).config_set("maxmemory", 1)
            assert broker.pause()
            assert broker.resume()
