"""The connections of an object are as many as docs/migration.md says."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from redis import Redis

from tests._aio import together, wait_until
from tests._async.support import Listener, build, message, opened, result
from tests.servers import (
    LocalCluster,
    LocalSentinel,
    ServerProcess,
    Topology,
    close_client,
)
from tests.waiting import wait_until as poll

pytestmark = pytest.mark.anyio

Servers = ServerProcess | LocalCluster | LocalSentinel
BROKERS = ["list", "stream", "pubsub"]
#: how many an object may have that uses one key, by topology
OF_OBJECT = {"single": {1}, "cluster": {1, 2, 3}, "sentinel": {2}}
#: how many more it may have that listens
OF_LISTENER = {"single": {1}, "cluster": {1, 2, 3, 4}, "sentinel": {2}}
#: most at a time, by topology; a cluster here has three primaries
MOST = {"single": 50, "cluster": 3 * 50 + 2, "sentinel": 50 + 50}


@pytest.fixture(scope="module", params=[ServerProcess, LocalCluster, LocalSentinel])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Servers that nobody else uses."""
    with request.param() as servers:
        close_client(servers.topology.sentinels or servers.topology.url)
        yield servers


class Counter:
    """Counts the connections to all servers of a topology, but for those between servers."""

    def __init__(self, topology: Topology, clients: list[Any]) -> None:
        self.topology = topology
        self.kind = topology.kind
        self._clients = clients

    def count(self) -> int:
        """Return how many there are."""
        everybody = [each for client in self._clients for each in client.client_list()]
        return sum(self._is_ours(each) for each in everybody)

    def _is_ours(self, client: dict[str, str]) -> bool:
        between_servers = {"S", "M"} & set(client["flags"]) or client["name"].startswith("sentinel")
        return not between_servers and client["name"] != "counter"

    async def is_zero(self) -> bool:
        """Tell whether all are closed; a server learns of that a little later."""
        return self.count() == 0


@pytest.fixture
def counter(servers: Servers) -> Iterator[Counter]:
    """What counts connections, of which there is none before a test."""
    processes = [servers] if isinstance(servers, ServerProcess) else servers.processes
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Redis(port=process.port, client_name="counter"))
            for process in processes
        ]
        counter = Counter(servers.topology, clients)
        poll(lambda: counter.count() == 0)
        yield counter


@pytest.mark.parametrize("mechanism", BROKERS)
async def test_broker_and_its_listener_use_documented_number_of_connections(
    counter: Counter, name: str, mechanism: str
) -> None:
    broker = build(counter.topology, mechanism, queue_name=name)
    await broker.kick(message(b"a"))
    before = counter.count()
    assert before in OF_OBJECT[counter.kind]
    # Acknowledging at the same time as sending would take a further one.
    async with Listener(broker, acknowledge=False) as listener:

        async def hears() -> list[bytes]:
            if mechanism == "pubsub":
                await broker.kick(message(b"a"))
            return listener.got

        await wait_until(hears)
        # A listener of streams has leases, which have as many.
        times = 2 if mechanism == "stream" else 1
        more = {times * number for number in OF_LISTENER[counter.kind]}

        async def has_as_many() -> bool:
            return min(more) <= counter.count() - before <= max(more)

        await wait_until(has_as_many)
    await wait_until(counter.is_zero)


@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
async def test_schedule_source_uses_documented_number_of_connections(
    counter: Counter, name: str, mechanism: str
) -> None:
    async with opened(counter.topology, mechanism, prefix=f"{{{name}}}") as source:
        for _ in range(3):
            await source.delete_schedule("id")
        assert counter.count() in OF_OBJECT[counter.kind]
    await wait_until(counter.is_zero)


async def test_result_backend_uses_documented_number_of_connections(
    counter: Counter, name: str
) -> None:
    async with opened(counter.topology, "results", prefix_str=name) as backend:
        for _ in range(3):
            await backend.set_result("id", result(1))
            assert counter.count() in OF_OBJECT[counter.kind]
        store = [partial(backend.set_result, str(number), result(1)) for number in range(200)]
        await together(*store)
        assert counter.count() <= MOST[counter.kind]
    await wait_until(counter.is_zero)


async def test_concurrent_sending_uses_no_more_connections(counter: Counter, name: str) -> None:
    async with opened(counter.topology, "list", queue_name=name) as broker:
        await together(*[partial(broker.kick, message(b"a")) for _ in range(200)])
        assert counter.count() in OF_OBJECT[counter.kind]
    await wait_until(counter.is_zero)
