"""One object on several event loops at the same time, each in a separate thread."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from tests._async.support import build, connections_named, data_of, length, message, result
from tests._threads import together
from tests.loops.support import NewLoop, each_loop_kind, run, wait_until_disconnected
from tests.servers import Topology
from tests.waiting import TIMEOUT

QUEUES = ["list", "stream"]
LOOPS = 4


@each_loop_kind
@pytest.mark.parametrize("mechanism", QUEUES)
def test_each_loop_opens_and_keeps_its_own_connections(
    topology: Topology, name: str, mechanism: str, new_loop: NewLoop
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    barrier = threading.Barrier(LOOPS, timeout=TIMEOUT)

    def connections() -> set[str]:
        barrier.wait()
        seen = connections_named(topology, name)
        barrier.wait()
        return seen

    async def send() -> None:
        await broker.kick(message(b"a"))
        before = connections()
        assert len(before) >= LOOPS
        for _ in range(20):
            await broker.kick(message(b"a"))
            await asyncio.sleep(0)
        assert connections() == before
        await broker.shutdown()

    together(*[partial(run, send, new_loop)] * LOOPS)
    assert length(topology, mechanism, name) == 21 * LOOPS
    wait_until_disconnected(lambda: len(connections_named(topology, name)))


@each_loop_kind
@pytest.mark.parametrize("mechanism", QUEUES)
def test_listeners_on_several_loops_share_the_messages(
    topology: Topology, name: str, mechanism: str, new_loop: NewLoop
) -> None:
    sent = {str(number).encode() for number in range(40)}
    options = {"xread_count": 1} if mechanism == "stream" else {}
    broker = build(topology, mechanism, queue_name=name, client_name=name, **options)
    got: list[bytes] = []

    async def collect() -> None:
        async for received in broker.listen():
            got.append(await data_of(received))  # noqa: PERF401 - other tasks read it

    async def listen() -> None:
        collecting = asyncio.ensure_future(collect())
        while len(got) < len(sent):
            await asyncio.sleep(0.01)
        await broker.shutdown()
        await collecting

    async def send() -> None:
        for data in sent:
            await broker.kick(message(data))
        await broker.shutdown()

    together(*[partial(run, call, new_loop) for call in (listen, listen, send)])
    assert sorted(got) == sorted(sent)
    wait_until_disconnected(lambda: len(connections_named(topology, name)))


@pytest.mark.parametrize("mechanism", QUEUES)
def test_shutdown_affects_only_its_own_loop(topology: Topology, name: str, mechanism: str) -> None:
    broker = build(topology, mechanism, queue_name=name)
    has_received, stopped = threading.Event(), threading.Event()

    async def listen() -> bytes:
        messages = broker.listen()
        assert await data_of(await anext(messages)) == b"first"
        has_received.set()
        while not stopped.is_set():
            await asyncio.sleep(0.01)
        got = await data_of(await anext(messages))
        await messages.aclose()
        return got

    async def start_and_stop() -> None:
        await broker.kick(message(b"first"))
        while not has_received.is_set():
            await asyncio.sleep(0.01)
        await broker.shutdown()
        stopped.set()
        await broker.kick(message(b"second"))

    got, _ = together(
        lambda: asyncio.run(listen()),
        lambda: asyncio.run(start_and_stop()),
    )
    assert got == b"second"


@pytest.mark.parametrize("mechanism", QUEUES)
def test_async_to_sync_calls_from_threads_work(
    topology: Topology, name: str, mechanism: str
) -> None:
    """Each call runs on a new loop; the objects are never shut down."""
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    backend = build(topology, "results", prefix_str=name, client_name=name)

    def send_and_read(number: int) -> Any:
        async_to_sync(broker.kick)(message(b"a"))
        async_to_sync(backend.set_result)(f"{number}", result(number))
        return async_to_sync(backend.get_result)(f"{number}").return_value

    numbers = list(range(5 * LOOPS))
    with ThreadPoolExecutor(LOOPS) as pool:
        assert list(pool.map(send_and_read, numbers)) == numbers
    assert length(topology, mechanism, name) == len(numbers)
    wait_until_disconnected(lambda: len(connections_named(topology, name)))
