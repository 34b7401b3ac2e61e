"""One object on several event loops, one after the other: scripts, tests, `async_to_sync`."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import pytest

from tests._async.support import build, connections_named, length, message, result, take
from tests.loops.support import (
    NewLoop,
    each_loop_kind,
    run,
    run_without_cleanup,
    wait_until_disconnected,
)
from tests.servers import ServerProcess, Topology, client_of

MECHANISMS = ["list", "stream"]


def connection_counter(topology: Topology, name: str) -> Callable[[], int]:
    return lambda: len(connections_named(topology, name))


@each_loop_kind
@pytest.mark.parametrize("shutdown", [True, False])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_broker_works_on_consecutive_loops(
    topology: Topology, name: str, mechanism: str, shutdown: bool, new_loop: NewLoop
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)

    async def send_and_receive() -> list[bytes]:
        await broker.kick(message(b"a"))
        got = await take(broker, 1)
        if shutdown:
            await broker.shutdown()
        return got

    for _ in range(3):
        assert run(send_and_receive, new_loop) == [b"a"]
        wait_until_disconnected(connection_counter(topology, name))


@each_loop_kind
@pytest.mark.parametrize("shutdown", [True, False])
def test_result_backend_works_on_consecutive_loops(
    topology: Topology, name: str, shutdown: bool, new_loop: NewLoop
) -> None:
    backend = build(topology, "results", prefix_str=name, client_name=name)

    async def store_and_read() -> Any:
        await backend.set_result("id", result(1))
        value = (await backend.get_result("id")).return_value
        if shutdown:
            await backend.shutdown()
        return value

    for _ in range(3):
        assert run(store_and_read, new_loop) == 1
        wait_until_disconnected(connection_counter(topology, name))


# Raised for every new generator on such a loop, and redis-py 8 makes some for each connection.
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_async_generator_may_send_while_its_loop_is_closed(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    open_generators: list[Any] = []

    async def sends_at_its_end() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await asyncio.sleep(0.01)
            await broker.kick(message(b"last"))

    async def leave_a_generator_open() -> None:
        open_generators.append(sends_at_its_end())
        await anext(open_generators[-1])
        await broker.kick(message(b"first"))

    run(leave_a_generator_open, asyncio.new_event_loop)
    run(broker.shutdown, asyncio.new_event_loop)
    wait_until_disconnected(connection_counter(topology, name))
    assert length(topology, mechanism, name) == 2


@each_loop_kind
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_shutdown_interrupted_by_the_end_of_its_loop_leaks_no_connections(
    topology: Topology, name: str, mechanism: str, new_loop: NewLoop
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)

    async def send_and_abandon_shutdown(turns: int) -> None:
        await broker.kick(message(b"a"))
        shutdown = asyncio.ensure_future(broker.shutdown())
        for _ in range(turns):
            await asyncio.sleep(0)
        shutdown.cancel()

    for turns in range(8):
        run(partial(send_and_abandon_shutdown, turns), new_loop)
        wait_until_disconnected(connection_counter(topology, name))


@pytest.mark.full
@each_loop_kind
@pytest.mark.parametrize("mechanism", [*MECHANISMS, "pubsub"])
def test_listener_interrupted_by_the_end_of_its_loop_leaks_no_connections(
    topology: Topology, name: str, mechanism: str, new_loop: NewLoop
) -> None:
    """It is cancelled, and cancelled again before it has closed its connections."""
    others = {"additional_streams": {f"{name}-2": ">"}} if mechanism == "stream" else {}
    broker = build(topology, mechanism, queue_name=name, client_name=name, **others)

    async def listen_and_abandon(turns: int) -> None:
        got = asyncio.Event()

        async def listen() -> None:
            async for _ in broker.listen():
                got.set()

        listen_task = asyncio.ensure_future(listen())
        while not got.is_set():
            await broker.kick(message(b"a"))
            await asyncio.sleep(0.01)
        listen_task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)

    for turns in range(8):
        run(partial(listen_and_abandon, turns), new_loop)
        wait_until_disconnected(connection_counter(topology, name))


def test_cancelled_shutdown_does_not_wait_for_pending_commands(name: str) -> None:
    with ServerProcess() as server:
        broker = build(server.topology, "list", queue_name=name, client_name=name)

        async def stop_while_redis_does_not_answer() -> None:
            await broker.kick(message(b"a"))
            server.pause()
            try:
                kicking = asyncio.ensure_future(broker.kick(message(b"b")))
                stopping = asyncio.ensure_future(broker.shutdown())
                await asyncio.sleep(0.01)
                assert not stopping.done()
                stopping.cancel()
                await asyncio.gather(stopping, return_exceptions=True)
                assert not kicking.done()
            finally:
                server.resume()
            await kicking

        run(stop_while_redis_does_not_answer, asyncio.new_event_loop)
        wait_until_disconnected(connection_counter(server.topology, name))
        assert sorted(client_of(server.topology).lrange(name, 0, -1)) == [b"a", b"b"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_loops_closed_without_shutdown_leak_no_connections(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)

    async def send() -> None:
        await asyncio.gather(*(broker.kick(message(b"a")) for _ in range(3)))

    for _ in range(3):
        run_without_cleanup(send, asyncio.new_event_loop)
        gc.collect()
    # The next use, on another loop, closes the remaining connections.
    run(broker.shutdown, asyncio.new_event_loop)
    wait_until_disconnected(connection_counter(topology, name))
    assert length(topology, mechanism, name) == 9
