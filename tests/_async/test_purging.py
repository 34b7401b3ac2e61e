"""Purged queues: which messages are deleted, and which stay."""

from functools import partial
from typing import Any

import pytest

from taskiq_redis import TaskState
from taskiq_redis._async.brokers import control
from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._core.keys import delayed_key
from taskiq_redis.exceptions import WrongKeyTypeError
from tests._aio import wait_until
from tests._async.pending import leave_pending, pending_of
from tests._async.support import Listener, build, length, message, opened, redis_of
from tests.servers import Topology

pytestmark = pytest.mark.anyio

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])
SCRIPTS = ("eval", "evalsha")


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a purge need several steps."""
    monkeypatch.setattr(control, "PURGE_LIMIT", 3)


def later(data: bytes) -> Any:
    return message(data, delay=60, _delayed="True")


@pytest.mark.smoke
@QUEUES
async def test_waiting_and_delayed_messages_are_deleted(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        assert await broker.purge_queue() == 0
        assert not redis_of(topology).exists(name)
        for number in range(10):
            await broker.kick(message(b"%d" % number))
            await broker.kick(later(b"%d" % number))
        assert await broker.purge_queue(waiting=False, delayed=False) == 0
        assert await broker.purge_queue(waiting=False) == 10
        assert length(topology, mechanism, name) == 10
        assert not redis_of(topology).exists(delayed_key(name))
        await broker.kick(later(b"more"))
        assert await broker.purge_queue(delayed=False) == 10
        assert length(topology, mechanism, name) == 0
        assert await broker.purge_queue("other") == 0
        assert await broker.purge_queue(name) == 1


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_message_that_a_worker_holds_is_not_purged(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    client = redis_of(topology)
    async with Listener(broker, acknowledge=False) as listener:
        await broker.kick(message(b"running"))
        await wait_until(partial(listener.has, b"running"))
        await leave_pending(topology, name, "dead worker", b"of a dead worker")
        await leave_pending(topology, name, "1.2.4", b"of 1.2.4", lease=None)
        held = pending_of(topology, name)
        assert await broker.purge_queue() == 0
        assert pending_of(topology, name) == held
        assert client.xlen(name) == 3


async def test_message_is_purged_if_no_worker_of_any_group_holds_it(
    topology: Topology, name: str
) -> None:
    client = redis_of(topology)
    async with opened(topology, "stream", queue_name=name) as broker:
        client.xgroup_create(name, "other", mkstream=True)
        client.xgroup_create(name, "third", mkstream=True)

        def hand_over(group: str, consumer: str) -> None:
            client.xreadgroup(group, consumer, {name: ">"}, count=1)

        # Each group receives one message after another.
        for data in (b"back", b"held", b"back and held", b"acknowledged", b"acknowledged by some"):
            await broker.kick(message(data))
        ids = [entry_id for entry_id, _ in client.xrange(name)]
        for group in ("other", "third"):
            for consumer in (HANDED_BACK, "me", HANDED_BACK, "done", "done"):
                hand_over(group, consumer)
        client.xclaim(name, "third", "me", 0, [ids[2]])
        client.xack(name, "other", *ids[3:])
        client.xack(name, "third", ids[3])
        client.xclaim(name, "third", HANDED_BACK, 0, [ids[4]])
        await broker.kick(message(b"new"))
        assert await broker.purge_queue() == 3
        assert [fields[b"data"] for _, fields in client.xrange(name)] == [
            b"held",
            b"back and held",
            b"acknowledged",
        ]
        # Those that were handed back were acknowledged for their groups.
        assert client.xpending(name, "other")["pending"] == 2
        assert client.xpending(name, "third")["pending"] == 2
        client.xgroup_create(name, "fourth", id="0")
        assert await broker.purge_queue() == 1
        assert client.xlen(name) == 2


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_message_that_is_sent_during_a_purge_stays(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        for number in range(10):
            await broker.kick(message(b"%d" % number))
        run_script, steps = broker._connection.run_script, list[int]()

        async def send_meanwhile(*arguments: Any, **options: Any) -> Any:
            reply = await run_script(*arguments, **options)
            steps.append(redis_of(topology).xlen(name))
            redis_of(topology).xadd(name, {"data": b"meanwhile"})
            return reply

        monkeypatch.setattr(broker._connection, "run_script", send_meanwhile)
        assert await broker.purge_queue(delayed=False) == 10
        assert len(steps) > 10 / control.PURGE_LIMIT
        found = [fields[b"data"] for _, fields in redis_of(topology).xrange(name)]
        assert found == [b"meanwhile"] * len(steps)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_purge_reads_few_long_messages_at_a_time(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PURGE_LIMIT", 100)
    monkeypatch.setattr(control, "PURGE_BYTES", 1000)
    async with opened(topology, "stream", queue_name=name) as broker:
        for _ in range(8):
            await broker.kick(message(b"x" * 600))
        client = redis_of(topology)
        client.config_resetstat()
        assert await broker.purge_queue(delayed=False) == 8
        calls = client.info("commandstats")
        scripts = sum(calls.get(f"cmdstat_{one}", {"calls": 0})["calls"] for one in SCRIPTS)
        assert scripts >= 4


@QUEUES
async def test_key_of_another_type_is_not_purged(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        for key in (name, delayed_key(name)):
            redis_of(topology).set(key, "a string")
            with pytest.raises(WrongKeyTypeError):
                await broker.purge_queue()
            assert redis_of(topology).get(key) == b"a string"
            redis_of(topology).delete(key)


async def test_purged_task_is_unknown_and_not_done(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name, track_tasks=True) as broker:
        kicker = broker.register_task(later, task_name="later").kicker()
        running, client = await kicker.kiq(1), redis_of(topology)
        client.xgroup_create(name, "taskiq", id="0")
        client.xreadgroup("taskiq", "worker", {name: ">"})
        purged = [await kicker.kiq(number) for number in range(5)]
        assert await broker.purge_queue() == 5
        # The group goes beyond the purged entries.
        await kicker.kiq(2)
        client.xreadgroup("taskiq", "worker", {name: ">"})
        states = [(await task.status()).state for task in (running, *purged)]
        assert states == [TaskState.RUNNING, *[TaskState.UNKNOWN] * 5]
