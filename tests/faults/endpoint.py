"""An endpoint that follows the primary, as managed services have them."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.proxy import CHUNK, run_until_first_ends
from tests.servers import (
    HOST,
    THREAD_PREFIX,
    Address,
    ServerProcess,
    Topology,
    client_of,
    close_client,
    lease_port,
    node_url,
    release_port,
)
from tests.waiting import wait_until


class Endpoint:
    """A proxy in front of a primary and its replica.

    A connection stays with the server that it was opened to, until that closes it.

    Args:
        primary: the primary.
        replica: the replica.
    """

    def __init__(self, primary: ServerProcess, replica: ServerProcess) -> None:
        self.primary, self.replica = primary, replica
        self.address: Address = (HOST, lease_port())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"{THREAD_PREFIX}-endpoint", daemon=True
        )
        self._tasks: set[asyncio.Future[Any]] = set()
        self._server: asyncio.Server | None = None

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
            from_server, to_server = await asyncio.open_connection(*self.primary.address)
            with contextlib.closing(to_server):
                await run_until_first_ends(
                    _forward(from_client, to_server), _forward(from_server, to_client)
                )


async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        target.write(data)


@contextmanager
def following_endpoint() -> Iterator[Endpoint]:
    """Start a primary and a replica behind an endpoint."""
    extra = {"repl-diskless-sync-delay": "0"}
    with ServerProcess(extra=extra) as first, ServerProcess(extra=extra) as second:
        endpoint = Endpoint(first, second)
        endpoint.open()
        try:
            yield endpoint
        finally:
            endpoint.close()
            close_client(endpoint.topology)
