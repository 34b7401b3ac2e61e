"""Paused queues: workers fetch nothing from them, and go on when they are resumed."""

import time
from functools import partial
from typing import Any

import pytest

from taskiq_redis._async.brokers import delays, stream_reader
from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK, Consumer
from taskiq_redis._async.brokers.delays import Promoter
from taskiq_redis._core.keys import delayed_key, paused_key
from taskiq_redis._core.prefetch import PrefetchSize
from taskiq_redis.exceptions import InvalidOptionError, ServerUnavailableError
from tests._aio import wait_until
from tests._async.pending import LONG_LEASE, leave_pending, pending_of
from tests._async.support import Listener, build, call, data_of, length, message, opened, redis_of
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers look more often whether their queue is paused."""
    monkeypatch.setattr(delays, "INTERVAL", 0.05)


def poll_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker check whether its queue is paused before each message that it hands over."""
    for constant in ("INTERVAL", "INTERVAL_PER_WORKER", "OVERDUE"):
        monkeypatch.setattr(delays, constant, -1)


async def until_polled(topology: Topology, broker: Any, queue_name: str) -> None:
    """Wait until the only worker of a queue has checked whether it is paused.

    The same script moves a delayed message, which stays in the queue if it is paused.
    """
    await broker.kick(message(b"moved", queue_name=queue_name, delay=0.001, _delayed="True"))

    async def is_moved() -> bool:
        return not redis_of(topology).exists(delayed_key(queue_name))

    await wait_until(is_moved)


@pytest.mark.smoke
@QUEUES
async def test_worker_fetches_nothing_while_its_queue_is_paused(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with Listener(build(topology, mechanism, queue_name=name)) as listener:
        broker = listener.broker
        await broker.kick(message(b"before"))
        await wait_until(partial(listener.has, b"before"))
        await broker.pause()
        await until_polled(topology, broker, name)
        await broker.kick(message(b"meanwhile"))
        await until_polled(topology, broker, name)
        assert listener.got == [b"before"]
        assert length(topology, mechanism, name) == 3
        await broker.resume()
        await wait_until(partial(listener.has, b"before", b"moved", b"meanwhile", b"moved"))


@QUEUES
async def test_pausing_and_resuming_say_what_they_did(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name="other") as broker:
        assert not await broker.resume(name)
        assert await broker.pause(name)
        since = redis_of(topology).get(paused_key(name))
        assert abs(int(since) / 1000 - time.time()) < 3600
        assert not await broker.pause(name)
        assert redis_of(topology).get(paused_key(name)) == since
        assert await broker.resume(name)
        assert not redis_of(topology).exists(paused_key(name))
        assert not await broker.resume(name)
        with pytest.raises(InvalidOptionError):
            await broker.pause("")


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_worker_that_starts_on_a_paused_queue_claims_nothing(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name)
    await leave_pending(topology, name, HANDED_BACK, b"handed back", idle=10_000_000)
    await broker.kick(message(b"new"))
    await broker.pause()
    async with Listener(broker) as listener:
        for _ in range(3):
            await until_polled(topology, broker, name)
        assert listener.got == []
        assert {consumer for consumer, _ in pending_of(topology, name).values()} == {HANDED_BACK}
        await broker.resume()
        await wait_until(partial(listener.has, b"handed back", b"new", *[b"moved"] * 3))
    assert caplog.messages == []


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_leases_are_renewed_and_messages_acknowledged_during_a_pause(
    topology: Topology, name: str
) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LONG_LEASE}
    async with Listener(build(topology, "stream", **options), acknowledge=False) as listener:
        await listener.broker.kick(message(b"running"))
        await wait_until(partial(listener.has, b"running"))
        await listener.broker.pause()
        await until_polled(topology, listener.broker, name)
        (row,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)

        async def is_renewed() -> bool:
            (now,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 10)
            return bool(now["time_since_delivered"] < row["time_since_delivered"])

        await wait_until(is_renewed)
        await call(listener.held.pop().ack)
        assert pending_of(topology, name) == {}
        await listener.broker.resume()
        await wait_until(partial(listener.has, b"running", b"moved"))


