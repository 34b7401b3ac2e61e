"""Consumer groups, acknowledgements, claims and trimming of streams, on every topology."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from taskiq_redis import RedisStreamBroker
from taskiq_redis._core.prefetch import PROMPT_HANDOVER
from tests._aio import Running, collect, sleep, wait_until
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


def groups_of(topology: Topology, stream: str) -> dict[str, Any]:
    """Return the consumer groups of a stream by name."""
    return {group["name"].decode(): group for group in redis_of(topology).xinfo_groups(stream)}


async def no_pending(topology: Topology, stream: str) -> bool:
    """Return whether all delivered messages are acknowledged."""
    return all(group["pending"] == 0 for group in groups_of(topology, stream).values())


@pytest.mark.smoke
async def test_messages_sent_before_any_worker_are_delivered(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.startup()
        await broker.kick(message(b"early"))
        assert redis_of(topology).xinfo_groups(name) == []
        assert await take(broker, 1) == [b"early"]


async def test_second_group_starts_at_the_end(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as first:
        await first.kick(message(b"early"))
        assert await take(first, 1) == [b"early"]
        second = build(topology, "stream", queue_name=name, consumer_group_name="second")
        async with Listener(second) as listener:
            await wait_until(partial(has_group, topology, name, "second"))
            await first.kick(message(b"late"))
            await wait_until(partial(listener.has, b"late"))


async def has_group(topology: Topology, stream: str, group: str) -> bool:
    """Return whether a stream has this consumer group."""
    return bool(redis_of(topology).exists(stream)) and group in groups_of(topology, stream)


@pytest.mark.parametrize("consumer_id", ["0", "$"])
async def test_group_starts_at_the_given_id(
    topology: Topology, name: str, consumer_id: str
) -> None:
    broker = build(topology, "stream", queue_name=name, consumer_id=consumer_id)
    await broker.kick(message(b"early"))
    async with Listener(broker) as listener:
        await wait_until(partial(has_group, topology, name, "taskiq"))
        await broker.kick(message(b"late"))
        expected = [b"early", b"late"] if consumer_id == "0" else [b"late"]
        await wait_until(partial(listener.has, *expected))


async def test_acknowledged_message_is_not_pending(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        await take(broker, 1, acknowledge=False)
        assert groups_of(topology, name)["taskiq"]["pending"] == 1
        await broker.kick(message(b"b"))
        await take(broker, 1)
        assert groups_of(topology, name)["taskiq"]["pending"] == 1


async def test_acknowledged_message_is_deleted(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        for number in range(3):
            await broker.kick(message(b"%d" % number))
        assert sorted(await take(broker, 3)) == [b"0", b"1", b"2"]
        assert redis_of(topology).xlen(name) == 0


async def test_acknowledged_message_is_kept_without_delete_acked(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name, delete_acked=False) as broker:
        await broker.kick(message(b"a"))
        assert await take(broker, 1) == [b"a"]
        assert redis_of(topology).xlen(name) == 1
        assert groups_of(topology, name)["taskiq"]["pending"] == 0


async def test_message_is_deleted_when_all_groups_have_acknowledged_it(
    topology: Topology, name: str
) -> None:
    client = redis_of(topology)
    first = build(topology, "stream", queue_name=name, consumer_id="0")
    second = build(
        topology, "stream", queue_name=name, consumer_id="0", consumer_group_name="second"
    )
    await first.kick(message(b"a"))
    client.xgroup_create(name, "second", id="0")
    # The second group has not received "a"; then received but not acknowledged; then acknowledged.
    assert await take(first, 1) == [b"a"]
    assert client.xlen(name) == 1
    await first.kick(message(b"b"))
    assert await take(second, 2, acknowledge=False) == [b"a", b"b"]
    assert await take(first, 1) == [b"b"]
    assert client.xlen(name) == 2
    entries = client.xrange(name)
    await call(second._ack_generator(entries[0][0].decode(), name))
    assert client.xrange(name) == entries[1:]
    await call(second._ack_generator(entries[1][0].decode(), name))
    assert client.xlen(name) == 0
    await first.shutdown()
    await second.shutdown()


@pytest.fixture
def old_worker(topology: Topology, name: str) -> Iterator[str]:
    """A user with only the rights that a worker of 1.2.4 needs."""
    commands = ["+xinfo", "+xgroup", "+xreadgroup", "+xautoclaim", "+xack", "+exists"]
    commands += ["+@connection", "+cluster", "+command"]
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": [name]}
    on_all_nodes(topology, lambda node: node.acl_setuser(name, commands=commands, **rules))
    yield name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_user_without_xdel_acknowledges_with_one_warning(
    topology: Topology, name: str, old_worker: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "stream", queue_name=name) as producer:
        for number in range(3):
            await producer.kick(message(b"%d" % number))
    options = {"queue_name": name, "username": old_worker, "password": "any"}
    async with opened(topology, "stream", **options) as broker:
        await take(broker, 3)
    assert groups_of(topology, name)["taskiq"]["pending"] == 0
    assert redis_of(topology).xlen(name) == 3
    (warning,) = [text for text in caplog.messages if "delete_acked" in text]
    # It can't renew leases, claim messages or move due messages; each is logged once.
    refusals = [text for text in caplog.messages if text != warning]
    assert len(refusals) == 3
    assert all("NOPERM" in text or "no permission" in text.lower() for text in refusals)


async def test_entry_of_a_deleted_stream_can_be_acknowledged(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        messages = broker.listen()
        received = await anext(messages)
        redis_of(topology).delete(name)
        assert await data_of(received) == b"a"
        await messages.aclose()


async def test_trim_deletes_kept_messages(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    other = f"{name}:other"
    options: dict[str, Any] = {"queue_name": name, "additional_streams": {other: ">"}}
    async with opened(topology, "stream", **options, delete_acked=False) as broker:
        for number in range(250):
            await broker.kick(message(b"%d" % number))
        await broker.kick(message(b"other", queue_name=other))
        await take(broker, 251)
        # One message is received and not acknowledged, and one is not received.
        await broker.kick(message(b"held"))
        await take(broker, 1, acknowledge=False)
        await broker.kick(message(b"new"))
        seen: list[tuple[str, int]] = []
        deleted = await broker.trim(lambda stream, number: seen.append((stream, number)))
        assert deleted == 251
        assert seen[-1] == (other, 1)
        assert (name, 250) in seen
        assert [fields[b"data"] for _, fields in client.xrange(name)] == [b"held", b"new"]
        assert await broker.trim() == 0


async def test_stream_is_not_trimmed_before_its_groups_have_read_it(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        assert await broker.trim() == 0
        await broker.kick(message(b"a"))
        assert await broker.trim() == 0
        redis_of(topology).xgroup_create(name, "late", id="0")
        assert await broker.trim() == 0
        assert redis_of(topology).xlen(name) == 1


async def test_messages_of_dead_worker_are_claimed_on_an_idle_queue(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name, idle_timeout=200) as dead:
        await dead.kick(message(b"a"))
        await take(dead, 1, acknowledge=False)
    survivor = build(topology, "stream", queue_name=name, idle_timeout=200)
    async with Listener(survivor) as listener:
        await wait_until(partial(listener.has, b"a"))
        await wait_until(partial(no_pending, topology, name))


@pytest.mark.full
async def test_claim_scans_past_many_entries_that_are_not_idle(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "stream", queue_name=name) as alive:
        for number in range(40):
            await alive.kick(message(str(number).encode()))
        await take(alive, 40, acknowledge=False)
    client = redis_of(topology)
    last = client.xrevrange(name, count=1)[0][0]
    client.xclaim(name, "taskiq", "long-gone", 0, [last], idle=600_000)
    survivor = build(topology, "stream", queue_name=name, unacknowledged_batch_size=1)
    async with Listener(survivor, acknowledge=False) as listener:
        await wait_until(partial(listener.has, b"39"))


async def test_additional_streams_may_be_in_any_slot(topology: Topology, name: str) -> None:
    others = {f"{name}:{number}": ">" for number in range(4)}
    async with Listener(
        build(topology, "stream", queue_name=name, additional_streams=others)
    ) as listener:
        async with opened(topology, "stream", queue_name=name) as producer:
            await producer.kick(message(b"main"))
            for stream in others:
                await producer.kick(message(stream.encode(), queue_name=stream))
        await wait_until(partial(listener.has, b"main", *(stream.encode() for stream in others)))
        for stream in (name, *others):
            await wait_until(partial(no_pending, topology, stream))


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_error_in_one_slot_does_not_stop_the_others(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    others = {f"{name}:{number}": ">" for number in range(4)}
    broken = f"{name}:3"
    broker = build(topology, "stream", queue_name=name, additional_streams=others)
    async with Listener(broker) as listener:
        await broker.kick(message(b"0", queue_name=broken))
        await wait_until(partial(listener.has, b"0"))
        redis_of(topology).delete(broken)
        redis_of(topology).set(broken, "a string")

        async def is_logged() -> bool:
            return "WRONGTYPE" in caplog.text

        await wait_until(is_logged)
        listener.got.clear()
        sent = [b"%d" % number for number in range(20)]
        for number, data in enumerate(sent, 1):
            await broker.kick(message(data))
            await wait_until(partial(listener.has, *sent[:number]))
        (complaint,) = [line for line in caplog.text.splitlines() if "interrupted" in line]
        assert f"Listening to '{broken}'" in complaint
        redis_of(topology).delete(broken)
        await broker.kick(message(b"mended", queue_name=broken))
        await wait_until(partial(listener.has, *sent, b"mended"))


async def test_earlier_delivery_is_counted_when_reading_from_id_zero(
    topology: Topology, name: str
) -> None:
    other = f"{name}:other"
    options: dict[str, Any] = {"queue_name": name, "consumer_name": "me", "idle_timeout": 600}
    async with opened(topology, "stream", **options, additional_streams={other: ">"}) as first:
        await first.kick(message(b"held", queue_name=other))
        await take(first, 1, acknowledge=False)
    options["max_deliveries"] = 1
    again = build(topology, "stream", **options, additional_streams={other: "0"})
    async with Listener(again) as listener:
        await again.kick(message(b"new", queue_name=other))
        await wait_until(partial(listener.has, b"new"))
        await wait_until(partial(no_pending, topology, other))
        (letter,) = await collect(again.dead_letters(queue_name=other))
        assert letter.data == b"held"
        assert listener.got == [b"new"]


@pytest.mark.parametrize("fault", ["group", "stream"])
async def test_deleted_group_or_stream_is_declared_again(
    topology: Topology, name: str, fault: str
) -> None:
    async with Listener(build(topology, "stream", queue_name=name)) as listener:
        async with opened(topology, "stream", queue_name=name) as producer:
            await producer.kick(message(b"before"))
            await wait_until(partial(listener.has, b"before"))
            client = redis_of(topology)
            if fault == "group":
                client.xgroup_destroy(name, "taskiq")
            else:
                client.delete(name)
            await producer.kick(message(b"after"))
        await wait_until(partial(listener.has, b"before", b"after"))


async def test_recreated_stream_may_have_lower_ids(topology: Topology, name: str) -> None:
    async with Listener(build(topology, "stream", queue_name=name)) as listener:
        await listener.broker.kick(message(b"before"))
        await wait_until(partial(listener.has, b"before"))
        client = redis_of(topology)
        client.delete(name)

        async def declared() -> bool:
            return bool(client.exists(name))

        await wait_until(declared)
        client.xadd(name, {"data": b"after"}, id="1-1")
        await wait_until(partial(listener.has, b"before", b"after"))


async def test_without_mkstream_a_worker_waits_for_the_stream(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, mkstream=False)
    async with Listener(broker) as listener:

        async def is_logged() -> bool:
            return "NOGROUP" in caplog.text

        await wait_until(is_logged)
        assert not redis_of(topology).exists(name)
        await broker.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))


async def test_entry_without_data_field_becomes_a_dead_letter(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry_id = redis_of(topology).xadd(name, {"something": "else"}).decode()
    async with Listener(build(topology, "stream", queue_name=name)) as listener:
        async with opened(topology, "stream", queue_name=name) as producer:
            await producer.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))
        await wait_until(partial(no_pending, topology, name))
        (letter,) = await collect(listener.broker.dead_letters())
    assert redis_of(topology).xlen(name) == 0
    assert (letter.entry_id, letter.data) == (entry_id, None)
    assert letter.fields == {"something": b"else"}
    assert "has no field 'data'" in letter.reason
    assert "has no field 'data'" in caplog.text


async def test_pending_entries_that_were_deleted_are_skipped(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name, idle_timeout=200) as dead:
        await dead.kick(message(b"a"))
        await dead.kick(message(b"b"))
        await take(dead, 2, acknowledge=False)
    client = redis_of(topology)
    client.xdel(name, client.xrange(name, count=1)[0][0])
    survivor = build(topology, "stream", queue_name=name, idle_timeout=200)
    async with Listener(survivor) as listener:
        await wait_until(partial(listener.has, b"b"))


async def test_maxlen_caps_the_stream(topology: Topology, name: str) -> None:
    with pytest.warns(UserWarning, match="maxlen"):
        broker = build(topology, "stream", queue_name=name, maxlen=3, approximate=False)
    for number in range(10):
        await broker.kick(message(str(number).encode()))
    assert redis_of(topology).xlen(name) == 3
    await broker.shutdown()


async def test_slow_worker_prefetches_nothing(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        for number in range(10):
            await broker.kick(message(str(number).encode()))
        messages = broker.listen()
        for count in (1, 2):
            await data_of(await anext(messages), acknowledge=False)
            assert groups_of(topology, name)["taskiq"]["pending"] == count
            await sleep(PROMPT_HANDOVER * 2)
        await messages.aclose()


async def test_read_fetches_at_most_xread_count(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name, xread_count=3) as broker:
        for number in range(60):
            await broker.kick(message(str(number).encode()))
        messages = broker.listen()
        for taken in range(1, 51):
            await data_of(await anext(messages))
            assert groups_of(topology, name)["taskiq"]["pending"] <= 3, taken
        await messages.aclose()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_worker_declares_its_group_at_startup(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        await broker.startup()
        assert list(groups_of(topology, name)) == ["taskiq"]


async def test_messages_can_be_sent_while_listening(topology: Topology, name: str) -> None:
    broker: RedisStreamBroker = build(topology, "stream", queue_name=name)
    got: list[bytes] = []

    async def work() -> None:
        async for received in broker.listen():
            got.append(await data_of(received))
            await broker.kick(message(b"next"))
            if len(got) == 3:
                return

    await broker.kick(message(b"first"))
    async with Running(work):
        pass
    assert got == [b"first", b"next", b"next"]
    await broker.shutdown()
