# Generated from tests/_async/test_inspection.py by scripts/unasync.py; edit that.

"""What brokers show of a queue: its state, compared with plain commands, and its messages."""

import os
import platform
import time
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

import taskiq_redis
from taskiq_redis import GroupStats, QueueStats, Signer, WorkerStats
from taskiq_redis._core.delays import make_unique
from taskiq_redis._core.keys import dead_letters_key, delayed_key, paused_key, workers_key
from taskiq_redis._sync.brokers import queue_contents
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis.exceptions import WrongKeyTypeError
from tests._sync.pending import LEASE, leave_pending, task_message
from tests._sync.support import Listener, build, call, message, opened, redis_of
from tests._threads import Running, collect, wait_until
from tests.servers import Topology

#: s; for the clocks of this computer and of the server
TOLERANCE = 60.0


def id_key(entry_id: bytes) -> tuple[int, int]:
    """Return an entry ID as a sortable value."""
    milliseconds, _, number = entry_id.decode().partition("-")
    return int(milliseconds), int(number)


def group_by_plain_commands(client: Any, stream: str, group: dict[str, Any]) -> dict[str, Any]:
    """Return what `stats()` has to say about a group."""
    ids = [entry_id for entry_id, _ in client.xrange(stream)]
    last = id_key(group["last-delivered-id"])
    pending = [
        row
        for row in client.xpending_range(stream, group["name"], "-", "+", 100_000)
        if client.xrange(stream, row["message_id"], row["message_id"])
    ]
    back = [row for row in pending if row["consumer"].decode() == HANDED_BACK]
    lag = [entry_id for entry_id in ids if id_key(entry_id) > last]
    consumers = client.xinfo_consumers(stream, group["name"])
    return {
        "lag": len(lag),
        "waiting": len(lag) + len(back),
        "running": len(pending) - len(back),
        "oldest": min([*map(id_key, lag), *(id_key(row["message_id"]) for row in back)]),
        "running of each": {
            name: sum(row["consumer"].decode() == name for row in pending)
            for name in (consumer["name"].decode() for consumer in consumers)
            if name != HANDED_BACK
        },
    }


def check_by_plain_commands(topology: Topology, stats: QueueStats, stream: str) -> None:
    """Compare the state of a stream with what plain commands tell."""
    client = redis_of(topology)
    groups = {
        group["name"].decode(): group_by_plain_commands(client, stream, group)
        for group in client.xinfo_groups(stream)
    }
    assert [group.name for group in stats.groups] == sorted(groups)
    for group in stats.groups:
        expected = groups[group.name]
        assert (group.lag, group.waiting) == (expected["lag"], expected["waiting"])
        assert group.running == expected["running"]
        registered = client.hgetall(workers_key(stream, group.name))
        shown = {worker.name: worker.running for worker in group.workers}
        assert shown == {**dict.fromkeys(shown, 0), **expected["running of each"]}
        for worker in group.workers:
            assert worker.registered == (worker.name.encode() in registered)
    assert stats.waiting == max(group["waiting"] for group in groups.values())
    assert stats.running == sum(group["running"] for group in groups.values())
    assert stats.delayed == client.zcard(delayed_key(stream))
    assert stats.dead == client.xlen(dead_letters_key(stream))
    assert stats.paused == bool(client.exists(paused_key(stream)))
    oldest = min(group["oldest"] for group in groups.values())
    assert stats.oldest_age is not None
    assert abs(time.time() - oldest[0] / 1000 - stats.oldest_age) < TOLERANCE


