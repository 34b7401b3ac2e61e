"""taskiq's receiver on a stream broker runs each message in a task of its own."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from taskiq import AckableMessage, BrokerMessage, Context, TaskiqDepends
from taskiq.receiver import Receiver

from taskiq_redis import RedisStreamBroker
from taskiq_redis._async.brokers.stream_broker import StreamBroker
from tests._aio import TIMEOUT, sleep, wait_until
from tests._async.pending import LEASE, pending_of
from tests._async.support import Listener, build
from tests.servers import Topology

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


class OwnAcknowledgement(RedisStreamBroker):
    """Acknowledges without this package, as subclasses do since 1.2.4."""

    def _ack_generator(
        self,
        id: str | bytes,  # noqa: A002
        queue_name: str | bytes,
    ) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            client: Any = self._connection.client
            await client.xack(queue_name, self.consumer_group_name, id)

        return acknowledge


class WrappedMessages(RedisStreamBroker):
    """Reads `ack` of each message before the receiver gets it."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        async for received in super().listen():
            assert isinstance(received, AckableMessage)
            yield AckableMessage(data=received.data, ack=received.ack)


class EncodedMessages(RedisStreamBroker):
    """Stores messages in another form, as a subclass does that encrypts them."""

    async def kick(self, message: BrokerMessage) -> None:
        await super().kick(message.model_copy(update={"message": message.message[::-1]}))

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        async for received in super().listen():
            assert isinstance(received, AckableMessage)
            yield AckableMessage(data=received.data[::-1], ack=received.ack)


class InspectedMessages(RedisStreamBroker):
    """Looks at each message in a task that ends before the receiver gets it."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        async def inspect(received: Any) -> None:
            assert hasattr(received, "ack")
            assert received.ack
            assert received.data

        async for received in super().listen():
            await asyncio.create_task(inspect(received))
            yield received


class QueuedMessages(RedisStreamBroker):
    """Listens in a task of its own, which rebuilds each message by a task of its own."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        queue: asyncio.Queue[AckableMessage] = asyncio.Queue()

        async def rebuild(received: Any) -> None:
            await queue.put(AckableMessage(data=received.data, ack=received.ack))

        async def forward() -> None:
            async for received in super(QueuedMessages, self).listen():
                await asyncio.create_task(rebuild(received))

        forwarding = asyncio.create_task(forward())
        try:
            while True:
                yield await queue.get()
        finally:
            forwarding.cancel()
            await asyncio.wait([forwarding])


class InspectingReceiver(Receiver):
    """Looks at each message in a task that ends before it is run."""

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        async def inspect() -> bool:
            return bool(getattr(message, "ack", None))

        assert await asyncio.create_task(inspect())
        await super().callback(message, raise_err)


class PoolReceiver(Receiver):
    """Runs all messages one after the other, in one task."""

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        given = vars(self)
        if "queue" not in given:
            given["queue"] = asyncio.Queue()
            given["running"] = asyncio.create_task(self.run_all(given["queue"]))
        given["queue"].put_nowait(message)

    async def run_all(self, queue: "asyncio.Queue[AckableMessage]") -> None:
        while True:
            await super().callback(await queue.get())


