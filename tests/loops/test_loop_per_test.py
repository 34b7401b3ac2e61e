"""Tests that each have an event loop, and share objects that are never shut down."""

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests._async.support import build, connections_named, message, result, take
from tests.loops.support import wait_until_disconnected
from tests.servers import KINDS, RemoteServers, Servers, delete_keys

pytestmark = pytest.mark.anyio

NAME = f"t-{secrets.token_hex(5)}"
LOOPS: list[asyncio.AbstractEventLoop] = []


@pytest.fixture(scope="module", params=KINDS)
def shared(
    request: pytest.FixtureRequest, shared_servers: Servers | RemoteServers
) -> Iterator[tuple[Any, Any]]:
    topology = shared_servers.topology(request.param)
    broker = build(topology, "stream", queue_name=NAME, client_name=NAME)
    yield broker, build(topology, "results", prefix_str=NAME, client_name=NAME)
    wait_until_disconnected(lambda: len(connections_named(topology, NAME)))
    delete_keys(topology, f"*{NAME}*")


@pytest.mark.parametrize("number", range(3))
async def test_shared_objects_work_on_every_loop(shared: tuple[Any, Any], number: int) -> None:
    broker, backend = shared
    assert asyncio.get_running_loop() not in LOOPS
    LOOPS.append(asyncio.get_running_loop())
    await broker.kick(message(b"a"))
    assert await take(broker, 1) == [b"a"]
    await backend.set_result("id", result(number))
    assert (await backend.get_result("id")).return_value == number
