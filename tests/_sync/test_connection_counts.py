# Generated from tests/_async/test_connection_counts.py by scripts/unasync.py; edit that.

"""Objects open as many connections as docs/migration.md says."""

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
#: allowed numbers of connections of an object that uses one key, by topology
FOR_OBJECT = {"single": {1}, "cluster": {1, 2, 3}, "sentinel": {2}}
#: allowed numbers of additional connections of a listener
FOR_LISTENER = {"single": {1}, "cluster": {1, 2, 3, 4}, "sentinel": {2}}
#: maximum by topology; the cluster has three primaries
MAXIMUM = {"single": 50, "cluster": 3 * 50 + 2, "sentinel": 50 + 50}


@pytest.fixture(scope="module", params=[ServerProcess, LocalCluster, LocalSentinel])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Servers that no other test uses."""
    with request.param() as servers:
        close_client(servers.topology.sentinels or servers.topology.url)
        yield servers


class Counter:
    """Counts the client connections to all servers of a topology."""

    def __init__(self, topology: Topology, clients: list[Any]) -> None:
        self.topology = topology
        self.kind = topology.kind
        self._clients = clients

    def count(self) -> int:
        """Return the number of client connections."""
        clients = [client for probe in self._clients for client in probe.client_list()]
        return sum(self._is_counted(client) for client in clients)

    def _is_counted(self, client: dict[str, str]) -> bool:
        between_servers = {"S", "M"} & set(client["flags"]) or client["name"].startswith("sentinel")
        return not between_servers and client["name"] != "counter"

    def is_documented(self) -> bool:
        """Return whether there are as many as for an object, and no sentinel is just connecting."""
        return self.count() in FOR_OBJECT[self.kind]

    def is_zero(self) -> bool:
        """Return whether the servers have noticed that all connections are closed."""
        return self.count() == 0


@pytest.fixture
def counter(servers: Servers) -> Iterator[Counter]:
    """A counter of connections, when there are none left of earlier tests."""
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
    wait_until(counter.is_documented)
    before = counter.count()
    # Acknowledging while sending would open another connection.
    with Listener(broker, acknowledge=False) as listener:

        def has_received() -> list[bytes]:
            if mechanism == "pubsub":
                broker.kick(message(b"a"))
            return listener.got

        wait_until(has_received)
        # The thread that renews leases of a stream listener opens as many.
        times = 2 if mechanism == "stream" else 1
        additional = {times * number for number in FOR_LISTENER[counter.kind]}

        def count_is_as_documented() -> bool:
            return min(additional) <= counter.count() - before <= max(additional)

        wait_until(count_is_as_documented)
    wait_until(counter.is_zero)


@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
def test_schedule_source_uses_documented_number_of_connections(
    counter: Counter, name: str, mechanism: str
) -> None:
    with opened(counter.topology, mechanism, prefix=f"{{{name}}}") as source:
        for _ in range(3):
            source.delete_schedule("id")
        wait_until(counter.is_documented)
    wait_until(counter.is_zero)


def test_result_backend_uses_documented_number_of_connections(counter: Counter, name: str) -> None:
    with opened(counter.topology, "results", prefix_str=name) as backend:
        for _ in range(3):
            backend.set_result("id", result(1))
            wait_until(counter.is_documented)
        store = [partial(backend.set_result, str(number), result(1)) for number in range(200)]
        together(*store)
        assert counter.count() <= MAXIMUM[counter.kind]
    wait_until(counter.is_zero)


def test_concurrent_sending_uses_no_more_connections(counter: Counter, name: str) -> None:
    with opened(counter.topology, "list", queue_name=name) as broker:
        together(*[partial(broker.kick, message(b"a")) for _ in range(200)])
        wait_until(counter.is_documented)
    wait_until(counter.is_zero)
