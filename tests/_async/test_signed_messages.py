"""Signed messages: what is delivered, what becomes a dead letter, and what is dropped."""

from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from taskiq_redis import Signer
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import dead_letters_key, delayed_key
from tests._aio import wait_until
from tests._async.pending import LEASE, leave_pending, task_message
from tests._async.signers import NEW, OLD, SIGNER, STRANGER, is_signed
from tests._async.support import Listener, build, message, opened, redis_of, take, until_subscribed
from tests.servers import Topology

pytestmark = pytest.mark.anyio

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])


def put(topology: Topology, mechanism: str, name: str, *values: bytes) -> None:
    """Add bytes to a queue, as anyone with access to Redis can."""
    client = redis_of(topology)
    for value in values:
        if mechanism == "stream":
            client.xadd(name, {"data": value})
        else:
            client.lpush(name, value)


def queued(topology: Topology, mechanism: str, name: str) -> list[bytes]:
    """Return the bytes in a queue, the oldest first."""
    client = redis_of(topology)
    if mechanism == "list":
        values: list[bytes] = client.lrange(name, 0, -1)[::-1]
        return values
    return [fields[b"data"] for _, fields in client.xrange(name)]


def unacceptable(name: str) -> dict[bytes, str]:
    """Return messages that a signing worker refuses, and what it says about each."""
    signed = SIGNER.sign("message", name, b"CONTENT")
    return {
        b"CONTENT": "it is not signed, and `accept_unsigned` is off",
        SIGNER.sign("message", f"{name}:other", b"CONTENT"): "its signature is wrong",
        SIGNER.sign("result", name, b"CONTENT"): "its signature is wrong",
        STRANGER.sign("message", name, b"x"): "signed with the key 'new', which is unknown here",
        signed[:-1]: "its signature is wrong",
        signed[:22]: "its signature is malformed",
    }


