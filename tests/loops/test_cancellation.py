"""Calls that are cancelled at any await point leave nothing half-done, and the object usable.

The objects have a single connection for commands, so that later calls fail if it isn't released.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from taskiq import AsyncTaskiqTask
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis._async.brokers import pubsub
from tests._aio import wait_until
from tests._async.support import (
    build,
    connections_named,
    data_of,
    message,
    on_all_nodes,
    redis_of,
    result,
)
from tests.loops.support import (
    CancelledAt,
    Moment,
    NewLoop,
    cancel_everywhere,
    each_loop_kind,
    each_moment,
    run,
    wait_until_disconnected,
)
from tests.servers import Topology
from tests.waiting import TIMEOUT

pytestmark = [each_loop_kind, each_moment]


@pytest.fixture
def make(topology: Topology, name: str) -> Iterator[Any]:
    """Builds objects with one connection for commands, and checks that all are closed at the end."""

    def make(mechanism: str, **options: Any) -> Any:
        broker_on_cluster = topology.kind == "cluster" and mechanism != "results"
        size = "max_connection_pool_size" if broker_on_cluster else "max_connections"
        return build(topology, mechanism, client_name=name, **{size: 1}, **options)

    yield make
    wait_until_disconnected(lambda: len(connections_named(topology, name)))


class Queue:
    """Inspects the queue of a test in Redis."""

    def __init__(self, topology: Topology, name: str, mechanism: str) -> None:
        self.client = redis_of(topology)
        self.name = name
        self.mechanism = mechanism

    def content(self) -> list[bytes]:
        if self.mechanism == "list":
            return list(self.client.lrange(self.name, 0, -1))
        return [fields[b"data"] for _, fields in self.client.xrange(self.name)]


@pytest.fixture(params=["list", "stream"])
def queue(topology: Topology, name: str, request: pytest.FixtureRequest) -> Queue:
    return Queue(topology, name, request.param)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "connected"])
def test_cancelled_kick_sends_at_most_once(
    make: Any, queue: Queue, fresh: bool, moment: Moment, new_loop: NewLoop
) -> None:
    async def test() -> None:
        broker = make(queue.mechanism, queue_name=queue.name)

        async def kick() -> bool:
            await broker.kick(message(b"a"))
            return True

        async def check(kicked: bool | None) -> None:
            await broker.kick(message(b"after"))
            once, never = [b"a", b"after"], [b"after"]
            assert sorted(queue.content()) in ([once] if kicked else [once, never])
            queue.client.delete(queue.name)
            if fresh:
                await broker.shutdown()

        assert await cancel_everywhere(kick, moment, check)
        await broker.shutdown()

    run(test, new_loop)


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "second", "last"])
def test_cancelled_kick_does_not_affect_concurrent_kicks(
    make: Any, queue: Queue, position: int, moment: Moment, new_loop: NewLoop
) -> None:
    """Messages sent while another is on its way share the next round trip."""

    async def test() -> None:
        broker = make(queue.mechanism, queue_name=queue.name)
        others: dict[bytes, asyncio.Future[None]] = {}

        def start(*names: bytes) -> None:
            for name in names:
                others[name] = asyncio.ensure_future(broker.kick(message(name)))

        async def kick() -> bool:
            start(*[b"b", b"c"][:position])
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(start, *[b"b", b"c"][position:])
            await broker.kick(message(b"a"))
            return True

        async def check(kicked: bool | None) -> None:
            await asyncio.gather(*others.values())
            await broker.kick(message(b"after"))
            expected = [*others, b"after"]
            once, never = sorted([b"a", *expected]), sorted(expected)
            assert sorted(queue.content()) in ([once] if kicked else [once, never])
            queue.client.delete(queue.name)
            others.clear()

        assert await cancel_everywhere(kick, moment, check)
        await broker.shutdown()

    run(test, new_loop)


@pytest.mark.parametrize("keep_results", [True, False], ids=["kept", "deleted"])
def test_cancelled_read_keeps_result_and_progress_consistent(
    make: Any, topology: Topology, name: str, keep_results: bool, moment: Moment, new_loop: NewLoop
) -> None:
    """A read cancelled while it deletes deletes both result and progress, or neither."""

    async def test() -> None:
        backend = make("results", prefix_str=name, keep_results=keep_results)
        client = redis_of(topology)

        async def store() -> None:
            await backend.set_progress("id", PROGRESS)
            await backend.set_result("id", result(1))

        async def read() -> Any:
            return (await backend.get_result("id")).return_value

        async def check(value: Any) -> None:
            assert value in {None, 1}
            there = await backend.is_result_ready("id")
            if keep_results:
                assert there
            elif value is not None:
                assert not there
            if there:
                assert await read() == 1
            assert keep_results or client.keys(f"*{name}*") == []
            await store()

        await store()
        assert await cancel_everywhere(read, moment, check)
        await backend.shutdown()

    run(test, new_loop)


PROGRESS: TaskProgress[Any] = TaskProgress(state="half", meta=None)


@pytest.mark.parametrize("ready", [True, False], ids=["stored", "stored-later"])
def test_cancelled_wait_leaves_backend_usable(
    make: Any, name: str, ready: bool, moment: Moment, new_loop: NewLoop
) -> None:
    async def test() -> None:
        backend = make("results", prefix_str=name, keep_results=ready)
        task = AsyncTaskiqTask("id", backend)
        storing: list[asyncio.Future[None]] = []

        async def wait() -> Any:
            if not ready:
                storing.append(asyncio.ensure_future(backend.set_result("id", result(1))))
            return (await task.wait_result(check_interval=0.001, timeout=TIMEOUT)).return_value

        async def check(value: Any) -> None:
            assert value in {None, 1}
            await asyncio.gather(*storing)
            storing.clear()
            if ready:
                assert await wait() == 1

        await backend.set_result("id", result(1))
        assert await cancel_everywhere(wait, moment, check)
        await backend.shutdown()

    run(test, new_loop)


def test_cancelled_listener_loses_no_messages(
    make: Any, queue: Queue, moment: Moment, new_loop: NewLoop
) -> None:
    """taskiq stops a worker this way: it cancels the pending read, and closes the generator."""

    others = {"additional_streams": {f"{queue.name}-2": ">"}}

    async def test() -> None:
        # The second stream adds a second reader on clusters, which have one per hash slot.
        single_reader = SingleReader(make, queue, **others if queue.mechanism == "stream" else {})

        async def check(message: Any) -> None:
            if message is not None:
                await single_reader.take(message)
            await single_reader.close()
            await single_reader.check_nothing_is_lost()
            await single_reader.send()

        await single_reader.send()
        assert await cancel_everywhere(single_reader.read, moment, check)
        await single_reader.read_the_rest()

    run(test, new_loop)


@pytest.mark.parametrize("queue", ["list"], indirect=True)
def test_message_popped_for_cancelled_reader_is_put_back(
    make: Any, queue: Queue, topology: Topology, name: str, moment: Moment, new_loop: NewLoop
) -> None:
    """A cancelled BRPOP stays active in Redis for a while; a message that it pops then is put back."""

    async def test() -> None:
        single_reader = SingleReader(make, queue)

        async def waits() -> bool:
            return any(
                client["name"] == name and client["cmd"] == "brpop"
                for clients in on_all_nodes(topology, lambda node: node.client_list())
                for client in clients
            )

        reading = asyncio.ensure_future(single_reader.read())
        await wait_until(waits)
        reading.cancel()
        if moment is Moment.REPEATED:
            await asyncio.sleep(0)
            reading.cancel()
        if moment is Moment.LATE:
            await asyncio.gather(reading, return_exceptions=True)
        await single_reader.send()
        await asyncio.gather(reading, return_exceptions=True)
        await single_reader.check_nothing_is_lost()
        await single_reader.read_the_rest()

    run(test, new_loop)


@pytest.mark.parametrize("mechanism", ["stream", "pubsub"])
def test_cancelled_idle_listener_ends(
    make: Any,
    name: str,
    mechanism: str,
    moment: Moment,
    new_loop: NewLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A swallowed cancellation would make it wait forever for a message."""
    monkeypatch.setattr(pubsub, "LISTEN_WAIT", 0.01)
    options = {"xread_block": 10} if mechanism == "stream" else {}

    async def test() -> None:
        broker = make(mechanism, queue_name=name, **options)
        for number in range(1, 10):
            messages = broker.listen()
            reading = CancelledAt(messages.__anext__, number, moment).run()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.ensure_future(reading)
            await messages.aclose()
        await broker.shutdown()

    run(test, new_loop)


