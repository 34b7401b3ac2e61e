"""Connections that a NAT gateway forgot while they were idle are replaced together."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from taskiq_redis._async import clients
from taskiq_redis._async.connection import execute
from taskiq_redis._drivers.aio import mark_for_reconnect
from tests._aio import together, wait_until
from tests._async.support import (
    Listener,
    build,
    connections_named,
    length,
    message,
    opened,
    redis_of,
    result,
)
from tests.faults.proxy import Forgetful, Proxies, faulty_network
from tests.servers import Topology

pytestmark = [pytest.mark.anyio, pytest.mark.full]

#: s; shorter than the default, after which a dead connection is given up
SOCKET_TIMEOUT = 0.5
LOST = "lose the connection"


class Gateway:
    """A NAT gateway between servers and clients.

    Args:
        nat: forgets connections.
        proxies: the proxies that it is made of.
    """

    def __init__(self, nat: Forgetful, proxies: Proxies) -> None:
        self.nat = nat
        self.topology = proxies.topology
        self.options: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT}
        if self.topology.kind == "cluster":
            self.options["address_remap"] = proxies.remap

    def lost(self) -> int:
        """Return how many requests were sent on forgotten connections."""
        return self.nat.injected[LOST]


@pytest.fixture
def gateway(topology: Topology, name: str) -> Iterator[Gateway]:
    """A gateway in front of a topology."""
    # The sentinel itself also sends requests to the master.
    nat = Forgetful(name if topology.kind == "sentinel" else "")
    with faulty_network(topology, nat) as proxies:
        yield Gateway(nat, proxies)


async def open_many(made: Any, name: str) -> None:
    """Let six connections to the server of a key become idle at the same time."""

    async def block(client: Any) -> None:
        await execute(client, "BLPOP", f"{{{name}}}:nothing", "0.1")

    await together(*[partial(made._connection.call, block) for _ in range(6)])


async def test_kicks_wait_for_one_dead_connection_only(
    gateway: Gateway, topology: Topology, name: str
) -> None:
    options = {"queue_name": name, **gateway.options}
    async with opened(gateway.topology, "stream", **options) as broker:
        await broker.kick(message(b"before"))
        await open_many(broker, name)
        gateway.nat.forget()
        for data in (b"a", b"b"):
            await broker.kick(message(data))
        await together(*[partial(broker.kick, message(b"c")) for _ in range(6)])
    assert gateway.lost() == 1
    assert length(topology, "stream", name) == 9


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_results_wait_for_one_dead_connection_only(gateway: Gateway, name: str) -> None:
    options = {"prefix_str": f"{{{name}}}", **gateway.options}
    async with opened(gateway.topology, "results", **options) as backend:
        await open_many(backend, name)
        gateway.nat.forget()
        for number in (1, 2):
            await backend.set_result(str(number), result(number))
            assert (await backend.get_result(str(number))).return_value == number
    assert gateway.lost() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when data was received")
async def test_connections_that_were_used_since_are_kept(topology: Topology, name: str) -> None:
    options = {"queue_name": name, "client_name": name}
    async with opened(topology, "stream", **options) as broker:
        await open_many(broker, name)
        before = connections_named(topology, name)
        for silent_for, kept in ((3600, True), (0, False)):
            mark_for_reconnect(broker._connection.client, silent_for)
            await open_many(broker, name)
            after = connections_named(topology, name)
            assert (before <= after) == kept


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_sentinels_are_asked_over_live_connections(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SENTINEL_IDLE", 0.0)
    nat = Forgetful()
    with faulty_network(replace(topology, kind="single", nodes=topology.sentinels), nat) as proxies:
        through = replace(topology, sentinels=tuple(map(proxies.remap, topology.sentinels)))
        async with opened(through, "stream", queue_name=name, client_name=name) as broker:
            await broker.kick(message(b"before"))
            nat.forget()
            for connection in connections_named(topology, name):
                redis_of(topology).client_kill_filter(_id=connection.split()[1])
            await wait_until(partial(is_gone, topology, name))
            await broker.kick(message(b"after"))
    assert nat.injected[LOST] == 0
    assert length(topology, "stream", name) == 2


async def is_gone(topology: Topology, client_name: str) -> bool:
    """Return whether there are no connections with that client name."""
    return not connections_named(topology, client_name)


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_listener_connects_again(gateway: Gateway, topology: Topology, name: str) -> None:
    broker = build(gateway.topology, "stream", queue_name=name, **gateway.options)
    async with Listener(broker) as listener:
        await broker.kick(message(b"before"))
        await wait_until(partial(listener.has, b"before"))
        gateway.nat.forget()
        await broker.kick(message(b"after"))
        await wait_until(partial(listener.has, b"before", b"after"))
