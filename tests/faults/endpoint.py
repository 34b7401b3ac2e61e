"""An endpoint that follows the primary, as managed services have them."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.faults.proxy import CHUNK, PROXIED_MASTER, lone_sentinel_plan, run_until_first_ends
from tests.servers import (
    HOST,
    SLOTS,
    THREAD_PREFIX,
    Address,
    ServerProcess,
    Topology,
    client_of,
    close_client,
    lease_port,
    node_url,
    probe,
    release_port,
)
from tests.servers.configuration import cluster_plans
from tests.waiting import wait_until


class Forwarder:
    """A proxy whose target can change.

    A connection stays with the server that it was opened to, until that closes it.

    Args:
        target: the server.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address = (HOST, lease_port())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"{THREAD_PREFIX}-endpoint", daemon=True
        )
        self._tasks: set[asyncio.Future[Any]] = set()
        self._server: asyncio.Server | None = None

    def open(self) -> None:
        """Listen."""
        self._thread.start()
        self._run(self._start())

    def close(self) -> None:
        """Close all connections."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        release_port(self.address[1])

    def _run(self, call: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(call, self._loop).result(30)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self.address)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._tasks.add(task)
        await asyncio.gather(task, return_exceptions=True)
        self._tasks.discard(task)

    async def _connect(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        with contextlib.closing(to_client), contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection(*self.target)
            with contextlib.closing(to_server):
                await run_until_first_ends(
                    _forward(from_client, to_server), _forward(from_server, to_client)
                )


async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        target.write(data)


class Endpoint(Forwarder):
    """A proxy in front of a primary and its replica.

    Args:
        primary: the primary.
        replica: the replica.
    """

    def __init__(self, primary: ServerProcess, replica: ServerProcess) -> None:
        super().__init__(primary.address)
        self.primary, self.replica = primary, replica

    @property
    def topology(self) -> Topology:
        """The address of the primary, whichever server it is."""
        return Topology(kind="single", url=node_url(self.address))

    def fail_over(self, refusal: str = "READONLY") -> None:
        """Make the replica the primary; connections to the old primary stay open.

        Args:
            refusal: how the old primary replies to writes, READONLY or MASTERDOWN.
        """
        client_of(self.replica.topology).replicaof("NO", "ONE")
        old = client_of(self.primary.topology)
        if refusal == "MASTERDOWN":
            old.config_set("replica-serve-stale-data", "no")
            old.replicaof(HOST, 1)
        else:
            old.replicaof(*self.replica.address)
        self.primary, self.replica = self.replica, self.primary
        self.target = self.primary.address

    def wait_for_replica(self) -> None:
        """Wait until the replica has all data."""
        primary = client_of(self.primary.topology)
        # WAIT waits only for what the same client has written.
        primary.set("written", 1)
        wait_until(lambda: primary.wait(1, 100) == 1)

    def open(self) -> None:
        """Start the replication, and listen."""
        client_of(self.replica.topology).replicaof(*self.primary.address)
        self.wait_for_replica()
        super().open()


class SentinelEndpoint(Endpoint):
    """A sentinel that knows a primary, and later its former replica, instead of the proxy.

    Args:
        primary: the primary.
        replica: the replica.
        sentinel: the sentinel.
    """

    def __init__(
        self, primary: ServerProcess, replica: ServerProcess, sentinel: ServerProcess
    ) -> None:
        super().__init__(primary, replica)
        self._sentinel = sentinel

    @property
    def topology(self) -> Topology:
        """The sentinel."""
        return Topology(
            kind="sentinel",
            url=node_url(self._sentinel.address),
            sentinels=(self._sentinel.address,),
            master_name=PROXIED_MASTER,
        )

    def fail_over(self, refusal: str = "READONLY") -> None:
        """Make the replica the primary, as `Endpoint.fail_over`, and let the sentinel know."""
        super().fail_over(refusal)
        host, port = self.primary.address
        with probe(self._sentinel.url) as client:
            client.execute_command("SENTINEL", "REMOVE", PROXIED_MASTER)
            client.execute_command("SENTINEL", "MONITOR", PROXIED_MASTER, host, port, 1)


@contextmanager
def following_endpoint(kind: str) -> Iterator[Endpoint]:
    """Start a primary and a replica behind an endpoint, or known to a sentinel.

    Args:
        kind: `single` or `sentinel`.
    """
    extra = {"repl-diskless-sync-delay": "0"}
    with ServerProcess(extra=extra) as first, ServerProcess(extra=extra) as second:
        with ExitStack() as stack:
            if kind == "single":
                endpoint = Endpoint(first, second)
            else:
                plan = lone_sentinel_plan(first.address)
                sentinel = stack.enter_context(ServerProcess(plan=plan))
                endpoint = SentinelEndpoint(first, second, sentinel)
            endpoint.open()
            stack.callback(endpoint.close)
            yield endpoint
            close_client(endpoint.topology)


class MovingCluster(Forwarder):
    """A proxy in front of a cluster, whose node then gets another address.

    Args:
        before: the node.
        after: the node at its new address.
    """

    def __init__(self, before: ServerProcess, after: ServerProcess) -> None:
        super().__init__(before.address)
        self._nodes = (before, after)

    @property
    def topology(self) -> Topology:
        """The cluster, by the address of the proxy."""
        return Topology(kind="cluster", url=node_url(self.address))

    def move(self) -> None:
        """Give the node its new address, without its data."""
        before, after = self._nodes
        before.kill()
        self.target = after.address


@contextmanager
def moving_cluster() -> Iterator[MovingCluster]:
    """Start a cluster of one node behind an endpoint, and another one for `MovingCluster.move`."""
    extra = {"cluster-enabled": "yes", "cluster-announce-ip": HOST}
    with ServerProcess(extra=extra) as before, ServerProcess(extra=extra) as after:
        for node in (before, after):
            with probe(node.url) as client:
                # Redis 6.2 has no ADDSLOTSRANGE.
                client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
                wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        endpoint = MovingCluster(before, after)
        endpoint.open()
        try:
            yield endpoint
        finally:
            endpoint.close()


@contextmanager
def primaries_only() -> Iterator[list[ServerProcess]]:
    """Start a cluster of three primaries, which goes on when one of them is dead."""
    extra = {"cluster-require-full-coverage": "no"}
    ports = [lease_port() for _ in range(3)]
    nodes = [ServerProcess(plan=plan) for plan in cluster_plans(ports, extra)]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.close)
            node.launch()
        for node in nodes:
            node.wait_ready()
            with probe(node.url) as client:
                wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield nodes