def test_cancelled_close_loses_no_messages(
    make: Any, queue: Queue, moment: Moment, new_loop: NewLoop
) -> None:
    async def test() -> None:
        single_reader = SingleReader(make, queue)

        async def read() -> None:
            await single_reader.send()
            await single_reader.take(await single_reader.read())

        async def check(closed: bool | None) -> None:
            await single_reader.check_nothing_is_lost()
            await read()

        await read()
        assert await cancel_everywhere(single_reader.close, moment, check)
        await single_reader.close()
        await single_reader.read_the_rest()

    run(test, new_loop)


def test_cancelled_pubsub_listener_leaves_broker_usable(
    make: Any, name: str, moment: Moment, new_loop: NewLoop
) -> None:
    async def test() -> None:
        broker = make("pubsub", queue_name=name)
        listeners: list[Any] = []
        stop = asyncio.Event()

        async def publish() -> None:
            while not stop.is_set():
                await broker.kick(message(b"a"))
                await asyncio.sleep(0.001)

        async def read() -> Any:
            listeners.append(broker.listen())
            return await anext(listeners[-1])

        async def check(message: bytes | None) -> None:
            assert message in {None, b"a"}
            await listeners.pop().aclose()

        publishing = asyncio.ensure_future(publish())
        assert await cancel_everywhere(read, moment, check)
        stop.set()
        await publishing
        await broker.shutdown()

    run(test, new_loop)


