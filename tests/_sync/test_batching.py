# Generated from tests/_async/test_batching.py by scripts/unasync.py; edit that.

"""Concurrent requests share round trips, and every caller gets its own reply."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis.exceptions import (
    CommandRefusedError,
    InvalidOptionError,
    ServerUnavailableError,
    TaskIQRedisError,
    WrongKeyTypeError,
)
from tests._sync.support import (
    Listener,
    build,
    call,
    message,
    on_all_nodes,
    opened,
    redis_of,
    result,
    take,
)
from tests._threads import TIMEOUT, Running, together, wait_until
from tests.servers import ServerProcess, Topology

#: number of concurrent callers; at most as many as `together` has threads
CALLERS = 30


@pytest.fixture(scope="module")
def private_server() -> Iterator[ServerProcess]:
    """A server that no other test uses."""
    with ServerProcess() as server:
        yield server


def reads(topology: Topology) -> int:
    """Return how many reads from connections the server has done."""
    number: int = redis_of(topology).info("stats")["total_reads_processed"]
    return number


def calls(topology: Topology, *commands: str) -> int:
    """Return how many of these commands the server has executed."""
    stats = redis_of(topology).info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in commands)


def while_paused(server: ServerProcess, calls_to_run: list[Any], batcher: Any) -> None:
    """Run calls while the server is paused, so that all but the first form the next batch."""

    def others_wait() -> bool:
        return len(batcher._waiting) == len(calls_to_run) - len(batcher._batch)

    def run_all() -> None:
        together(*calls_to_run)

    server.pause()
    try:
        with Running(run_all):

            def batch_is_formed() -> bool:
                return bool(batcher._batch) and others_wait()

            wait_until(batch_is_formed)
            server.resume()
    finally:
        server.resume()


def test_concurrently_stored_results_share_round_trips(
    private_server: ServerProcess, name: str
) -> None:
    topology = private_server.topology
    with opened(topology, "results") as backend:
        backend.set_result(name, result(0))
        before = reads(topology)
        stores = [
            partial(backend.set_result, f"{name}:{number}", result(number))
            for number in range(CALLERS)
        ]
        (batchers,) = backend._writes.get()._batchers.values()
        while_paused(private_server, stores, batchers.pick())
        assert reads(topology) - before < CALLERS // 2
        task_ids = [f"{name}:{number}" for number in range(CALLERS)]
        found = backend.get_results([*task_ids, "missing"])
        assert [found[task_id].return_value for task_id in task_ids] == list(range(CALLERS))


@pytest.mark.smoke
def test_each_caller_gets_its_own_reply(topology: Topology, name: str) -> None:
    wrong_type = [f"{name}:{number}" for number in range(0, CALLERS, 3)]
    for key in wrong_type:
        redis_of(topology).rpush(key, "a queue")

    with opened(topology, "results") as backend:

        def store(number: int) -> tuple[int, bool]:
            try:
                backend.set_result(f"{name}:{number}", result(number))
            except WrongKeyTypeError as error:
                return number, f"{name}:{number}'" not in str(error)
            return number, True

        stored = together(*[partial(store, number) for number in range(CALLERS)])
        assert stored == [(number, number % 3 != 0) for number in range(CALLERS)]

        def read(number: int) -> Any:
            return backend.get_result(f"{name}:{number}").return_value

        others = [number for number in range(CALLERS) if number % 3]
        assert together(*[partial(read, number) for number in others]) == others
    for key in wrong_type:
        redis_of(topology).delete(key)


def test_name_with_invalid_unicode_fails_only_its_own_request(
    topology: Topology, name: str
) -> None:
    with opened(topology, "results") as backend:

        def store(number: int) -> str:
            task_id = f"{name}:\ud800" if number == 5 else f"{name}:{number}"
            try:
                backend.set_result(task_id, result(number))
            except CommandRefusedError as error:
                return str(error)
            return "stored"

        outcomes = together(*[partial(store, number) for number in range(CALLERS)])
        assert "valid text" in outcomes.pop(5)
        assert set(outcomes) == {"stored"}
        assert not backend._refusal.active


def test_long_and_short_values_share_a_batch(topology: Topology, name: str) -> None:
    sizes = [3_000_000 if number % 10 == 0 else 10 for number in range(CALLERS)]
    with opened(topology, "results") as backend:
        stores = [
            partial(backend.set_result, f"{name}:{number}", result("x" * size))
            for number, size in enumerate(sizes)
        ]
        together(*stores)
        found = backend.get_results([f"{name}:{number}" for number in range(CALLERS)])
        assert [len(one.return_value) for one in found.values()] == sizes


def test_flushed_scripts_are_loaded_again(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        on_all_nodes(topology, lambda node: node.script_flush())
        stores = [
            partial(backend.set_result, f"{name}:{number}", result(number))
            for number in range(CALLERS)
        ]
        together(*stores)
        found = backend.get_results([f"{name}:{number}" for number in range(CALLERS)])
        assert len(found) == CALLERS


def test_user_without_scripts_stores_results_and_progress(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        options: dict[str, Any] = {"username": name, "password": "secret", "prefix_str": name}
        with opened(topology, "results", **options) as backend:
            stores = [
                partial(backend.set_result, f"{number}", result(number))
                for number in range(CALLERS)
            ]
            together(*stores)
            backend.set_progress("0", TaskProgress(state="half", meta=None))
            found = backend.get_results([f"{number}" for number in range(CALLERS)])
            assert [one.return_value for one in found.values()] == list(range(CALLERS))
            assert backend.get_progress("0").state == "half"
        (warning,) = [text for text in caplog.messages if "Result notifications are off" in text]
        assert "PUBLISH" in warning
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


def create_user(node: Any, name: str) -> None:
    """Create a user with the rights that taskiq-redis 1.2.4 needs."""
    commands = ["+set", "+get", "+cluster|slots", "+cluster|shards", "+command", "+ping"]
    rules = {"reset": True, "keys": [f"{name}:*"], "commands": commands}
    node.acl_setuser(name, enabled=True, passwords=["+secret"], **rules)


def test_concurrent_acknowledgements_share_a_command(
    private_server: ServerProcess, name: str
) -> None:
    topology = private_server.topology
    commands = ("xack", "xackdel", "evalsha")
    with Listener(build(topology, "stream", queue_name=name), acknowledge=False) as listener:
        sent = [b"%d" % number for number in range(CALLERS)]
        for data in sent:
            listener.broker.kick(message(data))
        wait_until(partial(listener.has, *sent))
        # The first acknowledgement finds out which command the server supports.
        call(listener.held.pop().ack)
        before = calls(topology, *commands)
        (batchers,) = listener.broker._acknowledger._batchers.get().values()
        acknowledge = [partial(call, received.ack) for received in listener.held]
        while_paused(private_server, acknowledge, batchers.pick())
        # A script calls another of these commands, and leases are renewed at the same time.
        assert calls(topology, *commands) - before < 2 * CALLERS // 3
        assert redis_of(topology).xpending(name, "taskiq")["pending"] == 0
        assert redis_of(topology).xlen(name) == 0


@pytest.mark.parametrize("mechanism", ["list", "stream"])
def test_kick_many_keeps_the_order(topology: Topology, name: str, mechanism: str) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        other = f"{name}:other"
        sent = [message(b"%d" % number) for number in range(250)]
        broker.kick_many([*sent, message(b"elsewhere", queue_name=other)])
        broker.kick_many([])
        assert take(broker, 250) == [one.message for one in sent]
    with opened(topology, mechanism, queue_name=other) as broker:
        assert take(broker, 1) == [b"elsewhere"]


def test_kick_many_takes_few_round_trips(private_server: ServerProcess, name: str) -> None:
    topology = private_server.topology
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"first"))
        before = reads(topology)
        broker.kick_many([message(b"x" * 100, delay=0) for _ in range(1000)])
        # A hundred messages per request; the server reads long commands in pieces.
        assert reads(topology) - before < 100
        assert redis_of(topology).xlen(name) == 1001
    redis_of(topology).delete(name)


def test_kick_many_sends_nothing_if_one_message_is_invalid(topology: Topology, name: str) -> None:
    with opened(topology, "list", queue_name=name) as broker:
        with pytest.raises(InvalidOptionError):
            broker.kick_many([message(b"a"), message(b"b", queue_name=3)])
        assert redis_of(topology).llen(name) == 0


def test_kick_many_delays_messages_individually(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick_many([message(b"later", delay=0.5), message(b"now")])
        assert take(broker, 2) == [b"now", b"later"]


def test_kick_many_raises_if_redis_refuses_it(topology: Topology, name: str) -> None:
    redis_of(topology).set(name, "a string")
    with opened(topology, "stream", queue_name=name) as broker:
        with pytest.raises(WrongKeyTypeError, match=name):
            broker.kick_many([message(b"a"), message(b"b")])
        redis_of(topology).delete(name)
        broker.kick_many([message(b"c")])
        assert take(broker, 1) == [b"c"]


def test_kiq_many_sends_tasks(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name).with_result_backend(
        build(topology, "results", prefix_str=name)
    )
    task = broker.register_task(lambda number, more=0: number + more, task_name=name)
    sent = task.kiq_many([task.call(1), task.call(2, more=3)])
    assert len({one.task_id for one in sent}) == 2
    received = [broker.formatter.loads(data) for data in take(broker, 2)]
    assert [one.task_id for one in received] == [one.task_id for one in sent]
    assert [(one.args, one.kwargs) for one in received] == [([1], {}), ([2], {"more": 3})]
    broker.result_backend.set_result(sent[1].task_id, result(5))
    assert sent[1].wait_result(timeout=TIMEOUT).return_value == 5
    with pytest.raises(InvalidOptionError, match="same ID"):
        task.kicker().with_task_id("one").kiq_many([task.call(1), task.call(2)])
    broker.shutdown()


def test_every_caller_gets_an_error_during_an_outage(name: str) -> None:
    with ServerProcess() as server:
        with opened(server.topology, "stream", queue_name=name, kick_timeout=0.5) as broker:
            broker.kick(message(b"a"))
            server.stop()

            def kick(number: int) -> str:
                try:
                    broker.kick(message(b"%d" % number))
                except TaskIQRedisError as error:
                    return type(error).__name__
                return "sent"

            outcomes = together(*[partial(kick, number) for number in range(CALLERS)])
            assert set(outcomes) == {"ServerUnavailableError"}
            with pytest.raises(TaskIQRedisError):
                broker.kick_many([message(b"many"), message(b"more")])
            server.start()
            broker.kick(message(b"b"))
            entries = redis_of(server.topology).xrange(name)
            assert entries[-1][1] == {b"data": b"b"}


def test_message_whose_kick_gave_up_is_not_sent_later(name: str) -> None:
    with ServerProcess() as server:
        with opened(server.topology, "stream", queue_name=name) as broker:
            broker.kick(message(b"before"))
            batcher = broker._producer.get()._batchers[name, False]
            server.stop()

            def kick(data: bytes, kick_timeout: float) -> None:
                broker.kick_timeout = kick_timeout
                broker.kick(message(data))

            def give_up(data: bytes, kick_timeout: float) -> None:
                with pytest.raises(ServerUnavailableError):
                    kick(data, kick_timeout)

            def one_is_in_flight() -> bool:
                return bool(batcher._batch)

            def give_up_before_the_start() -> None:
                give_up(b"early", 1)
                server.start()

            with Running(partial(give_up, b"first", 0.3)):
                wait_until(one_is_in_flight)
                # When that one fails, the others form a batch.
                together(give_up_before_the_start, partial(kick, b"late", TIMEOUT))
            entries = redis_of(server.topology).xrange(name)
            assert [fields[b"data"] for _, fields in entries] == [b"late"]