@QUEUES
async def test_messages_are_signed_in_redis_and_delivered_as_they_were_sent(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        assert broker.with_signer(SIGNER) is broker
        await broker.kick(message(b"one"))
        await broker.kick_many([message(b"many"), message(b"later", delay="0.1", _delayed="True")])
        (delayed,) = redis_of(topology).zrange(delayed_key(name), 0, -1)
        stored = queued(topology, mechanism, name)
        assert stored == [SIGNER.sign("message", name, data) for data in (b"one", b"many")]
        assert delayed[UNIQUE_BYTES:] == SIGNER.sign("message", name, b"later")
        assert await take(broker, 3) == [b"one", b"many", b"later"]


@QUEUES
async def test_message_is_signed_for_the_queue_that_its_label_names(
    topology: Topology, name: str, mechanism: str
) -> None:
    other = f"{name}:other"
    async with opened(topology, mechanism, queue_name=name) as broker:
        broker.with_signer(SIGNER)
        await broker.kick(message(b"x", queue_name=other))
    assert queued(topology, mechanism, other) == [SIGNER.sign("message", other, b"x")]
    async with opened(topology, mechanism, queue_name=other) as broker:
        assert await take(broker.with_signer(SIGNER), 1) == [b"x"]


@pytest.mark.parametrize("mechanism", ["stream", "list"])
async def test_message_that_does_not_verify_becomes_a_dead_letter(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = unacceptable(name)
    put(topology, mechanism, name, *refused)
    async with opened(topology, mechanism, queue_name=name) as broker:
        await broker.with_signer(SIGNER).kick(message(b"good"))
        assert await take(broker, 1) == [b"good"]
        letters = await broker.dead_letters()
        assert [letter.data for letter in letters] == list(refused)
        for letter, problem in zip(letters, refused.values(), strict=True):
            assert problem in letter.reason
            assert letter.fields == {"data": letter.data}
            assert (letter.error, letter.traceback) == (None, None)
            what = f"the entry {letter.entry_id!r} of the stream {name!r}"
            if mechanism == "list":
                assert (letter.entry_id, letter.consumer, letter.group) == ("", "", "")
                assert letter.sent_at == letter.died_at
                what = f"a message of {len(letter.data)} bytes"
            assert f"the queue {name!r}: {what} is not run, because " in caplog.text
        assert queued(topology, mechanism, name) == []
    assert "CONTENT" not in caplog.text


async def test_published_message_is_signed_and_others_are_dropped(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "pubsub", queue_name=name).with_signer(SIGNER)
    async with Listener(broker) as listener:
        await until_subscribed(topology, name, 1)
        for value in (b"CONTENT", STRANGER.sign("message", name, b"x")):
            async with opened(topology, "pubsub", queue_name=name) as forger:
                await forger.kick(message(value))
        await broker.kick(message(b"good"))
        await wait_until(partial(listener.has, b"good"))
    assert "is refused: it is not signed" in caplog.text
    assert "is refused: it is signed with the key 'new'" in caplog.text
    assert "CONTENT" not in caplog.text


async def test_worker_without_a_signer_says_what_it_lacks(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(topology, "stream", name, SIGNER.sign("message", name, b"signed"), b"unsigned")
    async with opened(topology, "stream", queue_name=name) as broker:
        assert await take(broker, 1) == [b"unsigned"]
        (letter,) = await broker.dead_letters()
        assert is_signed(letter.data)
    put(topology, "list", f"{name}:list", SIGNER.sign("message", name, b"signed"), b"unsigned")
    async with opened(topology, "list", queue_name=f"{name}:list") as broker:
        assert await take(broker, 1) == [b"unsigned"]
    text = "it is signed, and there is no signer here: call `with_signer()`"
    assert letter.reason == text
    assert caplog.text.count(text) == 2


async def test_requeued_message_is_delivered_once_its_key_is_known(
    topology: Topology, name: str
) -> None:
    put(topology, "stream", name, STRANGER.sign("message", name, b"x"), b"end")
    async with opened(topology, "stream", queue_name=name) as broker:
        assert await take(broker.with_signer(Signer(OLD, accept_unsigned=True)), 1) == [b"end"]
        (letter,) = await broker.dead_letters()
        assert is_signed(letter.data, "new")
        broker.with_signer(Signer({**OLD, **NEW}))
        (letter,) = await broker.dead_letters()
        assert letter.data == b"x"
        assert is_signed(letter.fields["data"], "new")
        assert await broker.requeue_dead_letters(letter.id) == 1
        assert await take(broker, 1) == [b"x"]


async def test_dead_letter_of_a_signed_task_has_its_error_result_and_its_data(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        broker.with_signer(SIGNER).with_result_backend(results.with_signer(SIGNER))
        good = task_message(broker, "good:task", "id-1").message
        forged = task_message(broker, "forged:task", "id-2").message
        signed = SIGNER.sign("message", name, good)
        await leave_pending(topology, name, "last", signed, forged, deliveries=5)
        async with Listener(broker) as listener:

            async def are_dead_letters() -> bool:
                return len(await broker.dead_letters()) == 2

            await wait_until(are_dead_letters)
            first, second = await broker.dead_letters()
            assert (first.data, second.data) == (good, forged)
            assert first.fields == {"data": signed}
            assert "5 workers received" in str((await results.get_result("id-1")).error)
            # A forged message has no error result: it could have the ID of another task.
            assert not await results.is_result_ready("id-2")
            assert await broker.requeue_dead_letters(first.id) == 1
            await wait_until(partial(listener.has, good))
    assert "good:task" in caplog.text
    assert "forged:task" not in caplog.text


async def test_each_stream_of_a_worker_has_its_own_signatures(
    topology: Topology, name: str
) -> None:
    other = f"{{{name}}}:other"
    signed = {stream: SIGNER.sign("message", stream, stream.encode()) for stream in (name, other)}
    options = {"queue_name": name, "additional_streams": {other: ">"}}
    async with opened(topology, "stream", **options) as broker:
        put(topology, "stream", name, signed[other], signed[name])
        put(topology, "stream", other, signed[name], signed[other])
        broker.with_signer(SIGNER)
        assert sorted(await take(broker, 2)) == sorted([name.encode(), other.encode()])
    client = redis_of(topology)

    async def are_dead_letters() -> bool:
        return all(client.xlen(dead_letters_key(stream)) == 1 for stream in signed)

    assert await are_dead_letters()


@QUEUES
async def test_unsigned_messages_are_delivered_while_signing_is_introduced(
    topology: Topology, name: str, mechanism: str
) -> None:
    stages: list[Any] = [
        None,
        Signer(OLD, verify_only=True),
        Signer(OLD, accept_unsigned=True),
        SIGNER,
    ]
    async with opened(topology, mechanism, queue_name=name) as broker:
        for before, after in pairwise(stages):
            for writer, reader in ((before, after), (after, before)):
                broker._value_signer = writer
                await broker.kick(message(b"x"))
                broker._value_signer = reader
                assert await take(broker, 1) == [b"x"]
