# Generated from tests/_async/test_delays.py by scripts/unasync.py; edit that.

"""Delayed tasks, on every topology."""

import time
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError, ResponseError
from taskiq.exceptions import SendTaskError

from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis._sync.brokers.task_records import WorkerTracking
from taskiq_redis.exceptions import CommandRefusedError, InvalidOptionError, WrongKeyTypeError
from tests._sync.support import (
    Listener,
    build,
    length,
    message,
    on_all_nodes,
    opened,
    redis_of,
    take,
)
from tests._threads import sleep, together, wait_until
from tests.servers import ServerProcess, Topology

QUEUES = pytest.mark.parametrize("mechanism", ["stream", "list"])


def delayed(topology: Topology, name: str) -> list[tuple[bytes, float]]:
    """Return the delayed messages, and the seconds until each is due."""
    members = redis_of(topology).zrange(delayed_key(name), 0, -1, withscores=True)
    return [(member[UNIQUE_BYTES:], score / 1000 - time.time()) for member, score in members]


def add(a: int, b: int) -> int:
    """Return the sum, as a task."""
    return a + b


@pytest.mark.smoke
@QUEUES
def test_delayed_message_is_delivered_when_due(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name)
    delay = 0.7
    sent = time.monotonic()
    broker.kick(message(b"later", delay=str(delay), _delayed="True"))
    broker.kick(message(b"now"))
    assert length(topology, mechanism, name) == 1
    ((data, left),) = delayed(topology, name)
    assert data == b"later"
    # Redis keeps whole milliseconds.
    assert delay - (time.monotonic() - sent) - 0.001 <= left <= delay
    with Listener(broker) as listener:
        wait_until(partial(listener.has, b"now", b"later"))
        assert listener.got == [b"now", b"later"]
        assert time.monotonic() - sent >= delay
    assert delayed(topology, name) == []
    assert not redis_of(topology).exists(delayed_key(name))


