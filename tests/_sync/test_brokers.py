# Generated from tests/_async/test_brokers.py by scripts/unasync.py; edit that.

"""Sending and receiving with every broker, on every topology."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from taskiq_redis.exceptions import ServerUnavailableError, WrongKeyTypeError
from tests._sync.support import (
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    redis_of,
    take,
    until_subscribed,
)
from tests._threads import sleep, together, wait_until
from tests.leaks import PASSWORD
from tests.servers import Topology

QUEUES = ["list", "stream"]
ALL = [*QUEUES, "pubsub"]


@pytest.mark.smoke
@pytest.mark.parametrize("mechanism", QUEUES)
def test_sent_messages_are_received(topology: Topology, name: str, mechanism: str) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.kick(message(b'{"a": 1}'))
        broker.kick(message(b"\xff\x00"))
        assert take(broker, 2) == [b'{"a": 1}', b"\xff\x00"]


@pytest.mark.smoke
def test_published_messages_reach_all_listeners(topology: Topology, name: str) -> None:
    with Listener(build(topology, "pubsub", queue_name=name)) as first:
        with Listener(build(topology, "pubsub", queue_name=name)) as second:
            until_subscribed(topology, name, 2)
            with opened(topology, "pubsub", queue_name=name) as producer:
                producer.kick(message(b"a"))
                producer.kick(message(b"b"))
            wait_until(partial(first.has, b"a", b"b"))
            wait_until(partial(second.has, b"a", b"b"))


@pytest.mark.parametrize("mechanism", QUEUES)
def test_label_chooses_the_queue(topology: Topology, name: str, mechanism: str) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.kick(message(b"elsewhere", queue_name=f"{name}:other"))
        broker.kick(message(b"here"))
        with opened(topology, mechanism, queue_name=f"{name}:other") as other:
            assert take(other, 1) == [b"elsewhere"]
        assert take(broker, 1) == [b"here"]


@pytest.mark.parametrize("mechanism", ALL)
def test_listening_needs_no_startup_and_ends_at_shutdown(
    topology: Topology, name: str, mechanism: str
) -> None:
    with Listener(build(topology, mechanism, queue_name=name)) as listener:
        with opened(topology, mechanism, queue_name=name) as producer:

            def is_received() -> Any:
                # A message published before the subscription is lost.
                producer.kick(message(b"hello"))
                return listener.got

            wait_until(is_received)


@pytest.mark.parametrize("mechanism", QUEUES)
def test_broker_works_again_after_its_shutdown(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.startup()
        broker.shutdown()
        broker.kick(message(b"a"))
        broker.shutdown()
        assert take(broker, 1) == [b"a"]


@pytest.mark.parametrize("mechanism", QUEUES)
def test_worker_that_keeps_failed_tasks_can_be_shut_down(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, keep_failed=True)
    broker.is_worker_process = True
    broker.startup()
    broker.shutdown()


@pytest.mark.parametrize("mechanism", QUEUES)
def test_concurrent_first_messages_are_enqueued_once_each(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = [str(number).encode() for number in range(500)]
    with opened(topology, mechanism, queue_name=name) as broker:
        together(*(partial(broker.kick, message(data)) for data in sent))
        client = redis_of(topology)
        length = client.llen(name) if mechanism == "list" else client.xlen(name)
        assert length == len(sent)
        assert sorted(take(broker, len(sent))) == sorted(sent)


def test_concurrently_published_messages_are_received(topology: Topology, name: str) -> None:
    sent = [str(number).encode() for number in range(500)]
    with Listener(build(topology, "pubsub", queue_name=name)) as listener:
        until_subscribed(topology, name, 1)
        with opened(topology, "pubsub", queue_name=name) as broker:
            together(*(partial(broker.kick, message(data)) for data in sent))
        wait_until(partial(listener.has, *sent))


@pytest.mark.parametrize("mechanism", QUEUES)
def test_two_listeners_of_one_broker_share_the_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = [str(number).encode() for number in range(20)]
    broker = build(topology, mechanism, queue_name=name)
    with Listener(broker) as first, Listener(broker) as second:
        for data in sent:
            broker.kick(message(data))

        def all_received() -> bool:
            return sorted([*first.got, *second.got]) == sorted(sent)

        wait_until(all_received)


@pytest.mark.parametrize("mechanism", ALL)
def test_listener_survives_the_loss_of_all_connections(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    with Listener(broker) as listener:
        with opened(topology, mechanism, queue_name=name) as producer:

            def is_received() -> Any:
                # A message published without a subscriber is lost.
                producer.kick(message(b"hello"))
                return listener.got

            wait_until(is_received)
            for _ in range(3):
                on_all_nodes(topology, partial(kill_clients, client_name=name))
                wait_until(partial(can_send, producer))
                listener.got.clear()
                wait_until(is_received)


def kill_clients(node: Any, client_name: str) -> None:
    """Close all connections with that client name."""
    for client in node.client_list():
        if client["name"] == client_name:
            node.client_kill_filter(_id=client["id"])


def can_send(broker: Any) -> bool:
    """Return whether a message could be sent."""
    try:
        broker.kick(message(b"hello"))
    except ServerUnavailableError:
        return False
    return True


@pytest.mark.parametrize("mechanism", QUEUES)
def test_key_of_another_type_is_reported(topology: Topology, name: str, mechanism: str) -> None:
    redis_of(topology).set(name, "a string")
    with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(WrongKeyTypeError, match=f"key '{name}', refused a command: WRONGTYPE"):
            broker.kick(message(b"a"))


@pytest.mark.parametrize("mechanism", QUEUES)
def test_listener_resumes_when_key_of_another_type_is_deleted(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(name, "a string")
    with Listener(build(topology, mechanism, queue_name=name)) as listener:

        def is_logged() -> bool:
            return "WRONGTYPE" in caplog.text

        wait_until(is_logged)
        redis_of(topology).delete(name)
        with opened(topology, mechanism, queue_name=name) as producer:
            producer.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
    assert caplog.text.count("WRONGTYPE") == 1


@pytest.mark.full
@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_unreachable_server_is_reported_without_password(
    topology: Topology, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = Topology(kind=topology.kind, url=f"redis://user:{PASSWORD}@127.0.0.1:1")
    with opened(unreachable, mechanism) as broker:
        with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1 did not answer") as error:
            broker.kick(message(b"a"))
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("mechanism", QUEUES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocol_versions_work(
    topology: Topology, name: str, mechanism: str, protocol: int
) -> None:
    with opened(topology, mechanism, queue_name=name, protocol=protocol) as broker:
        broker.kick(message(b"a"))
        assert take(broker, 1) == [b"a"]


@pytest.mark.parametrize("mechanism", ALL)
def test_decode_responses_does_not_change_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = ['{"ü": 1}'.encode(), b"\xff\x00"]
    options = {"queue_name": name, "decode_responses": True}
    with Listener(build(topology, mechanism, **options)) as listener:
        if mechanism == "pubsub":
            until_subscribed(topology, name, 1)
        for data in sent:
            listener.broker.kick(message(data))
        wait_until(partial(listener.has, *sent))


@pytest.mark.parametrize("in_url", [False, True])
@pytest.mark.parametrize("mechanism", QUEUES)
def test_socket_timeout_shorter_than_blocking_reads_does_not_interrupt_them(
    topology: Topology, name: str, mechanism: str, in_url: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if topology.kind == "sentinel" and in_url:
        pytest.skip("sentinels have no URL")
    options = {} if in_url else {"socket_timeout": 0.5}
    options |= {"xread_block": 10_000} if mechanism == "stream" else {}
    target = replace(topology, url=f"{topology.url}?socket_timeout=0.5") if in_url else topology
    broker = build(target, mechanism, queue_name=name, **options)
    with Listener(broker) as listener:

        def is_uninterrupted() -> bool:
            broker.kick(message(b"a"))
            wait_until(partial(listener.has, b"a"))
            listener.got.clear()
            # Only the first failure after a success is logged. A busy machine may cause one, too.
            caplog.clear()
            sleep(1)
            return "interrupted" not in caplog.text

        wait_until(is_uninterrupted)


@pytest.mark.full
@pytest.mark.parametrize("mechanism", QUEUES)
def test_stopped_listener_loses_no_messages(topology: Topology, name: str, mechanism: str) -> None:
    sent = [str(number).encode() for number in range(50)]
    got: list[bytes] = []
    broker = build(topology, mechanism, queue_name=name, **without_prefetch(mechanism))
    while len(got) < len(sent):
        with Listener(broker) as listener:
            for data in sent[len(got) : len(got) + 5]:
                broker.kick(message(data))

            def enough_received(listener: Listener = listener) -> Any:
                return len(listener.got) >= 5

            wait_until(enough_received)
        got += listener.got
    assert sorted(got) == sorted(sent)


def without_prefetch(mechanism: str) -> dict[str, int]:
    """Return the options with which a stream broker fetches one message at a time."""
    return {"xread_count": 1} if mechanism == "stream" else {}
