# Generated from tests/_async/test_task_status.py by scripts/unasync.py; edit that.

"""What `status` tells about tasks, with and without records of them."""

from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis import TaskState, TaskStatus
from taskiq_redis._core.dead_letters import dead_letter_fields
from taskiq_redis._core.keys import delayed_key, producer_key, tasks_key
from taskiq_redis._core.task_status import task_digest
from taskiq_redis._sync.brokers import task_status
from taskiq_redis._sync.brokers.dead_letter_store import NewDeadLetter
from taskiq_redis._sync.brokers.task_records import ENQUEUE_TRACKED
from taskiq_redis.exceptions import DeadLetterError
from tests._sync.pending import LEASE, task_message
from tests._sync.support import Listener, build, call, length, opened, redis_of, result, take
from tests._threads import wait_until
from tests.servers import Topology

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])
ON_SINGLE = pytest.mark.parametrize("topology", ["single"], indirect=True)

UNKNOWN = TaskStatus(TaskState.UNKNOWN)


def add(a: int, b: int) -> int:
    """Return the sum, as a task."""
    return a + b


def tracked(topology: Topology, mechanism: str, name: str, **options: Any) -> Any:
    """Open a broker that tracks tasks."""
    return opened(topology, mechanism, queue_name=name, track_tasks=True, **options)


def kicker(broker: Any, task_id: str | None = None) -> Any:
    """Return a kicker of a task."""
    return broker.register_task(add, task_name="add").kicker().with_task_id(task_id)


def now_on(topology: Topology) -> float:
    """Return the time of the server."""
    seconds, microseconds = redis_of(topology).time()
    return float(seconds + microseconds / 1e6)


def is_in(broker: Any, task_id: str, state: TaskState) -> bool:
    """Return whether a task is in a state."""
    found: TaskStatus = broker.status(task_id)
    return found.state is state