@asynccontextmanager
async def receiving(
    broker: Any, kind: type[Receiver] = Receiver, **options: Any
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a receiver, and end it cleanly unless it was cancelled."""
    finish = asyncio.Event()
    receiver = kind(broker, run_startup=False, **options)
    running: asyncio.Task[None] = asyncio.ensure_future(receiver.listen(finish))
    del receiver
    try:
        yield running
    finally:
        finish.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, TIMEOUT)


def worker(kind: Any, topology: Topology, name: str) -> Any:
    """Return a broker of a worker process."""
    broker = kind(topology.url, queue_name=name, idle_timeout=LEASE, xread_block=200)
    broker.is_worker_process = True
    return broker


async def test_acknowledgement_without_this_package_is_noticed(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker, ran = worker(OwnAcknowledgement, topology, name), list[int]()

    @broker.task(task_name="append")
    async def append(number: int) -> None:
        ran.append(number)

    async def nothing_held() -> bool:
        states = broker._listener_states.get()
        tables = [keeper._table for state in states for keeper in state.keepers]
        return len(ran) == 20 and not any(len(table) or table.unacked(name) for table in tables)

    async with receiving(broker):
        for number in range(20):
            await append.kiq(number)
        await wait_until(nothing_held)
    await broker.shutdown()
    assert "didn't acknowledge" not in caplog.text
    assert pending_of(topology, name) == {}


async def test_acknowledgement_that_an_instance_replaces_may_be_a_plain_function(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, acknowledged = worker(RedisStreamBroker, topology, name), list[str]()

    @broker.task(task_name="nothing")
    async def nothing() -> None:
        pass

    def make(id: str, queue_name: str) -> Callable[[], None]:  # noqa: A002
        return lambda: acknowledged.append(f"{queue_name} {id}")

    monkeypatch.setattr(broker, "_ack_generator", make)
    await nothing.kiq()
    messages = broker.listen()
    await (await anext(messages)).ack()
    await messages.aclose()
    await broker.shutdown()
    assert len(acknowledged) == 1


async def test_acknowledgement_may_be_replaced_in_the_class_that_defines_it(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, acknowledged = worker(RedisStreamBroker, topology, name), list[str]()
    original = StreamBroker._ack_generator

    def observed(
        self: StreamBroker,
        id: str,  # noqa: A002
        queue_name: str,
    ) -> Callable[[], Awaitable[None]]:
        acknowledged.append(f"{queue_name} {id}")
        return original(self, id=id, queue_name=queue_name)

    @broker.task(task_name="nothing")
    async def nothing() -> None:
        pass

    monkeypatch.setattr(StreamBroker, "_ack_generator", observed)
    await nothing.kiq()
    messages = broker.listen()
    await (await anext(messages)).ack()
    await messages.aclose()
    await broker.shutdown()
    assert len(acknowledged) == 1
    assert pending_of(topology, name) == {}


async def test_entry_is_leased_although_its_first_wrapping_failed(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, runs, finish = worker(RedisStreamBroker, topology, name), list[str](), asyncio.Event()
    original, failures = broker._ack_generator, list[str]()

    @broker.task(task_name="long")
    async def long() -> None:
        runs.append("long")
        await finish.wait()

    def fail_once(id: str, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002
        if not failures:
            failures.append(id)
            raise RuntimeError("not ready")
        return original(id=id, queue_name=queue_name)

    async def has_begun() -> bool:
        return bool(runs)

    async def is_acknowledged() -> bool:
        return not pending_of(topology, name)

    monkeypatch.setattr(broker, "_ack_generator", fail_once)
    async with receiving(broker):
        await long.kiq()
        await wait_until(has_begun)
        gc.collect()
        ((keeper,),) = (state.keepers for state in broker._listener_states.get())
        assert not keeper._table.has_entries_to_hand_back
        finish.set()
        await wait_until(is_acknowledged)
    await broker.shutdown()
    assert len(failures) == 1
    assert runs == ["long"]


async def test_reading_ack_in_listen_does_not_end_the_lease(topology: Topology, name: str) -> None:
    broker, runs, finish = worker(WrappedMessages, topology, name), list[str](), asyncio.Event()

    @broker.task(task_name="long")
    async def long() -> None:
        runs.append("long")
        await finish.wait()

    async def runs_once() -> bool:
        return runs == ["long"]

    async def is_acknowledged() -> bool:
        return not pending_of(topology, name)

    async with receiving(broker):
        await long.kiq()
        await wait_until(runs_once)
        other = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        async with Listener(other, acknowledge=False) as idle:
            await sleep(3 * LEASE / 1000)
            assert idle.got == []
        finish.set()
        await wait_until(is_acknowledged)
    await broker.shutdown()
    assert runs == ["long"]


async def test_task_may_acknowledge_an_encoded_message_while_it_handles_an_exception(
    topology: Topology, name: str
) -> None:
    broker, runs = worker(EncodedMessages, topology, name), list[str]()

    @broker.task(task_name="failing", ack_type="manual")
    async def failing(context: Context = TaskiqDepends()) -> None:
        runs.append("failing")
        try:
            int("no number")
        except ValueError:
            await context.ack()

    async def is_acknowledged() -> bool:
        return runs == ["failing"] and not pending_of(topology, name)

    async with receiving(broker):
        await failing.kiq()
        await wait_until(is_acknowledged)
        assert [letter async for letter in broker.dead_letters()] == []
    await broker.shutdown()


@pytest.mark.parametrize(
    ("kind", "receiver"),
    [
        (InspectedMessages, Receiver),
        (QueuedMessages, Receiver),
        (RedisStreamBroker, InspectingReceiver),
        (RedisStreamBroker, PoolReceiver),
    ],
)
@pytest.mark.parametrize("is_worker_process", [False, True])
async def test_other_code_may_look_at_messages(
    topology: Topology, name: str, kind: Any, receiver: type[Receiver], is_worker_process: bool
) -> None:
    broker, runs, finish = worker(kind, topology, name), list[int](), asyncio.Event()
    broker.is_worker_process = is_worker_process

    @broker.task(task_name="append")
    async def append(number: int) -> None:
        runs.append(number)
        await finish.wait()

    async def has_begun() -> bool:
        return bool(runs)

    async def is_acknowledged() -> bool:
        return len(runs) == 2 and not pending_of(topology, name)

    async with receiving(broker, receiver):
        await append.kiq(0)
        await wait_until(has_begun)
        await append.kiq(1)
        # The tasks that looked at the messages have ended.
        await sleep(0.05)
        (state,) = broker._listener_states.get()
        assert state.keepers[0]._table.unacked(name) == []
        finish.set()
        await wait_until(is_acknowledged)
    await broker.shutdown()
    assert sorted(runs) == [0, 1]


async def test_receiver_can_be_cancelled_and_started_again(topology: Topology, name: str) -> None:
    broker, runs, finish = worker(RedisStreamBroker, topology, name), list[int](), asyncio.Event()

    @broker.task(task_name="append")
    async def append(number: int) -> None:
        runs.append(number)
        if number == 0:
            await finish.wait()

    async def has_begun() -> bool:
        return runs == [0]

    async def all_ran() -> bool:
        return sorted(runs) == list(range(6))

    async def is_acknowledged() -> bool:
        return not pending_of(topology, name)

    for number in range(6):
        await append.kiq(number)
    async with receiving(broker, max_async_tasks=1, max_prefetch=5) as first:
        await wait_until(has_begun)
        first.cancel()
    # Prefetched messages are handed back when they are garbage-collected.
    del first
    gc.collect()
    async with receiving(broker):
        # The task that the first receiver started runs on.
        await wait_until(all_ran)
        finish.set()
        await wait_until(is_acknowledged)
    await broker.shutdown()
    assert sorted(runs) == list(range(6))


async def test_unacknowledged_message_is_redelivered_though_its_task_goes_on(
    topology: Topology, name: str
) -> None:
    broker, runs = worker(RedisStreamBroker, topology, name), list[int]()

    @broker.task(task_name="forget", ack_type="manual")
    async def forget(number: int) -> None:
        runs.append(number)

    async def has_run_twice() -> bool:
        gc.collect()
        return runs.count(0) >= 2

    # The task of this receiver handles all messages, and doesn't end after the first one.
    async with receiving(broker, PoolReceiver):
        await forget.kiq(0)
        # taskiq refers to a message until it gets the next one.
        await forget.kiq(1)
        await wait_until(has_run_twice)
    await broker.shutdown()