@QUEUES
def test_identical_messages_are_delayed_separately(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        same = message(b"same", delay=0.1, _delayed="True")
        together(*[partial(broker.kick, same) for _ in range(20)])
        assert len(delayed(topology, name)) == 20
        assert take(broker, 20) == [b"same"] * 20


@QUEUES
def test_task_is_sent_with_a_delay(topology: Topology, name: str, mechanism: str) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        task = broker.register_task(add, task_name="add")
        sent = task.kicker().with_delay(60).with_labels(mark=1).kiq(1, 2)
        task.kicker().with_labels(queue_name=f"{name}:other").with_delay(0.5).kiq(1, 2)
        task.kicker().with_delay(0).kiq(1, 2)
    ((data, left),) = delayed(topology, name)
    assert sent.task_id.encode() in data
    assert 50 < left <= 60
    assert length(topology, mechanism, name) == 1
    assert len(delayed(topology, f"{name}:other")) == 1


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_declared_delay_label_delays_only_retries(topology: Topology, name: str) -> None:
    with opened(topology, "list", queue_name=name) as broker:
        task = broker.register_task(add, task_name=name, delay=1500)

        def send(**labels: Any) -> list[float]:
            redis_of(topology).delete(name, delayed_key(name))
            task.kicker().with_labels(**labels).kiq(1, 2)
            assert length(topology, "list", name) + len(delayed(topology, name)) == 1
            # Rounded to hundreds, so that the duration of sending doesn't matter.
            return [round(left, -2) for _, left in delayed(topology, name)]

        assert send() == []
        assert send(delay=1500) == []
        assert send(delay=2000) == [2000]
        assert send(_retries=1) == [1500]
        assert send(_retries=1, delay=2000.5) == [2000]
        broker.is_scheduler_process = True
        assert send(delay=2000, _retries=1) == []


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", None, True])
def test_invalid_delay_is_refused(topology: Topology, name: str, seconds: Any) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        task = broker.register_task(add, task_name="add")
        with pytest.raises(InvalidOptionError, match="Give a number from 0"):
            task.kicker().with_delay(seconds)


def test_pubsub_broker_refuses_delay(topology: Topology, name: str) -> None:
    with opened(topology, "pubsub", queue_name=name) as broker:
        task = broker.register_task(add, task_name="add")
        with pytest.raises(SendTaskError) as caught:
            task.kicker().with_delay(1).kiq(1, 2)
        assert isinstance(caught.value.__cause__, InvalidOptionError)


@QUEUES
def test_delayed_key_of_another_type_is_reported(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(delayed_key(name), "a string")
    broker = build(topology, mechanism, queue_name=name)
    with pytest.raises(WrongKeyTypeError, match=":delayed"):
        broker.kick(message(b"a", delay=1, _delayed="True"))
    # Messages without a delay aren't affected.
    with Listener(broker) as listener:
        broker.kick(message(b"b"))
        wait_until(partial(listener.has, b"b"))
    assert caplog.text.count("was interrupted and is retried") == 1


@QUEUES
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_due_message_stays_until_it_can_be_moved(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(topology, mechanism, queue_name=name)
    broker.kick(message(b"a", delay=0.1, _delayed="True"))
    redis_of(topology).set(name, "a string")
    with Listener(broker) as listener:

        def is_logged() -> bool:
            return "WRONGTYPE" in caplog.text

        wait_until(is_logged)
        sleep(0.3)
        assert [data for data, _ in delayed(topology, name)] == [b"a"]
        redis_of(topology).delete(name)
        wait_until(partial(listener.has, b"a"), timeout=60)


@QUEUES
def test_user_without_scripts_can_send_delayed_messages(
    topology: Topology, name: str, mechanism: str
) -> None:
    commands = ["+zadd", "+@connection", "+cluster", "+command"]
    rules: dict[str, Any] = {"enabled": True, "nopass": True, "keys": [delayed_key(name)]}
    on_all_nodes(topology, lambda node: node.acl_setuser(name, commands=commands, **rules))
    options = {"queue_name": name, "username": name, "password": "any"}
    with opened(topology, mechanism, **options) as broker:
        broker.kick(message(b"a", delay=60, _delayed="True"))
    on_all_nodes(topology, lambda node: node.acl_deluser(name))
    ((data, left),) = delayed(topology, name)
    assert data == b"a"
    assert 50 < left <= 60


#: rules of a user who may do everything but run scripts
NO_SCRIPTS = ("+@all", "~*", "&*", "-@scripting")


@QUEUES
def test_sender_hears_that_scripts_are_forbidden(
    topology: Topology, name: str, mechanism: str, user: Any
) -> None:
    options = {"queue_name": name, **user(*NO_SCRIPTS)}
    with opened(topology, mechanism, **options) as broker:
        for _ in range(2):
            with pytest.raises(CommandRefusedError, match=r"evalsha.*this one would never arrive"):
                broker.kick(message(b"a", delay=1, _delayed="True"))
            # Messages without a delay are sent without a script.
            broker.kick(message(b"b"))
        assert delayed(topology, name) == []
        assert length(topology, mechanism, name) == 2


@QUEUES
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_sender_hears_that_server_has_no_scripts(
    topology: Topology, name: str, mechanism: str
) -> None:
    with ServerProcess(extra={"rename-command": "EVALSHA unused"}) as server:
        with opened(server.topology, mechanism, queue_name=name) as broker:
            task = broker.register_task(add, task_name="add")
            with pytest.raises(SendTaskError) as caught:
                task.kicker().with_delay(1).kiq(1, 2)
            assert "grant EVAL and EVALSHA to senders" in str(caught.value.__cause__)
            task.kiq(1, 2)
        assert length(server.topology, mechanism, name) == 1


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_only_a_refusal_postpones_the_next_poll(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    promoter = Promoter(broker._connection, name, broker._add_command, WorkerTracking(False))
    # This is how a pipeline of a cluster client returns it.
    promoter.record(RedisConnectionError("lost"), 1)
    assert promoter.time_left() == 0
    promoter.record(ResponseError("unknown command"), 1)
    assert promoter.time_left() > 0