@pytest.mark.parametrize(
    ("topology", "suffix"),
    [("single", ""), ("cluster", ":other")],
    indirect=["topology"],
)
async def test_each_stream_of_a_worker_is_paused_separately(
    topology: Topology, name: str, suffix: str
) -> None:
    # With braces, both are in the same hash slot.
    first, second = f"{{{name}}}:a", f"{{{name}{suffix}}}:b"
    options: dict[str, Any] = {"queue_name": first, "additional_streams": {second: ">"}}
    await leave_pending(topology, second, HANDED_BACK, b"back", idle=10_000_000)
    broker = build(topology, "stream", **options)
    await broker.pause(second)
    async with Listener(broker) as listener:
        await until_polled(topology, broker, second)
        await broker.kick(message(b"paused", queue_name=second))
        await broker.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))
        await until_polled(topology, broker, second)
        assert listener.got == [b"a"]
        await broker.pause()
        await broker.resume(second)
        await wait_until(partial(listener.has, b"a", b"back", b"moved", b"paused", b"moved"))
        await broker.resume()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_worker_that_joins_its_polls_notices_a_pause(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "is_distant", True)
    monkeypatch.setattr(stream_reader, "DUE_SOON", float("inf"))
    async with Listener(build(topology, "stream", queue_name=name)) as listener:
        await listener.broker.kick(message(b"before"))
        await wait_until(partial(listener.has, b"before"))
        await listener.broker.pause()
        await until_polled(topology, listener.broker, name)
        await listener.broker.kick(message(b"meanwhile"))
        await until_polled(topology, listener.broker, name)
        assert listener.got == [b"before"]
        await listener.broker.resume()
        await wait_until(partial(listener.has, b"before", b"moved", b"meanwhile", b"moved"))


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_messages_that_can_not_be_moved_do_not_hide_a_pause(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, "stream", queue_name=name)
    redis_of(topology).set(delayed_key(name), "a string")
    await broker.pause()
    await broker.kick(message(b"a"))
    monkeypatch.setattr(delays, "REFUSED_PAUSE", 0.05)
    record, replies = Promoter.record, list[Any]()

    def record_and_count(promoter: Any, reply: Any, workers: int) -> None:
        replies.append(reply)
        record(promoter, reply, workers)

    monkeypatch.setattr(Promoter, "record", record_and_count)

    async def has_polled() -> bool:
        return len(replies) >= 3

    async with Listener(broker) as listener:
        await wait_until(has_polled)
        assert "WRONGTYPE" in caplog.text
        assert listener.got == []
        assert length(topology, "stream", name) == 1
        redis_of(topology).delete(paused_key(name), delayed_key(name), name)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_messages_that_are_claimed_when_a_pause_is_noticed_are_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One round trip claims messages and looks for a pause.
    monkeypatch.setattr(PrefetchSize, "is_distant", True)
    monkeypatch.setattr(stream_reader, "DUE_SOON", float("inf"))
    await leave_pending(topology, name, HANDED_BACK, b"a", b"b", idle=10_000_000)
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.pause()
        reader = await broker._open_reader()
        assert await reader.fetch() == []
        assert {owner for owner, _ in pending_of(topology, name).values()} == {HANDED_BACK}
        await broker.resume()
        await reader.close()


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_prefetched_messages_are_handed_back_when_a_pause_is_noticed(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 10)
    poll_always(monkeypatch)
    async with opened(topology, "stream", queue_name=name) as broker:
        for number in range(10):
            await broker.kick(message(b"%d" % number))
        reader = await broker._open_reader()
        (running,) = await reader.fetch()
        assert len(await reader.fetch()) == 1
        await broker.pause()
        assert await reader.fetch() == []
        owners = [consumer for consumer, _ in pending_of(topology, name).values()]
        assert sorted(owners) == sorted([broker.consumer_name] * 2 + [HANDED_BACK] * 8)
        assert await reader.fetch() == []
        # They wait again, so they can be purged.
        assert await broker.purge_queue() == 8
        await broker.resume()
        await broker.kick(message(b"new"))
        (new,) = await reader.fetch()
        assert await data_of(new) == b"new"
        await call(running.ack)
        await reader.close()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_nothing_is_fetched_once_prefetched_messages_are_handed_back(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 2)
    # The next poll is due after this test.
    monkeypatch.setattr(delays, "INTERVAL", 3600.0)
    monkeypatch.setattr(delays, "LONGEST_INTERVAL", 3600.0)
    async with opened(topology, "stream", queue_name=name) as broker:
        for number in range(4):
            await broker.kick(message(b"%d" % number))
        reader = await broker._open_reader()
        assert len(await reader.fetch()) == 1
        await broker.pause()
        reader._promoters[name]._next_poll = time.monotonic() - 60
        assert await reader.fetch() == []
        owners = pending_of(topology, name)
        assert await reader.fetch() == []
        assert pending_of(topology, name) == owners
        assert len(owners) == 2
        await broker.resume()
        await reader.close()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_prefetched_message_is_not_run_if_its_hand_back_was_not_confirmed(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefetchSize, "next_size", lambda _: 2)
    poll_always(monkeypatch)
    async with opened(topology, "stream", queue_name=name) as broker:
        for data in (b"running", b"handed back"):
            await broker.kick(message(data))
        reader = await broker._open_reader()
        assert len(await reader.fetch()) == 1
        hand_back = Consumer.hand_back

        async def lose_reply(*arguments: Any, **options: Any) -> None:
            await hand_back(*arguments, **options)
            raise ServerUnavailableError(server="a", reason="b", advice="c")

        with monkeypatch.context() as patch:
            patch.setattr(Consumer, "hand_back", lose_reply)
            await broker.pause()
            with pytest.raises(ServerUnavailableError):
                await reader.fetch()
        await broker.resume()
        assert await reader.fetch() == []
        await reader.close()


@QUEUES
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_worker_without_rights_says_that_it_does_not_see_a_pause(
    topology: Topology, name: str, mechanism: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = (f"~{name}", f"~{delayed_key(name)}", f"~{{{name}}}:workers:*")
    options = {"queue_name": name, **user("+@all", *keys)}
    async with opened(topology, mechanism, queue_name=name) as sender:
        await sender.pause()
        await sender.kick(message(b"a"))
        async with Listener(build(topology, mechanism, **options)) as listener:
            await wait_until(partial(listener.has, b"a"))
        assert "checking whether it is paused was interrupted" in caplog.text
        await sender.resume()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_full_server_can_be_paused(topology: Topology, name: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, "stream", queue_name=name) as broker:
            redis_of(server.topology).config_set("maxmemory", 1)
            assert await broker.pause()
            assert await broker.resume()
