"""`stop()` ends listeners, and leaves everything usable."""

from typing import Any

import pytest

from tests._aio import Running, wait_until
from tests._async.support import build, data_of, message
from tests.servers import Topology

pytestmark = pytest.mark.anyio

MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "pubsub", "stream"])


@pytest.mark.smoke
@MECHANISMS
async def test_stop_ends_listeners_and_shutdown_allows_new_ones(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name)
    received: list[bytes] = []
    ended: list[str] = []

    async def listen() -> None:
        async for each in broker.listen():
            data = await data_of(each)
            received.append(data)
        ended.append("listener")

    async def got_message() -> bool:
        # More than one, as those that are published before the listener subscribes are lost.
        await broker.kick(message(b"a"))
        return bool(received)

    async def has_ended() -> bool:
        return bool(ended)

    for _ in range(2):
        received.clear()
        ended.clear()
        async with Running(listen):
            await wait_until(got_message)
            broker.stop()
            await wait_until(has_ended)
        await broker.shutdown()


async def test_a_listener_that_starts_after_stop_ends_at_once(
    topology: Topology, name: str
) -> None:
    broker = build(topology, "stream", queue_name=name)
    broker.stop()
    await broker.kick(message(b"a"))
    async for _ in broker.listen():
        pytest.fail("it listened")
    await broker.shutdown()


async def test_fetched_messages_are_handed_back_after_stop(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    sent = [b"%d" % number for number in range(20)]
    for data in sent:
        await broker.kick(message(data))
    started: list[bytes] = []
    async for each in broker.listen():
        started.append(await data_of(each))
        if len(started) == 5:
            broker.stop()
    assert len(started) == 5
    await broker.shutdown()
    rest: list[bytes] = []
    next_broker: Any = build(topology, "stream", queue_name=name)
    async for each in next_broker.listen():
        rest.append(await data_of(each))
        if len(rest) == len(sent) - len(started):
            next_broker.stop()
    assert sorted(started + rest) == sorted(sent)
    await next_broker.shutdown()