def test_cancelled_worker_can_start_again(
    make: Any, topology: Topology, name: str, moment: Moment, new_loop: NewLoop
) -> None:
    async def test() -> None:
        broker = make("stream", queue_name=name)
        broker.is_worker_process = True

        async def read_and_acknowledge() -> bool:
            await broker.startup()
            await broker.kick(message(b"a"))
            messages = broker.listen()
            try:
                await data_of(await anext(messages))
            finally:
                await messages.aclose()
                await broker.shutdown()
            return True

        async def check(done: bool | None) -> None:
            pending = redis_of(topology).xpending(name, "taskiq")["pending"] if done else 0
            assert pending == 0
            redis_of(topology).delete(name)

        assert await cancel_everywhere(read_and_acknowledge, moment, check)
        await broker.shutdown()

    run(test, new_loop)


class SingleReader:
    """Reads one message at a time, each with a new listener.

    A message that a stream delivers to a cancelled reader is redelivered after `idle_timeout`.
    """

    def __init__(self, make: Any, queue: Queue, **options: Any) -> None:
        if queue.mechanism == "stream":
            options |= {"idle_timeout": 100, "xread_count": 1}
        self.broker = make(queue.mechanism, queue_name=queue.name, **options)
        self.queue = queue
        self.sent: set[bytes] = set()
        self.got: set[bytes] = set()
        self._messages: Any = None

    async def send(self) -> None:
        data = str(len(self.sent)).encode()
        self.sent.add(data)
        await self.broker.kick(message(data))

    async def read(self) -> Any:
        self._messages = self.broker.listen()
        return await anext(self._messages)

    async def take(self, message: Any) -> None:
        data = await data_of(message)
        assert self.queue.mechanism == "stream" or data not in self.got
        self.got.add(data)

    async def close(self) -> bool:
        await self._messages.aclose()
        return True

    async def check_nothing_is_lost(self) -> None:
        async def is_put_back() -> bool:
            return sorted(self.queue.content()) == sorted(self.sent - self.got)

        if self.queue.mechanism == "list":
            await wait_until(is_put_back)

    async def read_the_rest(self) -> None:
        messages = self.broker.listen()
        while self.got != self.sent:
            await self.take(await anext(messages))
        await messages.aclose()
        await self.broker.shutdown()
