"""Messages are written with the same bytes as by 1.2.4, and those of 1.2.4 are received."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from taskiq import AckableMessage
from taskiq.kicker import AsyncKicker

from tests.compat.recorded import (
    INSTANT,
    build,
    check_bytes,
    check_key,
    load,
    maybe_await,
    names,
    raw,
    restore,
    serializer_of,
)
from tests.servers import Topology, client_of
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]

STORING_BROKERS = ["ListQueueBroker", "RedisStreamBroker"]

#: the recorded task
TASK = "golden:task"
TASK_ID = "0123456789abcdef0123456789abcdef"
LABELS: dict[str, Any] = {
    "priority": 5,
    "ratio": 1.5,
    "flag": True,
    "name": "n",
    "blob": b"\x00\xff",
    "lst": [1],
}
ARGUMENTS: dict[str, Any] = {"b": {"k": [INSTANT, None, 1.5, "ü"]}}


async def send(twin: str, broker: Any) -> None:
    """Send the recorded task, as a user does."""
    kicker: Any = broker.kicker(TASK) if twin else AsyncKicker(TASK, broker, {})
    kicker.with_labels(**LABELS).with_task_id(TASK_ID)
    await maybe_await(kicker.kiq(1, **ARGUMENTS))


async def receive(broker: Any) -> bytes:
    """Receive one message, and acknowledge it."""
    messages = broker.listen()
    try:
        message = await anext(messages) if inspect.isasyncgen(messages) else next(messages)
    finally:
        closed = messages.aclose() if inspect.isasyncgen(messages) else messages.close()
        await maybe_await(closed)
    if isinstance(message, AckableMessage):
        await maybe_await(message.ack())
        return message.data
    assert isinstance(message, bytes)
    return message


def broker_of(twin: str, class_name: str, topology: Topology, name: str, form: str) -> Any:
    broker = build(twin, class_name, topology, queue_name=name)
    return broker.with_serializer(serializer_of(form))


@contextmanager
def subscribed(topology: Topology, channel: str) -> Iterator[Any]:
    client = client_of(topology)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(channel)
        wait_until(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        yield pubsub


@pytest.mark.smoke
@pytest.mark.parametrize("class_name", STORING_BROKERS)
async def test_message_is_stored_as_by_1_2_4(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"message-{class_name}-{form}")
    broker = broker_of(twin, class_name, topology, name, form)
    await maybe_await(broker.startup())
    await send(twin, broker)
    check_key(topology, name, recorded["keys"]["taskiq"])
    await maybe_await(broker.shutdown())
    # The key with the number of the producer's last batch is new, and 1.2.4 ignores it.
    queue, producer = sorted(names(topology, name), key=len)
    assert queue == name
    assert producer.startswith(f"{{{name}}}:producer:")
    assert client_of(topology).pttl(producer) > 0


async def test_list_is_pushed_and_popped_at_same_ends_as_by_1_2_4(
    topology: Topology, name: str, twin: str
) -> None:
    client = client_of(topology)
    broker = broker_of(twin, "ListQueueBroker", topology, name, "json")
    # 1.2.4 pushes to the left and pops from the right.
    client.lpush(name, b"older")
    await send(twin, broker)
    newest, *others = client.lrange(name, 0, -1)
    assert TASK_ID.encode() in newest
    assert others == [b"older"]
    assert await receive(broker) == b"older"
    assert client.rpop(name) == newest
    await maybe_await(broker.shutdown())


@pytest.mark.smoke
async def test_message_is_published_as_by_1_2_4(
    topology: Topology, name: str, twin: str, form: str
) -> None:
    recorded = load(f"message-PubSubBroker-{form}")
    broker = broker_of(twin, "PubSubBroker", topology, name, form)
    with subscribed(topology, name) as pubsub:
        await send(twin, broker)
        message = wait_until(lambda: pubsub.get_message(timeout=0.1))
    await maybe_await(broker.shutdown())
    channel, data = map(raw, recorded["published"])
    assert channel == b"taskiq"
    assert message["channel"] == name.encode()
    check_bytes(message["data"], data)
    assert names(topology, name) == []


@pytest.mark.parametrize("class_name", STORING_BROKERS)
async def test_message_of_1_2_4_is_received(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"message-{class_name}-{form}")["keys"]["taskiq"]
    restore(topology, name, recorded)
    broker = broker_of(twin, class_name, topology, name, form)
    data = await receive(broker)
    await maybe_await(broker.shutdown())
    value = recorded["value"]
    assert data == raw(value[0] if isinstance(value, list) else value["entries"][0]["fields"][0][1])
    message = broker.formatter.loads(data)
    assert (message.task_id, message.task_name, message.args) == (TASK_ID, TASK, [1])
    assert message.kwargs == {"b": {"k": ["2030-01-02T03:04:05.678901Z", None, 1.5, "ü"]}}
    # taskiq itself reads labels of other types as text.
    assert message.parse_labels() is None
    assert {**message.labels, "lst": [1]} == LABELS


@pytest.mark.smoke
async def test_pending_message_of_1_2_4_is_claimed(
    topology: Topology, name: str, twin: str
) -> None:
    recorded = load("stream-listen")["keys"]["taskiq"]
    restore(topology, name, recorded)
    (group,) = recorded["value"]["groups"]
    first, second = (entry["id"] for entry in recorded["value"]["entries"])
    client = client_of(topology)
    client.xgroup_create(name, group["name"], id="0")
    client.xreadgroup(group["name"], "c1", {name: ">"})
    client.xack(name, group["name"], second)
    assert client.xinfo_groups(name)[0]["pending"] == group["pending"] == 1
    # Make it look as if its worker died long ago.
    client.xclaim(name, group["name"], "c1", 0, [first], idle=10**7, justid=True)

    broker = build(twin, "RedisStreamBroker", topology, queue_name=name, idle_timeout=500)
    data = await receive(broker)
    await maybe_await(broker.shutdown())
    assert data == raw(recorded["value"]["entries"][0]["fields"][0][1])
    assert client.xinfo_groups(name)[0]["pending"] == 0
    assert client.xinfo_groups(name)[0]["name"] == group["name"].encode()
