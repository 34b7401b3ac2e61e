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
from tests._aio import TIMEOUT, Running, together, wait_until
from tests._async.support import (
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
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio

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


async def while_paused(server: ServerProcess, calls_to_run: list[Any], batcher: Any) -> None:
    """Run calls while the server is paused, so that all but the first form the next batch."""

    async def others_wait() -> bool:
        return len(batcher._waiting) == len(calls_to_run) - len(batcher._batch)

    async def run_all() -> None:
        await together(*calls_to_run)

    server.pause()
    try:
        async with Running(run_all):

            async def batch_is_formed() -> bool:
                return bool(batcher._batch) and await others_wait()

            await wait_until(batch_is_formed)
            server.resume()
    finally:
        server.resume()


async def test_concurrently_stored_results_share_round_trips(
    private_server: ServerProcess, name: str
) -> None:
    topology = private_server.topology
    async with opened(topology, "results") as backend:
        await backend.set_result(name, result(0))
        before = reads(topology)
        stores = [
            partial(backend.set_result, f"{name}:{number}", result(number))
            for number in range(CALLERS)
        ]
        (batchers,) = backend._writes.get()._batchers.values()
        await while_paused(private_server, stores, batchers.pick())
        assert reads(topology) - before < CALLERS // 2
        task_ids = [f"{name}:{number}" for number in range(CALLERS)]
        found = await backend.get_results([*task_ids, "missing"])
        assert [found[task_id].return_value for task_id in task_ids] == list(range(CALLERS))


@pytest.mark.smoke
async def test_each_caller_gets_its_own_reply(topology: Topology, name: str) -> None:
    wrong_type = [f"{name}:{number}" for number in range(0, CALLERS, 3)]
    for key in wrong_type:
        redis_of(topology).rpush(key, "a queue")

    async with opened(topology, "results") as backend:

        async def store(number: int) -> tuple[int, bool]:
            try:
                await backend.set_result(f"{name}:{number}", result(number))
            except WrongKeyTypeError as error:
                return number, f"{name}:{number}'" not in str(error)
            return number, True

        stored = await together(*[partial(store, number) for number in range(CALLERS)])
        assert stored == [(number, number % 3 != 0) for number in range(CALLERS)]

        async def read(number: int) -> Any:
            return (await backend.get_result(f"{name}:{number}")).return_value

        others = [number for number in range(CALLERS) if number % 3]
        assert await together(*[partial(read, number) for number in others]) == others
    for key in wrong_type:
        redis_of(topology).delete(key)


async def test_name_with_invalid_unicode_fails_only_its_own_request(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "results") as backend:

        async def store(number: int) -> str:
            task_id = f"{name}:\ud800" if number == 5 else f"{name}:{number}"
            try:
                await backend.set_result(task_id, result(number))
            except CommandRefusedError as error:
                return str(error)
            return "stored"

        outcomes = await together(*[partial(store, number) for number in range(CALLERS)])
        assert "valid text" in outcomes.pop(5)
        assert set(outcomes) == {"stored"}
        assert not backend._refusal.active


async def test_long_and_short_values_share_a_batch(topology: Topology, name: str) -> None:
    sizes = [3_000_000 if number % 10 == 0 else 10 for number in range(CALLERS)]
    async with opened(topology, "results") as backend:
        stores = [
            partial(backend.set_result, f"{name}:{number}", result("x" * size))
            for number, size in enumerate(sizes)
        ]
        await together(*stores)
        found = await backend.get_results([f"{name}:{number}" for number in range(CALLERS)])
        assert [len(one.return_value) for one in found.values()] == sizes


async def test_flushed_scripts_are_loaded_again(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        on_all_nodes(topology, lambda node: node.script_flush())
        stores = [
            partial(backend.set_result, f"{name}:{number}", result(number))
            for number in range(CALLERS)
        ]
        await together(*stores)
        found = await backend.get_results([f"{name}:{number}" for number in range(CALLERS)])
        assert len(found) == CALLERS


async def test_user_without_scripts_stores_results_and_progress(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    on_all_nodes(topology, lambda node: create_user(node, name))
    try:
        options: dict[str, Any] = {"username": name, "password": "secret", "prefix_str": name}
        async with opened(topology, "results", **options) as backend:
            stores = [
                partial(backend.set_result, f"{number}", result(number))
                for number in range(CALLERS)
            ]
            await together(*stores)
            await backend.set_progress("0", TaskProgress(state="half", meta=None))
            found = await backend.get_results([f"{number}" for number in range(CALLERS)])
            assert [one.return_value for one in found.values()] == list(range(CALLERS))
            assert (await backend.get_progress("0")).state == "half"
        (warning,) = [text for text in caplog.messages if "Result notifications are off" in text]
        assert "PUBLISH" in warning
    finally:
        on_all_nodes(topology, lambda node: node.acl_deluser(name))


def create_user(node: Any, name: str) -> None:
    """Create a user with the rights that taskiq-redis 1.2.4 needs."""
    commands = ["+set", "+get", "+cluster|slots", "+cluster|shards", "+command", "+ping"]
    rules = {"reset": True, "keys": [f"{name}:*"], "commands": commands}
    node.acl_setuser(name, enabled=True, passwords=["+secret"], **rules)


async def test_concurrent_acknowledgements_share_a_command(
    private_server: ServerProcess, name: str
) -> None:
    topology = private_server.topology
    commands = ("xack", "xackdel", "evalsha")
    async with Listener(build(topology, "stream", queue_name=name), acknowledge=False) as listener:
        sent = [b"%d" % number for number in range(CALLERS)]
        for data in sent:
            await listener.broker.kick(message(data))
        await wait_until(partial(listener.has, *sent))
        # The first acknowledgement finds out which command the server supports.
        await call(listener.held.pop().ack)
        before = calls(topology, *commands)
        (batchers,) = listener.broker._acknowledger._batchers.get().values()
        acknowledge = [partial(call, received.ack) for received in listener.held]
        await while_paused(private_server, acknowledge, batchers.pick())
        # A script calls another of these commands, and leases are renewed at the same time.
        assert calls(topology, *commands) - before < 2 * CALLERS // 3
        assert redis_of(topology).xpending(name, "taskiq")["pending"] == 0
        assert redis_of(topology).xlen(name) == 0


@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_kick_many_keeps_the_order(topology: Topology, name: str, mechanism: str) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        other = f"{name}:other"
        sent = [message(b"%d" % number) for number in range(250)]
        await broker.kick_many([*sent, message(b"elsewhere", queue_name=other)])
        await broker.kick_many([])
        assert await take(broker, 250) == [one.message for one in sent]
    async with opened(topology, mechanism, queue_name=other) as broker:
        assert await take(broker, 1) == [b"elsewhere"]


async def test_kick_many_takes_few_round_trips(private_server: ServerProcess, name: str) -> None:
    topology = private_server.topology
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick(message(b"first"))
        before = reads(topology)
        await broker.kick_many([message(b"x" * 100, delay=0) for _ in range(1000)])
        # A hundred messages per request; the server reads long commands in pieces.
        assert reads(topology) - before < 100
        assert redis_of(topology).xlen(name) == 1001
    redis_of(topology).delete(name)


async def test_kick_many_sends_nothing_if_one_message_is_invalid(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        with pytest.raises(InvalidOptionError):
            await broker.kick_many([message(b"a"), message(b"b", queue_name=3)])
        assert redis_of(topology).llen(name) == 0


async def test_kick_many_delays_messages_individually(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        await broker.kick_many([message(b"later", delay=0.5), message(b"now")])
        assert await take(broker, 2) == [b"now", b"later"]


async def test_kick_many_raises_if_redis_refuses_it(topology: Topology, name: str) -> None:
    redis_of(topology).set(name, "a string")
    async with opened(topology, "stream", queue_name=name) as broker:
        with pytest.raises(WrongKeyTypeError, match=name):
            await broker.kick_many([message(b"a"), message(b"b")])
        redis_of(topology).delete(name)
        await broker.kick_many([message(b"c")])
        assert await take(broker, 1) == [b"c"]


async def test_kiq_many_sends_tasks(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name).with_result_backend(
        build(topology, "results", prefix_str=name)
    )
    task = broker.register_task(lambda number, more=0: number + more, task_name=name)
    sent = await task.kiq_many([task.call(1), task.call(2, more=3)])
    assert len({one.task_id for one in sent}) == 2
    received = [broker.formatter.loads(data) for data in await take(broker, 2)]
    assert [one.task_id for one in received] == [one.task_id for one in sent]
    assert [(one.args, one.kwargs) for one in received] == [([1], {}), ([2], {"more": 3})]
    await broker.result_backend.set_result(sent[1].task_id, result(5))
    assert (await sent[1].wait_result(timeout=TIMEOUT)).return_value == 5
    with pytest.raises(InvalidOptionError, match="same ID"):
        await task.kicker().with_task_id("one").kiq_many([task.call(1), task.call(2)])
    await broker.shutdown()


async def test_every_caller_gets_an_error_during_an_outage(name: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, "stream", queue_name=name, kick_timeout=0.5) as broker:
            await broker.kick(message(b"a"))
            server.stop()

            async def kick(number: int) -> str:
                try:
                    await broker.kick(message(b"%d" % number))
                except TaskIQRedisError as error:
                    return type(error).__name__
                return "sent"

            outcomes = await together(*[partial(kick, number) for number in range(CALLERS)])
            assert set(outcomes) == {"ServerUnavailableError"}
            with pytest.raises(TaskIQRedisError):
                await broker.kick_many([message(b"many"), message(b"more")])
            server.start()
            await broker.kick(message(b"b"))
            entries = redis_of(server.topology).xrange(name)
            assert entries[-1][1] == {b"data": b"b"}


async def test_message_whose_kick_gave_up_is_not_sent_later(name: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, "stream", queue_name=name) as broker:
            await broker.kick(message(b"before"))
            batcher = broker._producer.get()._batchers[name, False]
            server.stop()

            async def kick(data: bytes, kick_timeout: float) -> None:
                broker.kick_timeout = kick_timeout
                await broker.kick(message(data))

            async def give_up(data: bytes, kick_timeout: float) -> None:
                with pytest.raises(ServerUnavailableError):
                    await kick(data, kick_timeout)

            async def one_is_in_flight() -> bool:
                return bool(batcher._batch)

            async def give_up_before_the_start() -> None:
                await give_up(b"early", 1)
                server.start()

            async with Running(partial(give_up, b"first", 0.3)):
                await wait_until(one_is_in_flight)
                # When that one fails, the others form a batch.
                await together(give_up_before_the_start, partial(kick, b"late", TIMEOUT))
            entries = redis_of(server.topology).xrange(name)
            assert [fields[b"data"] for _, fields in entries] == [b"late"]
