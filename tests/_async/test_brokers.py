"""Sending and receiving with every broker, on every topology."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from taskiq_redis.exceptions import ServerUnavailableError, WrongKeyTypeError
from tests._aio import sleep, together, wait_until
from tests._async.support import (
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    redis_of,
    take,
    until_subscribed,
)
from tests.leaks import PASSWORD
from tests.servers import Topology

pytestmark = pytest.mark.anyio

QUEUES = ["list", "stream"]
ALL = [*QUEUES, "pubsub"]


@pytest.mark.smoke
@pytest.mark.parametrize("mechanism", QUEUES)
async def test_sent_messages_are_received(topology: Topology, name: str, mechanism: str) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        await broker.kick(message(b'{"a": 1}'))
        await broker.kick(message(b"\xff\x00"))
        assert await take(broker, 2) == [b'{"a": 1}', b"\xff\x00"]


@pytest.mark.smoke
async def test_published_messages_reach_all_listeners(topology: Topology, name: str) -> None:
    async with Listener(build(topology, "pubsub", queue_name=name)) as first:
        async with Listener(build(topology, "pubsub", queue_name=name)) as second:
            await until_subscribed(topology, name, 2)
            async with opened(topology, "pubsub", queue_name=name) as producer:
                await producer.kick(message(b"a"))
                await producer.kick(message(b"b"))
            await wait_until(partial(first.has, b"a", b"b"))
            await wait_until(partial(second.has, b"a", b"b"))


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_label_chooses_the_queue(topology: Topology, name: str, mechanism: str) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        await broker.kick(message(b"elsewhere", queue_name=f"{name}:other"))
        await broker.kick(message(b"here"))
        async with opened(topology, mechanism, queue_name=f"{name}:other") as other:
            assert await take(other, 1) == [b"elsewhere"]
        assert await take(broker, 1) == [b"here"]


@pytest.mark.parametrize("mechanism", ALL)
async def test_listening_needs_no_startup_and_ends_at_shutdown(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with Listener(build(topology, mechanism, queue_name=name)) as listener:
        async with opened(topology, mechanism, queue_name=name) as producer:

            async def is_received() -> Any:
                # A message published before the subscription is lost.
                await producer.kick(message(b"hello"))
                return listener.got

            await wait_until(is_received)


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_broker_works_again_after_its_shutdown(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        await broker.startup()
        await broker.shutdown()
        await broker.kick(message(b"a"))
        await broker.shutdown()
        assert await take(broker, 1) == [b"a"]


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_worker_that_keeps_failed_tasks_can_be_shut_down(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, keep_failed=True)
    broker.is_worker_process = True
    await broker.startup()
    await broker.shutdown()


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_concurrent_first_messages_are_enqueued_once_each(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = [str(number).encode() for number in range(500)]
    async with opened(topology, mechanism, queue_name=name) as broker:
        await together(*(partial(broker.kick, message(data)) for data in sent))
        client = redis_of(topology)
        length = client.llen(name) if mechanism == "list" else client.xlen(name)
        assert length == len(sent)
        assert sorted(await take(broker, len(sent))) == sorted(sent)


async def test_concurrently_published_messages_are_received(topology: Topology, name: str) -> None:
    sent = [str(number).encode() for number in range(500)]
    async with Listener(build(topology, "pubsub", queue_name=name)) as listener:
        await until_subscribed(topology, name, 1)
        async with opened(topology, "pubsub", queue_name=name) as broker:
            await together(*(partial(broker.kick, message(data)) for data in sent))
        await wait_until(partial(listener.has, *sent))


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_two_listeners_of_one_broker_share_the_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = [str(number).encode() for number in range(20)]
    broker = build(topology, mechanism, queue_name=name)
    async with Listener(broker) as first, Listener(broker) as second:
        for data in sent:
            await broker.kick(message(data))

        async def all_received() -> bool:
            return sorted([*first.got, *second.got]) == sorted(sent)

        await wait_until(all_received)


@pytest.mark.parametrize("mechanism", ALL)
async def test_listener_survives_the_loss_of_all_connections(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    async with Listener(broker) as listener:
        async with opened(topology, mechanism, queue_name=name) as producer:

            async def is_received() -> Any:
                # A message published without a subscriber is lost.
                await producer.kick(message(b"hello"))
                return listener.got

            await wait_until(is_received)
            for _ in range(3):
                on_all_nodes(topology, partial(kill_clients, client_name=name))
                await wait_until(partial(can_send, producer))
                listener.got.clear()
                await wait_until(is_received)


def kill_clients(node: Any, client_name: str) -> None:
    """Close all connections with that client name."""
    for client in node.client_list():
        if client["name"] == client_name:
            node.client_kill_filter(_id=client["id"])


async def can_send(broker: Any) -> bool:
    """Return whether a message could be sent."""
    try:
        await broker.kick(message(b"hello"))
    except ServerUnavailableError:
        return False
    return True


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_key_of_another_type_is_reported(
    topology: Topology, name: str, mechanism: str
) -> None:
    redis_of(topology).set(name, "a string")
    async with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(WrongKeyTypeError, match=f"key '{name}', refused a command: WRONGTYPE"):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_listener_resumes_when_key_of_another_type_is_deleted(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(name, "a string")
    async with Listener(build(topology, mechanism, queue_name=name)) as listener:

        async def is_logged() -> bool:
            return "WRONGTYPE" in caplog.text

        await wait_until(is_logged)
        redis_of(topology).delete(name)
        async with opened(topology, mechanism, queue_name=name) as producer:
            await producer.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))
    assert caplog.text.count("WRONGTYPE") == 1


@pytest.mark.full
@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_unreachable_server_is_reported_without_password(
    topology: Topology, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = Topology(kind=topology.kind, url=f"redis://user:{PASSWORD}@127.0.0.1:1")
    async with opened(unreachable, mechanism) as broker:
        with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1 did not answer") as error:
            await broker.kick(message(b"a"))
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("mechanism", QUEUES)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocol_versions_work(
    topology: Topology, name: str, mechanism: str, protocol: int
) -> None:
    async with opened(topology, mechanism, queue_name=name, protocol=protocol) as broker:
        await broker.kick(message(b"a"))
        assert await take(broker, 1) == [b"a"]


@pytest.mark.parametrize("mechanism", ALL)
async def test_decode_responses_does_not_change_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = ['{"ü": 1}'.encode(), b"\xff\x00"]
    options = {"queue_name": name, "decode_responses": True}
    async with Listener(build(topology, mechanism, **options)) as listener:
        if mechanism == "pubsub":
            await until_subscribed(topology, name, 1)
        for data in sent:
            await listener.broker.kick(message(data))
        await wait_until(partial(listener.has, *sent))


@pytest.mark.parametrize("in_url", [False, True])
@pytest.mark.parametrize("mechanism", QUEUES)
async def test_socket_timeout_shorter_than_blocking_reads_does_not_interrupt_them(
    topology: Topology, name: str, mechanism: str, in_url: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if topology.kind == "sentinel" and in_url:
        pytest.skip("sentinels have no URL")
    options = {} if in_url else {"socket_timeout": 0.5}
    options |= {"xread_block": 10_000} if mechanism == "stream" else {}
    target = replace(topology, url=f"{topology.url}?socket_timeout=0.5") if in_url else topology
    broker = build(target, mechanism, queue_name=name, **options)
    async with Listener(broker) as listener:

        async def is_uninterrupted() -> bool:
            await broker.kick(message(b"a"))
            await wait_until(partial(listener.has, b"a"))
            listener.got.clear()
            # Only the first failure after a success is logged. A busy machine may cause one, too.
            caplog.clear()
            await sleep(1)
            return "interrupted" not in caplog.text

        await wait_until(is_uninterrupted)


@pytest.mark.full
@pytest.mark.parametrize("mechanism", QUEUES)
async def test_stopped_listener_loses_no_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent = [str(number).encode() for number in range(50)]
    got: list[bytes] = []
    broker = build(topology, mechanism, queue_name=name, **without_prefetch(mechanism))
    while len(got) < len(sent):
        async with Listener(broker) as listener:
            for data in sent[len(got) : len(got) + 5]:
                await broker.kick(message(data))

            async def enough_received(listener: Listener = listener) -> Any:
                return len(listener.got) >= 5

            await wait_until(enough_received)
        got += listener.got
    assert sorted(got) == sorted(sent)


def without_prefetch(mechanism: str) -> dict[str, int]:
    """Return the options with which a stream broker fetches one message at a time."""
    return {"xread_count": 1} if mechanism == "stream" else {}