def fill(topology: Topology, stream: str) -> None:
    """Bring a stream with two groups into all states, as several versions leave them."""
    client = redis_of(topology)
    ids = [client.xadd(stream, {"data": b"%d" % number}) for number in range(30)]
    for group in ("taskiq", "second"):
        client.xgroup_create(stream, group, id="0")
    for consumer in ("full", "short", "unregistered"):
        client.xreadgroup("taskiq", consumer, {stream: ">"}, count=5)
    client.xreadgroup("second", "full", {stream: ">"}, count=2)
    client.xclaim(stream, "taskiq", HANDED_BACK, 0, ids[:2])
    # Acknowledged without being deleted, as 1.2.4 does.
    client.xack(stream, "taskiq", ids[2])
    # Pending for a worker, handed back, delivered to one group only, and waiting for both.
    client.xdel(stream, ids[0], ids[3], ids[6], ids[12], ids[20], ids[29])
    now = round(time.time() * 1000)
    client.hset(
        workers_key(stream, "taskiq"),
        mapping={
            "full": f"60000 {now} {now - 5000} 42 2.0.0 a host",
            "short": f"600 {now - 10_000}",
            "gone": f"600 {now - 10_000} {now - 20_000} 43 2.0.0 b",
            "beginning": f"60000 {now} {now} 44 2.0.0 c",
            "broken": "no numbers",
        },
    )
    client.zadd(delayed_key(stream), {make_unique(b"a"): now + 500_000, make_unique(b"b"): "inf"})
    for _ in range(3):
        client.xadd(dead_letters_key(stream), {"data": b"dead"})
    client.set(paused_key(stream), now)


def test_state_of_a_stream_is_that_of_plain_commands(topology: Topology, name: str) -> None:
    fill(topology, name)
    with opened(topology, "stream", queue_name=name) as broker:
        stats = broker.stats()
        check_by_plain_commands(topology, stats, name)
    assert (stats.queue_name, stats.kind, stats.subscribers) == (name, "stream", None)
    assert abs(stats.next_due - 500) < TOLERANCE
    second, first = stats.groups
    assert (first.lag, first.waiting, first.running) == (13, 14, 9)
    assert second.running == 1
    workers = {worker.name: worker for worker in first.workers}
    assert list(workers) == ["beginning", "full", "short", "unregistered"]
    full, short = workers["full"], workers["short"]
    assert full.registered
    assert full.is_alive
    assert (full.pid, full.version, full.host) == (42, "2.0.0", "a host")
    assert full.started is not None
    assert (full.lease, full.running) == (60.0, 1)
    assert short.registered
    assert not short.is_alive
    assert (short.pid, short.version, short.host, short.started) == (None, None, None, None)
    assert short.lease_age is not None
    assert short.lease_age > 5
    assert workers["unregistered"] == WorkerStats("unregistered", 4, registered=False)
    assert not workers["unregistered"].is_alive