@pytest.mark.smoke
def test_stream_tells_each_state_of_a_tracked_task(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        began = now_on(topology)
        sent = kicker(broker).kiq(1, 2)
        queued = sent.status()
        assert queued == broker.status(sent.task_id)
        assert queued.state is TaskState.QUEUED
        assert began - 0.001 <= queued.since.timestamp() <= now_on(topology)
        assert broker.status("other") == UNKNOWN
        delivered = now_on(topology)
        take(broker, 1, acknowledge=False)
        running = sent.status()
        assert (running.state, running.worker, running.attempt) == (
            TaskState.RUNNING,
            broker.consumer_name,
            1,
        )
        assert delivered - 0.001 <= running.since.timestamp() <= now_on(topology)
        call(broker.held_by_test.pop().ack)
        assert sent.status() == TaskStatus(TaskState.DONE)


@QUEUES
def test_delayed_task_is_delayed_and_then_queued(
    topology: Topology, name: str, mechanism: str
) -> None:
    with tracked(topology, mechanism, name) as broker:
        began = now_on(topology)
        far = kicker(broker).with_delay(60).kiq(1, 2)
        soon = kicker(broker).with_delay(0.05).kiq(1, 2)
        found = far.status()
        assert (found.state, found.since) == (TaskState.DELAYED, None)
        assert began + 60 - 0.001 <= found.due.timestamp() <= now_on(topology) + 60
        assert is_in(broker, soon.task_id, TaskState.DELAYED)
        with opened(topology, mechanism, queue_name=name, track_tasks=True) as worker:
            take(worker, 1, acknowledge=False)
            # A list doesn't tell whether a task that was taken runs.
            taken = TaskState.RUNNING if mechanism == "stream" else TaskState.UNKNOWN
            assert is_in(broker, soon.task_id, taken)
            assert is_in(broker, far.task_id, TaskState.DELAYED)
        redis_of(topology).delete(delayed_key(name))
        assert far.status() == UNKNOWN


@ON_SINGLE
@QUEUES
def test_promoted_task_is_queued(topology: Topology, name: str, mechanism: str) -> None:
    with tracked(topology, mechanism, name) as broker:
        sent = kicker(broker).with_delay(0.05).kiq(1, 2)
        others = [kicker(broker).kiq(1, 2) for _ in range(3)]
        # The next read moves it into the queue, and takes an earlier one.
        wait_until(partial(is_overdue, topology, name))
        assert is_in(broker, sent.task_id, TaskState.DELAYED)
        take(broker, 1)
        assert is_in(broker, sent.task_id, TaskState.QUEUED)
        assert length(topology, mechanism, name) == len(others)


def is_overdue(topology: Topology, name: str) -> bool:
    """Return whether a delayed message is due."""
    due = now_on(topology) * 1000
    return bool(redis_of(topology).zcount(delayed_key(name), "-inf", due))


@QUEUES
def test_result_precedes_the_record(topology: Topology, name: str, mechanism: str) -> None:
    with (
        tracked(topology, mechanism, name) as broker,
        opened(topology, "results", prefix_str=name, keep_results=False) as results,
    ):
        broker.with_result_backend(results)
        sent = kicker(broker).kiq(1, 2)
        assert is_in(broker, sent.task_id, TaskState.QUEUED)
        results.set_result(sent.task_id, result(3))
        for _ in range(2):
            # Asking doesn't delete the result.
            assert sent.status() == TaskStatus(TaskState.DONE)
        error = DeadLetterError(deliveries=5, consumer="c", entry_id="1-0", queue_name=name)
        results.set_result(sent.task_id, result(None, is_err=True, error=error))
        assert sent.status() == TaskStatus(TaskState.DEAD)
        redis_of(topology).set(f"{name}:{sent.task_id}", b"no result")
        assert sent.status() == TaskStatus(TaskState.DONE)


@ON_SINGLE
@pytest.mark.parametrize("mechanism", ["stream", "list", "pubsub"])
def test_without_tracking_results_and_progress_tell(
    topology: Topology, name: str, mechanism: str
) -> None:
    with (
        opened(topology, mechanism, queue_name=name) as broker,
        opened(topology, "results", prefix_str=name) as results,
    ):
        assert broker.status("id") == UNKNOWN
        broker.with_result_backend(results)
        sent = kicker(broker).kiq(1, 2)
        assert sent.status() == UNKNOWN
        results.set_progress(sent.task_id, TaskProgress(state="half", meta=1))
        assert sent.status() == TaskStatus(TaskState.RUNNING)
        results.set_result(sent.task_id, result(3))
        assert sent.status() == TaskStatus(TaskState.DONE)
        assert redis_of(topology).exists(tasks_key(name)) == 0


@ON_SINGLE
def test_tracked_task_in_a_list_is_queued(topology: Topology, name: str) -> None:
    with (
        tracked(topology, "list", name) as broker,
        opened(topology, "results", prefix_str=name) as results,
    ):
        # As JSON, this ID has escapes.
        sent = kicker(broker, 'a "quoted" äö').kiq(1, 2)
        calls = [broker.task(add).kicker().call(1, 2) for _ in range(600)]
        broker.task(add).kicker().kiq_many(calls)
        found = sent.status()
        assert found.state is TaskState.QUEUED
        assert abs(found.since.timestamp() - now_on(topology)) < 60
        take(broker, 1)
        assert sent.status() == UNKNOWN
        broker.with_result_backend(results)
        assert sent.status() == TaskStatus(TaskState.RUNNING)


@ON_SINGLE
def test_id_in_another_message_of_a_list_is_not_the_task(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(topology, "list", name) as broker:
        for task_id in ("task-1", "task-12", "task-2"):
            kicker(broker, task_id).kiq("task-1", "x" * 10_000)
        # The script looks at one message at a time.
        monkeypatch.setattr(task_status, "FIND_BYTES", 100)
        assert is_in(broker, "task-1", TaskState.QUEUED)
        take(broker, 1)
        assert broker.status("task-1") == UNKNOWN
        assert is_in(broker, "task-2", TaskState.QUEUED)


def test_dead_letter_is_dead_and_can_be_queued_again(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name, max_deliveries=1, idle_timeout=LEASE) as broker:
        sent = kicker(broker).kiq(1, 2)
        fail_first_delivery(topology, name)
        with Listener(build_worker(topology, name)):
            wait_until(partial(is_in, broker, sent.task_id, TaskState.DEAD))
        assert sent.status().since.timestamp() <= now_on(topology)
        (letter,) = redis_of(topology).xrange(f"{{{name}}}:dead")
        assert broker.requeue_dead_letters() == 1
        assert is_in(broker, sent.task_id, TaskState.QUEUED)
        ((_, fields),) = redis_of(topology).xrange(name)
        assert fields == {b"data": letter[1][b"data"]}


def build_worker(topology: Topology, name: str, **options: Any) -> Any:
    """Build a broker that tracks tasks and stops them after one failed delivery."""
    options = {"max_deliveries": 1, "idle_timeout": LEASE, "track_tasks": True, **options}
    return build(topology, "stream", queue_name=name, **options)


def fail_first_delivery(topology: Topology, name: str) -> None:
    """Deliver the messages of a queue to a worker that dies."""
    client = redis_of(topology)
    client.xgroup_create(name, "taskiq", id="0")
    client.hset(f"{{{name}}}:workers:taskiq", "dead", "1 1")
    ((_, entries),) = client.xreadgroup("taskiq", "dead", {name: ">"})
    ids = [entry_id for entry_id, _ in entries]
    client.xclaim(name, "taskiq", "dead", 0, ids, idle=10 * LEASE, retrycount=1)


@QUEUES
def test_failed_task_that_is_kept_is_dead(topology: Topology, name: str, mechanism: str) -> None:
    with (
        tracked(topology, mechanism, name) as broker,
        opened(topology, "results", prefix_str=name) as results,
    ):
        broker.with_result_backend(results)
        sent = kicker(broker).kiq(1, 2)
        (data,) = take(broker, 1)
        results.set_result(sent.task_id, result(None, is_err=True, error=ValueError("no")))
        assert sent.status() == TaskStatus(TaskState.DONE)
        fields = dead_letter_fields("it failed")
        assert broker._dead_letters.add_message(NewDeadLetter(name, data), fields)
        assert is_in(broker, sent.task_id, TaskState.DEAD)
        results.delete_result(sent.task_id)
        assert is_in(broker, sent.task_id, TaskState.DEAD)
        assert broker.requeue_dead_letters() == 1
        assert is_in(broker, sent.task_id, TaskState.QUEUED)
        assert take(broker, 1) == [data]


def test_status_follows_claims_and_hand_backs(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name, idle_timeout=LEASE) as broker:
        sent = kicker(broker).kiq(1, 2)
        fail_first_delivery(topology, name)
        found = sent.status()
        assert (found.state, found.worker, found.attempt) == (TaskState.RUNNING, "dead", 1)
        worker = build_worker(topology, name, max_deliveries=None)
        with Listener(worker, acknowledge=False):

            def runs_again() -> bool:
                status = sent.status()
                return status.worker == worker.consumer_name and status.attempt >= 2

            wait_until(runs_again)
        client = redis_of(topology)
        ((entry_id, _),) = client.xrange(name)
        client.xclaim(name, "taskiq", "taskiq-redis:handed-back", 0, [entry_id])
        assert is_in(broker, sent.task_id, TaskState.QUEUED)


@ON_SINGLE
def test_beginning_is_known_after_renewals(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        sent = kicker(broker).kiq(1, 2)
        with Listener(broker, acknowledge=False) as listener:

            def is_fetched() -> bool:
                return bool(listener.held)

            wait_until(is_fetched)
            ((entry_id, _),) = redis_of(topology).xrange(name)
            # As if it were fetched a while ago.
            redis_of(topology).xclaim(
                name, "taskiq", broker.consumer_name, 0, [entry_id], idle=60_000, justid=True
            )
            (state,) = broker._listener_states.get()
            (keeper,) = state.keepers
            for _ in range(2):
                assert keeper._renew(broker._connection, name, [entry_id]) == []
            (row,) = redis_of(topology).xpending_range(name, "taskiq", "-", "+", 1)
            assert row["time_since_delivered"] < 60_000
            found = sent.status()
            assert (found.state, found.attempt) == (TaskState.RUNNING, 1)
            assert found.since.timestamp() < now_on(topology) - 59


@ON_SINGLE
@QUEUES
def test_record_is_that_of_the_latest_message(
    topology: Topology, name: str, mechanism: str
) -> None:
    with tracked(topology, mechanism, name) as broker:
        kicker(broker, "id").kiq(1, 2)
        take(broker, 1)
        sent = kicker(broker, "id").with_delay(60).kiq(1, 2)
        assert is_in(broker, "id", TaskState.DELAYED)
        kicker(broker, "id").kiq(1, 2)
        assert is_in(broker, "id", TaskState.QUEUED)
        assert sent.task_id == "id"
        assert redis_of(topology).zcard(tasks_key(name)) == 1


@ON_SINGLE
def test_task_of_another_queue_is_found(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        one = kicker(broker).with_labels(queue_name=f"{name}:other").kiq(1, 2)
        task = broker.task(add).kicker().with_labels(queue_name=f"{name}:other")
        (many,) = task.kiq_many([task.call(1, 2)])
        for sent in (one, many):
            assert sent.status().state is TaskState.QUEUED
            assert broker.status(sent.task_id) == UNKNOWN
            found = broker.status(sent.task_id, f"{name}:other")
            assert found.state is TaskState.QUEUED


@ON_SINGLE
def test_lost_message_is_unknown(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        sent = kicker(broker).kiq(1, 2)
        client = redis_of(topology)
        assert is_in(broker, sent.task_id, TaskState.QUEUED)
        client.xgroup_create(name, "taskiq", id="0")
        client.xtrim(name, maxlen=0)
        assert sent.status() == UNKNOWN
        client.delete(name)
        assert sent.status() == UNKNOWN
        client.set(name, "a string")
        assert sent.status() == UNKNOWN
        client.delete(tasks_key(name))
        client.zadd(tasks_key(name), {task_digest(sent.task_id): "inf"})
        assert sent.status() == UNKNOWN


@ON_SINGLE
@QUEUES
def test_records_are_forgotten(topology: Topology, name: str, mechanism: str) -> None:
    with tracked(topology, mechanism, name, track_ttl=60) as broker:
        client, key = redis_of(topology), tasks_key(name)
        old = (now_on(topology) - 61) * 1000 * 2048
        client.zadd(key, {f"old {number}": old for number in range(10)})
        kicker(broker).kiq(1, 2)
        # At most twice as many as are added.
        assert client.zcard(key) == 1 + 8
        assert 50_000 < client.pttl(key) <= 60_000
        kicker(broker).with_delay(1000).kiq(1, 2)
        assert 1_050_000 < client.pttl(key) <= 1_060_000
        broker.task(add).kicker().kiq_many([broker.task(add).kicker().call(1, 2)] * 5)
        assert client.zcard(key) == 2 + 5
        assert 1_050_000 < client.pttl(key) <= 1_060_000
        client.zadd(key, {"other": "inf"})
        sent = [kicker(broker).kiq(1, 2) for _ in range(2)]
        assert is_in(broker, sent[1].task_id, TaskState.QUEUED)


def test_batch_that_was_added_before_is_recorded_once(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        keys = [name, producer_key(name, "p"), tasks_key(name)]
        data = task_message(broker, "add", "id").message
        args = [1, "XADD * data", 60_000, data, task_digest("id")]
        run = partial(broker._connection.run_script, ENQUEUE_TRACKED, keys)
        assert run(args) == 1
        record = redis_of(topology).zrange(tasks_key(name), 0, -1, withscores=True)
        # As when the reply was lost.
        assert run(args) == b"1"
        assert redis_of(topology).xlen(name) == 1
        assert redis_of(topology).zrange(tasks_key(name), 0, -1, withscores=True) == record
        assert is_in(broker, "id", TaskState.QUEUED)


@ON_SINGLE
@QUEUES
@pytest.mark.full
@pytest.mark.parametrize(
    "rules",
    [
        ("+@all", "~{name}", "~{{{name}}}:[dpw]*"),
        ("+@all", "~*", "-pexpire"),
        ("+@all", "~*", "-zrange"),
    ],
    ids=["no key", "no PEXPIRE", "no ZRANGE"],
)
def test_tasks_are_sent_untracked_if_records_are_refused(
    topology: Topology,
    name: str,
    mechanism: str,
    rules: tuple[str, ...],
    user: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = user("&*", *[rule.format(name=name) for rule in rules])
    with tracked(topology, mechanism, name, **options) as broker:
        for _ in range(2):
            kicker(broker).kiq(1, 2)
        kicker(broker).with_delay(60).kiq(1, 2)
        assert length(topology, mechanism, name) == 2
        assert redis_of(topology).zcard(delayed_key(name)) == 1
        # Exactly once, still.
        assert not broker._producer.get()._refusal.active
        (logged,) = [text for text in caplog.messages if "not tracked" in text]
        assert "Grant ZADD" in logged
        user("&*", "+@all", "~*")
        monkeypatch.setattr(broker._producer.get()._recorder._refusal, "_retry_at", 0.0)
        sent = kicker(broker).kiq(1, 2)
        assert "Tasks are tracked again" in caplog.text
    with tracked(topology, mechanism, name) as broker:
        assert is_in(broker, sent.task_id, TaskState.QUEUED)


@ON_SINGLE
@QUEUES
@pytest.mark.full
def test_tasks_are_not_tracked_by_plain_commands(
    topology: Topology, name: str, mechanism: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = user("+@all", "~*", "&*", "-@scripting")
    with tracked(topology, mechanism, name, **options) as broker:
        sent = [kicker(broker).kiq(1, 2) for _ in range(2)]
    assert length(topology, mechanism, name) == 2
    assert caplog.text.count("not tracked while messages are sent by plain commands") == 1
    with tracked(topology, mechanism, name) as broker:
        assert broker.status(sent[0].task_id) == UNKNOWN


@ON_SINGLE
def test_records_of_another_type_do_not_keep_tasks_from_being_sent(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(tasks_key(name), "a string")
    with tracked(topology, "stream", name) as broker:
        kicker(broker).kiq(1, 2)
        kicker(broker).with_delay(0.05).kiq(1, 2)
        assert caplog.text.count("not tracked") == 1
        assert len(take(broker, 2)) == 2
    assert "WRONGTYPE" in caplog.text


@QUEUES
@pytest.mark.full
def test_worker_without_rights_to_records_runs_tasks(
    topology: Topology, name: str, mechanism: str, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = user("+@all", f"~{name}", f"~{{{name}}}:[dpw]*", "&*")
    with tracked(topology, mechanism, name) as broker:
        kicker(broker).kiq(1, 2)
        kicker(broker).with_delay(0.05).kiq(1, 2)
        worker = build(topology, mechanism, queue_name=name, track_tasks=True, **options)
        with Listener(worker) as listener:

            def has_both() -> bool:
                return len(listener.got) == 2

            wait_until(has_both)
    assert caplog.text.count("This worker doesn't track tasks") == 1
    assert [text for text in caplog.messages if "track tasks" not in text] == []


@QUEUES
def test_worker_that_does_not_track_leaves_delayed_tasks_unknown(
    topology: Topology, name: str, mechanism: str
) -> None:
    with tracked(topology, mechanism, name) as broker:
        sent = kicker(broker).with_delay(0.05).kiq(1, 2)
        with opened(topology, mechanism, queue_name=name) as worker:
            take(worker, 1)
        assert sent.status() == UNKNOWN


@ON_SINGLE
def test_task_with_a_large_sequence_number_is_unknown(topology: Topology, name: str) -> None:
    with tracked(topology, "stream", name) as broker:
        client = redis_of(topology)
        kicker(broker, "id").kiq(1, 2)
        # As after the clock was set back.
        later = int((now_on(topology) + 1000) * 1000)
        client.xadd(name, {"data": "x"}, id=f"{later}-2044")
        last = kicker(broker).kiq(1, 2)
        assert is_in(broker, last.task_id, TaskState.QUEUED)
        kicker(broker, "id").kiq(1, 2)
        assert broker.status("id") == UNKNOWN
        client.xadd(name, {"data": "x"}, id=f"{2**63}-0")
        assert kicker(broker).kiq(1, 2).status() == UNKNOWN
