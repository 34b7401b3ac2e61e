# Generated from tests/_async/test_connection_counts.py by scripts/unasync.py; edit that.

"""The connections of an object are as many as docs/migration.md says."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from redis import Redis

from tests._sync.support import Listener, build, message, opened, result
from tests._threads import together, wait_until
from tests.servers import (
    LocalCluster,
    LocalSentinel,
    ServerProcess,
    Topology,
    close_client,
)
from tests.waiting import wait_until as poll

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

    def is_zero(self) -> bool:
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
def test_broker_and_its_listener_use_documented_number_of_connections(
    counter: Counter, name: str, mechanism: str
) -> None:
    broker = build(counter.topology, mechanism, queue_name=name)
    broker.kick(message(b"a"))
    before = counter.count()
    assert before in OF_OBJECT[counter.kind]
    # Acknowledging at the same time as sending would take a further one.
    with Listener(broker, acknowledge=False) as listener:

        def hears() -> list[bytes]:
            if mechanism == "pubsub":
                broker.kick(message(b"a"))
            return listener.got

        wait_until(hears)
        # A listener of streams has leases, which have as many.
        times = 2 if mechanism == "stream" else 1
        more = {times * number for number in OF_LISTENER[counter.kind]}

        def has_as_many() -> bool:
            return min(more) <= counter.count() - before <= max(more)

        wait_until(has_as_many)
    wait_until(counter.is_zero)


@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
def test_schedule_source_uses_documented_number_of_connections(
    counter: Counter, name: str, mechanism: str
) -> None:
    with opened(counter.topology, mechanism, prefix=f"{{{name}}}") as source:
        for _ in range(3):
            source.delete_schedule("id")
        assert counter.count() in OF_OBJECT[counter.kind]
    wait_until(counter.is_zero)


def test_result_backend_uses_documented_number_of_connections(counter: Counter, name: str) -> None:
    with opened(counter.topology, "results", prefix_str=name) as backend:
        for _ in range(3):
            backend.set_result("id", result(1))
            assert counter.count() in OF_OBJECT[counter.kind]
        store = [partial(backend.set_result, str(number), result(1)) for number in range(200)]
        together(*store)
        assert counter.count() <= MOST[counter.kind]
    wait_until(counter.is_zero)


def test_concurrent_sending_uses_no_more_connections(counter: Counter, name: str) -> None:
    with opened(counter.topology, "list", queue_name=name) as broker:
        together(*[partial(broker.kick, message(b"a")) for _ in range(200)])
        assert counter.count() in OF_OBJECT[counter.kind]
    wait_until(counter.is_zero)
