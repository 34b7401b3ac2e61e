# Generated from tests/_async/test_streams.py by scripts/unasync.py; edit that.

"""Consumer groups, acknowledgements, claims and trimming of streams, on every topology."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from taskiq_redis import SyncRedisStreamBroker
from taskiq_redis._core.prefetch import PROMPT_HANDOVER
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
from tests._threads import Running, collect, sleep, wait_until
from tests.servers import Topology


def groups_of(topology: Topology, stream: str) -> dict[str, Any]:
    """Return the consumer groups of a stream by name."""
    return {group["name"].decode(): group for group in redis_of(topology).xinfo_groups(stream)}


def no_pending(topology: Topology, stream: str) -> bool:
    """Return whether all delivered messages are acknowledged."""
    return all(group["pending"] == 0 for group in groups_of(topology, stream).values())


@pytest.mark.smoke
def test_messages_sent_before_any_worker_are_delivered(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.startup()
        broker.kick(message(b"early"))
        assert redis_of(topology).xinfo_groups(name) == []
        assert take(broker, 1) == [b"early"]


def test_second_group_starts_at_the_end(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as first:
        first.kick(message(b"early"))
        assert take(first, 1) == [b"early"]
        second = build(topology, "stream", queue_name=name, consumer_group_name="second")
        with Listener(second) as listener:
            wait_until(partial(has_group, topology, name, "second"))
            first.kick(message(b"late"))
            wait_until(partial(listener.has, b"late"))


def has_group(topology: Topology, stream: str, group: str) -> bool:
    """Return whether a stream has this consumer group."""
    return bool(redis_of(topology).exists(stream)) and group in groups_of(topology, stream)


@pytest.mark.parametrize("consumer_id", ["0", "$"])
def test_group_starts_at_the_given_id(topology: Topology, name: str, consumer_id: str) -> None:
    broker = build(topology, "stream", queue_name=name, consumer_id=consumer_id)
    broker.kick(message(b"early"))
    with Listener(broker) as listener:
        wait_until(partial(has_group, topology, name, "taskiq"))
        broker.kick(message(b"late"))
        expected = [b"early", b"late"] if consumer_id == "0" else [b"late"]
        wait_until(partial(listener.has, *expected))


def test_acknowledged_message_is_not_pending(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        take(broker, 1, acknowledge=False)
        assert groups_of(topology, name)["taskiq"]["pending"] == 1
        broker.kick(message(b"b"))
        take(broker, 1)
        assert groups_of(topology, name)["taskiq"]["pending"] == 1


def test_acknowledged_message_is_deleted(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        for number in range(3):
            broker.kick(message(b"%d" % number))
        assert sorted(take(broker, 3)) == [b"0", b"1", b"2"]
        assert redis_of(topology).xlen(name) == 0


def test_acknowledged_message_is_kept_without_delete_acked(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name, delete_acked=False) as broker:
        broker.kick(message(b"a"))
        assert take(broker, 1) == [b"a"]
        assert redis_of(topology).xlen(name) == 1
        assert groups_of(topology, name)["taskiq"]["pending"] == 0


def test_message_is_deleted_when_all_groups_have_acknowledged_it(
    topology: Topology, name: str
) -> None:
    client = redis_of(topology)
    first = build(topology, "stream", queue_name=name, consumer_id="0")
    second = build(
        topology, "stream", queue_name=name, consumer_id="0", consumer_group_name="second"
    )
    first.kick(message(b"a"))
    client.xgroup_create(name, "second", id="0")
    # The second group has not received "a"; then received but not acknowledged; then acknowledged.
    assert take(first, 1) == [b"a"]
    assert client.xlen(name) == 1
    first.kick(message(b"b"))
    assert take(second, 2, acknowledge=False) == [b"a", b"b"]
    assert take(first, 1) == [b"b"]
    assert client.xlen(name) == 2
    entries = client.xrange(name)
    call(second._ack_generator(entries[0][0].decode(), name))
    assert client.xrange(name) == entries[1:]
    call(second._ack_generator(entries[1][0].decode(), name))
    assert client.xlen(name) == 0
    first.shutdown()
    second.shutdown()


@pytest.fixture
def old_worker(topology: Topology, name: str) -> Iterator[str]:
    """A user with only the rights that a worker of 1.2.4 needs."""
    commands = ["+xinfo", "+xgroup", "+xreadgroup", "+xautoclaim", "+xack", "+exists"]
    commands += ["+@connection", "+cluster", "+command"]
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": [name]}
    on_all_nodes(topology, lambda node: node.acl_setuser(name, commands=commands, **rules))
    yield name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


def test_user_without_xdel_acknowledges_with_one_warning(
    topology: Topology, name: str, old_worker: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(topology, "stream", queue_name=name) as producer:
        for number in range(3):
            producer.kick(message(b"%d" % number))
    options = {"queue_name": name, "username": old_worker, "password": "any"}
    with opened(topology, "stream", **options) as broker:
        take(broker, 3)
    assert groups_of(topology, name)["taskiq"]["pending"] == 0
    assert redis_of(topology).xlen(name) == 3
    (warning,) = [text for text in caplog.messages if "delete_acked" in text]
    # It can't renew leases, claim messages or move due messages; each is logged once.
    refusals = [text for text in caplog.messages if text != warning]
    assert len(refusals) == 3
    assert all("NOPERM" in text or "no permission" in text.lower() for text in refusals)


def test_entry_of_a_deleted_stream_can_be_acknowledged(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"a"))
        messages = broker.listen()
        received = next(messages)
        redis_of(topology).delete(name)
        assert data_of(received) == b"a"
        messages.close()


def test_trim_deletes_kept_messages(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    other = f"{name}:other"
    options: dict[str, Any] = {"queue_name": name, "additional_streams": {other: ">"}}
    with opened(topology, "stream", **options, delete_acked=False) as broker:
        for number in range(250):
            broker.kick(message(b"%d" % number))
        broker.kick(message(b"other", queue_name=other))
        take(broker, 251)
        # One message is received and not acknowledged, and one is not received.
        broker.kick(message(b"held"))
        take(broker, 1, acknowledge=False)
        broker.kick(message(b"new"))
        seen: list[tuple[str, int]] = []
        deleted = broker.trim(lambda stream, number: seen.append((stream, number)))
        assert deleted == 251
        assert seen[-1] == (other, 1)
        assert (name, 250) in seen
        assert [fields[b"data"] for _, fields in client.xrange(name)] == [b"held", b"new"]
        assert broker.trim() == 0


def test_stream_is_not_trimmed_before_its_groups_have_read_it(
    topology: Topology, name: str
) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        assert broker.trim() == 0
        broker.kick(message(b"a"))
        assert broker.trim() == 0
        redis_of(topology).xgroup_create(name, "late", id="0")
        assert broker.trim() == 0
        assert redis_of(topology).xlen(name) == 1


def test_messages_of_dead_worker_are_claimed_on_an_idle_queue(
    topology: Topology, name: str
) -> None:
    with opened(topology, "stream", queue_name=name, idle_timeout=200) as dead:
        dead.kick(message(b"a"))
        take(dead, 1, acknowledge=False)
    survivor = build(topology, "stream", queue_name=name, idle_timeout=200)
    with Listener(survivor) as listener:
        wait_until(partial(listener.has, b"a"))
        wait_until(partial(no_pending, topology, name))


@pytest.mark.full
def test_claim_scans_past_many_entries_that_are_not_idle(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as alive:
        for number in range(40):
            alive.kick(message(str(number).encode()))
        take(alive, 40, acknowledge=False)
    client = redis_of(topology)
    last = client.xrevrange(name, count=1)[0][0]
    client.xclaim(name, "taskiq", "long-gone", 0, [last], idle=600_000)
    survivor = build(topology, "stream", queue_name=name, unacknowledged_batch_size=1)
    with Listener(survivor, acknowledge=False) as listener:
        wait_until(partial(listener.has, b"39"))


def test_additional_streams_may_be_in_any_slot(topology: Topology, name: str) -> None:
    others = {f"{name}:{number}": ">" for number in range(4)}
    with Listener(
        build(topology, "stream", queue_name=name, additional_streams=others)
    ) as listener:
        with opened(topology, "stream", queue_name=name) as producer:
            producer.kick(message(b"main"))
            for stream in others:
                producer.kick(message(stream.encode(), queue_name=stream))
        wait_until(partial(listener.has, b"main", *(stream.encode() for stream in others)))
        for stream in (name, *others):
            wait_until(partial(no_pending, topology, stream))


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_error_in_one_slot_does_not_stop_the_others(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    others = {f"{name}:{number}": ">" for number in range(4)}
    broken = f"{name}:3"
    broker = build(topology, "stream", queue_name=name, additional_streams=others)
    with Listener(broker) as listener:
        broker.kick(message(b"0", queue_name=broken))
        wait_until(partial(listener.has, b"0"))
        redis_of(topology).delete(broken)
        redis_of(topology).set(broken, "a string")

        def is_logged() -> bool:
            return "WRONGTYPE" in caplog.text

        wait_until(is_logged)
        listener.got.clear()
        sent = [b"%d" % number for number in range(20)]
        for number, data in enumerate(sent, 1):
            broker.kick(message(data))
            wait_until(partial(listener.has, *sent[:number]))
        (complaint,) = [line for line in caplog.text.splitlines() if "interrupted" in line]
        assert f"Listening to '{broken}'" in complaint
        redis_of(topology).delete(broken)
        broker.kick(message(b"mended", queue_name=broken))
        wait_until(partial(listener.has, *sent, b"mended"))


def test_earlier_delivery_is_counted_when_reading_from_id_zero(
    topology: Topology, name: str
) -> None:
    other = f"{name}:other"
    options: dict[str, Any] = {"queue_name": name, "consumer_name": "me", "idle_timeout": 600}
    with opened(topology, "stream", **options, additional_streams={other: ">"}) as first:
        first.kick(message(b"held", queue_name=other))
        take(first, 1, acknowledge=False)
    options["max_deliveries"] = 1
    again = build(topology, "stream", **options, additional_streams={other: "0"})
    with Listener(again) as listener:
        again.kick(message(b"new", queue_name=other))
        wait_until(partial(listener.has, b"new"))
        wait_until(partial(no_pending, topology, other))
        (letter,) = collect(again.dead_letters(queue_name=other))
        assert letter.data == b"held"
        assert listener.got == [b"new"]


@pytest.mark.parametrize("fault", ["group", "stream"])
def test_deleted_group_or_stream_is_declared_again(
    topology: Topology, name: str, fault: str
) -> None:
    with Listener(build(topology, "stream", queue_name=name)) as listener:
        with opened(topology, "stream", queue_name=name) as producer:
            producer.kick(message(b"before"))
            wait_until(partial(listener.has, b"before"))
            client = redis_of(topology)
            if fault == "group":
                client.xgroup_destroy(name, "taskiq")
            else:
                client.delete(name)
            producer.kick(message(b"after"))
        wait_until(partial(listener.has, b"before", b"after"))


def test_recreated_stream_may_have_lower_ids(topology: Topology, name: str) -> None:
    with Listener(build(topology, "stream", queue_name=name)) as listener:
        listener.broker.kick(message(b"before"))
        wait_until(partial(listener.has, b"before"))
        client = redis_of(topology)
        client.delete(name)

        def declared() -> bool:
            return bool(client.exists(name))

        wait_until(declared)
        client.xadd(name, {"data": b"after"}, id="1-1")
        wait_until(partial(listener.has, b"before", b"after"))


def test_without_mkstream_a_worker_waits_for_the_stream(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name, mkstream=False)
    with Listener(broker) as listener:

        def is_logged() -> bool:
            return "NOGROUP" in caplog.text

        wait_until(is_logged)
        assert not redis_of(topology).exists(name)
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))


def test_entry_without_data_field_becomes_a_dead_letter(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry_id = redis_of(topology).xadd(name, {"something": "else"}).decode()
    with Listener(build(topology, "stream", queue_name=name)) as listener:
        with opened(topology, "stream", queue_name=name) as producer:
            producer.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        wait_until(partial(no_pending, topology, name))
        (letter,) = collect(listener.broker.dead_letters())
    assert redis_of(topology).xlen(name) == 0
    assert (letter.entry_id, letter.data) == (entry_id, None)
    assert letter.fields == {"something": b"else"}
    assert "has no field 'data'" in letter.reason
    assert "has no field 'data'" in caplog.text


def test_pending_entries_that_were_deleted_are_skipped(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name, idle_timeout=200) as dead:
        dead.kick(message(b"a"))
        dead.kick(message(b"b"))
        take(dead, 2, acknowledge=False)
    client = redis_of(topology)
    client.xdel(name, client.xrange(name, count=1)[0][0])
    survivor = build(topology, "stream", queue_name=name, idle_timeout=200)
    with Listener(survivor) as listener:
        wait_until(partial(listener.has, b"b"))


def test_maxlen_caps_the_stream(topology: Topology, name: str) -> None:
    with pytest.warns(UserWarning, match="maxlen"):
        broker = build(topology, "stream", queue_name=name, maxlen=3, approximate=False)
    for number in range(10):
        broker.kick(message(str(number).encode()))
    assert redis_of(topology).xlen(name) == 3
    broker.shutdown()


def test_slow_worker_prefetches_nothing(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        for number in range(10):
            broker.kick(message(str(number).encode()))
        messages = broker.listen()
        for count in (1, 2):
            data_of(next(messages), acknowledge=False)
            assert groups_of(topology, name)["taskiq"]["pending"] == count
            sleep(PROMPT_HANDOVER * 2)
        messages.close()


def test_read_fetches_at_most_xread_count(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name, xread_count=3) as broker:
        for number in range(60):
            broker.kick(message(str(number).encode()))
        messages = broker.listen()
        for taken in range(1, 51):
            data_of(next(messages))
            assert groups_of(topology, name)["taskiq"]["pending"] <= 3, taken
        messages.close()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_worker_declares_its_group_at_startup(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        broker.startup()
        assert list(groups_of(topology, name)) == ["taskiq"]


def test_messages_can_be_sent_while_listening(topology: Topology, name: str) -> None:
    broker: SyncRedisStreamBroker = build(topology, "stream", queue_name=name)
    got: list[bytes] = []

    def work() -> None:
        for received in broker.listen():
            got.append(data_of(received))
            broker.kick(message(b"next"))
            if len(got) == 3:
                return

    broker.kick(message(b"first"))
    with Running(work):
        pass
    assert got == [b"first", b"next", b"next"]
    broker.shutdown()