@pytest.mark.parametrize("visited", [1, 3, 10])
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_messages_are_counted_in_bounded_steps(
    topology: Topology, name: str, visited: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(topology, name)
    monkeypatch.setattr(queue_contents, "MAX_VISITED", visited)
    with opened(topology, "stream", queue_name=name) as broker:
        run_script, calls = broker._connection.run_script, []

        def counted(*words: Any, **options: Any) -> Any:
            calls.append(words)
            return run_script(*words, **options)

        monkeypatch.setattr(broker._connection, "run_script", counted)
        stats = broker.stats()
        check_by_plain_commands(topology, stats, name)
        # 15 pending entries of both groups, and the shorter sides of both.
        assert len(calls) >= 27 // visited
        calls.clear()
        monkeypatch.setattr(queue_contents, "MAX_VISITED", 1000)
        assert broker.stats().groups[0].lag == stats.groups[0].lag
        assert len(calls) == 2
        monkeypatch.setattr(queue_contents, "MAX_BYTES", 1)
        check_by_plain_commands(topology, broker.stats(), name)
        assert len(calls) > 10


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_acknowledged_entries_that_are_kept_do_not_wait(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with 1.2.4: many entries before the last delivered one, few after it.
    client = redis_of(topology)
    ids = [client.xadd(name, {"data": b"x"}) for _ in range(40)]
    client.xgroup_create(name, "taskiq", id=ids[36])
    monkeypatch.setattr(queue_contents, "MAX_VISITED", 5)
    with opened(topology, "stream", queue_name=name) as broker:
        assert broker.stats().waiting == 3
        client.xgroup_setid(name, "taskiq", id=ids[-1])
        assert broker.stats().waiting == 0
        client.xgroup_setid(name, "taskiq", id="0")
        assert broker.stats().waiting == 40
        largest = f"{2**64 - 1}-{2**64 - 1}"
        client.xadd(name, {"data": b"last"}, id=largest)
        assert broker.stats().waiting == 41
        assert len(collect(broker.waiting())) == 41
        client.xreadgroup("taskiq", "me", {name: ">"})
        assert broker.stats().groups[0].running == 41
        assert collect(broker.waiting()) == []
        assert len(collect(broker.running())) == 41


def test_queue_without_groups_or_keys(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        empty = QueueStats(name, "stream", waiting=0, running=0, delayed=0, dead=0)
        assert broker.stats() == empty
        for iterate in (broker.waiting, broker.running, broker.delayed, broker.dead_letters):
            assert collect(iterate()) == []
        broker.kick(message(b"a"))
        stats = broker.stats()
        assert (stats.waiting, stats.running, stats.groups) == (1, 0, ())
        assert stats.oldest_age is not None
        assert [task.data for task in collect(broker.waiting())] == [b"a"]
        other = broker.stats(f"{name}:other")
        assert (other.queue_name, other.waiting) == (f"{name}:other", 0)


def test_wrong_type_of_a_key_is_named(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    for mechanism in ("stream", "list"):
        with opened(topology, mechanism, queue_name=name) as broker:
            for key, iterate in (
                (name, broker.waiting),
                (delayed_key(name), broker.delayed),
                (dead_letters_key(name), broker.dead_letters),
            ):
                client.set(key, "a string")
                with pytest.raises(WrongKeyTypeError, match=name):
                    broker.stats()
                with pytest.raises(WrongKeyTypeError, match=name):
                    collect(iterate())
                client.delete(key)


def test_worker_registers_its_host_process_and_version(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    began = datetime.now(timezone.utc)
    with Listener(broker, acknowledge=False) as listener:
        for data in (b"a", b"b"):
            broker.kick(message(data))
        wait_until(partial(listener.has, b"a", b"b"))
        stats = broker.stats()
        (group,) = stats.groups
        (worker,) = group.workers
        assert (worker.name, worker.running) == (broker.consumer_name, 2)
        assert worker.registered
        assert worker.is_alive
        assert (worker.pid, worker.host) == (os.getpid(), platform.node())
        assert (worker.version, worker.lease) == (taskiq_redis.__version__, 15.0)
        assert abs((worker.started - began).total_seconds()) < TOLERANCE
        assert group == GroupStats("taskiq", lag=0, waiting=0, running=2, workers=(worker,))
        assert {task.owner for task in collect(broker.running())} == {worker.name}
        for held in listener.held:
            call(held.ack)
        assert broker.stats().running == 0
    (group,) = broker.stats().groups
    assert group.workers == ()
    broker.shutdown()


def test_renewals_keep_the_start(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    key = workers_key(name, "taskiq")

    def registration() -> list[str]:
        value = redis_of(topology).hget(key, broker.consumer_name)
        return value.decode().split(" ") if value else []

    def is_renewed() -> bool:
        return registration()[1] != first[1]

    with Listener(broker):
        first = wait_until(registration)
        wait_until(is_renewed)
        assert registration()[2:] == first[2:]


def test_state_is_right_while_tasks_run(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    sender = build(topology, "stream", queue_name=name)
    begun, done = [0, 0], [0, 0]

    def send() -> None:
        while begun[0] < 300:
            begun[0] += 1
            sender.kick(message(b"x"))
            done[0] += 1

    def work() -> None:
        for received in broker.listen():
            begun[1] += 1
            call(received.ack)
            done[1] += 1

    with Running(work):
        with Running(send):
            while done[0] < 300:
                before = done[0], done[1]
                stats = sender.stats()
                held = stats.waiting + stats.running
                assert before[0] - begun[1] <= held <= begun[0] - before[1]
        wait_until(partial(is_empty, sender))
        broker.shutdown()
    broker.shutdown()
    sender.shutdown()


def is_empty(broker: Any) -> bool:
    """Return whether a queue has no messages."""
    stats = broker.stats()
    return bool(stats.waiting == stats.running == 0)


def test_state_of_a_list(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    with opened(topology, "list", queue_name=name) as broker:
        assert broker.stats() == QueueStats(name, "list", waiting=0, delayed=0, dead=0)
        client.rpush(name, "a", "b")
        client.zadd(delayed_key(name), {make_unique(b"late"): 1})
        client.xadd(dead_letters_key(name), {"data": b"dead"})
        client.set(paused_key(name), 1)
        assert broker.stats() == QueueStats(
            name, "list", waiting=2, delayed=1, dead=1, next_due=0.0, paused=True
        )
        (letter,) = collect(broker.dead_letters())
        assert letter.data == b"dead"


def test_subscribers_of_a_channel_are_counted(topology: Topology, name: str) -> None:
    with opened(topology, "pubsub", queue_name=name) as broker:
        assert broker.stats() == QueueStats(name, "pubsub", subscribers=0)
        readers = [broker._open_reader() for _ in range(2)]
        for reader in readers:
            # The first reply is that to SUBSCRIBE.
            assert reader.fetch() == []
        assert broker.stats().subscribers == 2
        assert broker.stats(f"{name}:other").subscribers == 0
        for reader in readers:
            reader.close()


def add_tasks(topology: Topology, broker: Any, stream: str, *task_ids: str) -> list[Any]:
    """Add tasks to a stream, alternately of two names, and return the IDs of their entries."""
    return [
        redis_of(topology).xadd(
            stream, {"data": task_message(broker, f"task:{number % 2}", task_id).message}
        )
        for number, task_id in enumerate(task_ids)
    ]


@pytest.fixture(params=[(10, 100), (2, 3)], ids=["one page", "several pages"])
def pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read messages on pages of usual and of small size."""
    first, largest = request.param
    monkeypatch.setattr(queue_contents, "FIRST_PAGE", first)
    monkeypatch.setattr(queue_contents, "LARGEST_PAGE", largest)


@pytest.mark.usefixtures("pages")
def test_messages_of_a_stream_are_listed(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    with opened(topology, "stream", queue_name=name) as broker:
        ids = add_tasks(topology, broker, name, *map(str, range(20)))
        client.xgroup_create(name, "taskiq", id="0")
        client.xreadgroup("taskiq", "me", {name: ">"}, count=12)
        client.xclaim(name, "taskiq", HANDED_BACK, 0, [*ids[1:4], *ids[5:9]], retrycount=2)
        client.xdel(name, ids[0], ids[3], ids[13])
        waiting = collect(broker.waiting())
        shown = [1, 2, 5, 6, 7, 8, 12, 14, 15, 16, 17, 18, 19]
        assert [task.task_id for task in waiting] == list(map(str, shown))
        assert [task.id for task in waiting] == [ids[number].decode() for number in shown]
        assert {task.deliveries for task in waiting[:6]} == {2}
        assert {(task.deliveries, task.owner) for task in waiting[6:]} == {(0, None)}
        assert {task.queue_name for task in waiting} == {name}
        assert waiting[0].since == datetime.fromtimestamp(id_key(ids[1])[0] / 1000, timezone.utc)
        running = collect(broker.running())
        assert [task.task_id for task in running] == ["4", "9", "10", "11"]
        assert {(task.owner, task.deliveries) for task in running} == {("me", 1)}
        chosen = collect(broker.waiting(task_name="task:0"))
        assert [task.task_id for task in chosen] == ["2", "6", "8", "12", "14", "16", "18"]
        limited = collect(broker.waiting(task_name="task:0", limit=3))
        assert [task.task_id for task in limited] == ["2", "6", "8"]
        assert collect(broker.running(limit=0)) == []
        assert len(collect(broker.running(limit=3))) == 3
        assert collect(broker.running(task_name="other")) == []
        client.xgroup_destroy(name, "taskiq")
        assert len(collect(broker.waiting())) == 17
        assert collect(broker.running()) == []


@pytest.mark.usefixtures("pages")
def test_messages_of_a_list_are_listed(topology: Topology, name: str) -> None:
    with opened(topology, "list", queue_name=name) as broker:
        for number in range(15):
            broker.kick(task_message(broker, f"task:{number % 2}", str(number)))
        waiting = collect(broker.waiting())
        assert [task.task_id for task in waiting] == [str(number) for number in range(15)]
        assert {(task.id, task.since, task.due, task.owner) for task in waiting} == {
            ("", None, None, None)
        }
        chosen = collect(broker.waiting(task_name="task:1", limit=2))
        assert [task.task_id for task in chosen] == ["1", "3"]


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_delayed_messages_are_listed(topology: Topology, name: str, mechanism: str) -> None:
    client = redis_of(topology)
    with opened(topology, mechanism, queue_name=name) as broker:
        due = [10, *[20] * 8, 30, 30, float("inf")]
        for number, milliseconds in enumerate(due):
            data = b"%016d" % number + task_message(broker, "a:task", str(number)).message
            client.zadd(delayed_key(name), {data: milliseconds})
        delayed = collect(broker.delayed())
        assert [task.task_id for task in delayed] == [str(number) for number in range(len(due))]
        assert delayed[0].due == datetime.fromtimestamp(0.01, timezone.utc)
        assert (delayed[-1].due, delayed[0].since, delayed[0].id) == (None, None, "")
        assert len(collect(broker.delayed(limit=5, task_name="a:task"))) == 5
        client.zadd(delayed_key(name), {"short": 0})
        first, *_ = collect(broker.delayed())
        assert (first.data, first.task_id) == (b"", None)
        assert first.problem is not None


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_bad_messages_hide_no_others(topology: Topology, name: str) -> None:
    client = redis_of(topology)
    with opened(topology, "stream", queue_name=name) as broker:
        client.xadd(name, {"other": "x"})
        client.xadd(name, {"data": b"\xff not JSON"})
        client.xadd(name, {"data": b'{"task_id": "secret"}'})
        client.xadd(name, {b"\xff": b"x", "data": b"[1, 2]"})
        client.xadd(name, {"data": b"[" * 100_000})
        add_tasks(topology, broker, name, "good")
        *bad, good = collect(broker.waiting())
        assert [task.data is None for task in bad] == [True, False, False, False, False]
        for task in bad:
            assert (task.task_id, task.task_name) == (None, None)
            assert (task.labels, task.args, task.kwargs) == ({}, [], {})
            assert "secret" not in str(task.problem)
            assert task.problem
        assert (good.task_id, good.problem) == ("good", None)
        assert len(collect(broker.waiting(task_name="task:0"))) == 1


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_messages_with_an_invalid_signature_are_not_read(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as plain:
        plain.kick(task_message(plain, "a:task", "forged"))
        signed = build(topology, "stream", queue_name=name)
        signed.with_signer(Signer({"one": "k" * 32}))
        signed.kick(task_message(signed, "a:task", "ours"))
        forged, ours = collect(signed.waiting())
        assert (ours.task_id, ours.problem) == ("ours", None)
        assert ours.data == task_message(signed, "a:task", "ours").message
        assert (forged.task_id, forged.data) == (
            None,
            task_message(plain, "a:task", "forged").message,
        )
        assert "not signed" in str(forged.problem)
        first, second = collect(plain.waiting())
        assert (first.task_id, second.task_id) == ("forged", None)
        assert "with_signer" in str(second.problem)
        signed.shutdown()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_task_in_a_message_is_read(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:

        @broker.task("a:task")
        def a_task(*args: Any, **kwargs: Any) -> None: ...

        a_task.kicker().with_labels(size=3, raw=b"x").kiq("secret", 2, key=[1.5])
        leave_pending(topology, name, "me", b"other")
        running, other = collect(broker.running())
        assert other.task_id is None
        assert (running.labels, running.args) == ({"size": 3, "raw": b"x"}, ["secret", 2])
        assert (running.kwargs, running.owner) == ({"key": [1.5]}, "me")
        assert (running.task_name, running.problem) == ("a:task", None)
        assert "secret" not in repr(running)
        assert repr(running.id) in repr(running)
