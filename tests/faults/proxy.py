"""Bad networks: proxies that randomly drop and delay the traffic of real servers."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Generator
from dataclasses import replace
from typing import Any

from tests.servers import (
    HOST,
    THREAD_PREFIX,
    Address,
    Plan,
    ServerProcess,
    Topology,
    lease_port,
    node_url,
    release_port,
)

CHUNK = 1 << 16
#: the proxies' name for the master; sentinels that monitor a master by the same name would discover
#: each other, and never forget it
PROXIED = "proxied"
FATES = ("lose the request", "lose the reply", "delay the reply", "delay the request")


class Weather:
    """Chooses the fate of requests: all pass while it is calm, otherwise each fate in random order.

    Args:
        about: text of the affected requests, such as the name of a queue.
        delay: s; maximum delay.
        passes: number of requests that pass per round of fates.
        seed: of the random numbers.
    """

    def __init__(self, about: str, delay: float, passes: int = 8, seed: int = 0) -> None:
        self.calm = True
        self._about = about.encode()
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._delay = delay
        self._round = [*FATES, *["pass"] * passes]
        self._coming: list[str] = []

    def fate(self, request: bytes) -> str:
        """Choose the fate of a request."""
        if self.calm or self._about not in request:
            return "pass"
        if not self._coming:
            self._coming = self._random.sample(self._round, len(self._round))
        fate = self._coming.pop()
        self.seen[fate] += 1
        return fate

    def pause(self) -> float:
        """Choose a delay in seconds."""
        return self._random.uniform(0, self._delay)


class Proxy:
    """A proxy between a server and its clients.

    A delayed request reaches the server even if its client has closed the connection and sent
    another one, as with a frozen server.

    Args:
        target: the server.
        weather: shared by the proxies of a topology.
        port: port to listen on.
    """

    def __init__(self, target: Address, weather: Weather, port: int) -> None:
        self.address: Address = (HOST, port)
        self._target = target
        self._weather = weather
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening."""
        self._server = await asyncio.start_server(self._accept, *self.address)

    async def stop(self) -> None:
        """Close all connections."""
        assert self._server is not None
        self._server.close()
        tasks = [link.task for link in self._links if link.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until all delayed traffic has arrived."""
        while any(link.holds_up for link in self._links):
            await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self._weather)
        link.task = asyncio.ensure_future(link.run(reader, writer, self._target))
        self._links.add(link)
        await asyncio.gather(link.task, return_exceptions=True)
        self._links.discard(link)


class Link:
    """One connection through a proxy.

    Args:
        weather: chooses the fate of its requests.
    """

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._reply_fate = "pass"
        self.holds_up = False
        self.task: asyncio.Future[Any] | None = None

    async def run(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter, target: Address
    ) -> None:
        """Pass traffic on until either side closes."""
        with contextlib.closing(to_client), contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection(*target)
            with contextlib.closing(to_server):
                await first_to_end(
                    self._requests(from_client, to_server), self._replies(from_server, to_client)
                )

    async def _requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while request := await source.read(CHUNK):
            fate = self._weather.fate(request)
            if fate == "lose the request":
                return
            if fate == "delay the request":
                await self._hold_up()
            self._reply_fate = fate
            target.write(request)

    async def _replies(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while reply := await source.read(CHUNK):
            if self._reply_fate == "lose the reply":
                return
            if self._reply_fate == "delay the reply":
                await self._hold_up()
            target.write(reply)

    async def _hold_up(self) -> None:
        self.holds_up = True
        await asyncio.sleep(self._weather.pause())
        self.holds_up = False


async def first_to_end(*calls: Coroutine[Any, Any, None]) -> None:
    """Run calls concurrently until one of them ends."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxies:
    """Proxies for all nodes of a topology, on a thread with an event loop.

    Args:
        topology: the servers, which are left unchanged.
        weather: chooses the fate of requests.
    """

    def __init__(self, topology: Topology, weather: Weather) -> None:
        self._topology = topology
        self._by_node = {node: Proxy(node, weather, lease_port()) for node in topology.nodes}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"{THREAD_PREFIX}-proxies", daemon=True
        )
        self._sentinel: ServerProcess | None = None

    def _run(self, call: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(call, self._loop).result(30)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()
        for proxy in self._by_node.values():
            self._run(proxy.start())
        if self._topology.kind == "sentinel":
            self._sentinel = ServerProcess(plan=self._sentinel_plan())
            self._sentinel.start()

    def _sentinel_plan(self) -> Plan:
        """Return a sentinel that knows the master by its proxy's address, and never fails it over."""
        host, port = self._by_node[self._topology.nodes[0]].address
        own_port = lease_port()
        config = (
            f"bind {HOST}",
            f"port {own_port}",
            f"sentinel monitor {PROXIED} {host} {port} 1",
            f"sentinel down-after-milliseconds {PROXIED} 600000",
        )
        return Plan(own_port, config, sentinel=True)

    @property
    def topology(self) -> Topology:
        """Return the same servers behind the proxies."""
        url = node_url(self._by_node[self._topology.nodes[0]].address)
        if self._sentinel is None:
            return replace(self._topology, url=url)
        return replace(
            self._topology, url=url, sentinels=(self._sentinel.address,), master_name=PROXIED
        )

    def remap(self, address: Address) -> Address:
        """Return the address of a node's proxy, which the node doesn't announce."""
        proxy = self._by_node.get(address)
        return address if proxy is None else proxy.address

    def settle(self) -> None:
        """Wait until all delayed traffic has arrived."""
        for proxy in self._by_node.values():
            self._run(proxy.settle())

    def close(self) -> None:
        """Stop the proxies."""
        for proxy in self._by_node.values():
            self._run(proxy.stop())
            release_port(proxy.address[1])
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._sentinel is not None:
            self._sentinel.close()


@contextlib.contextmanager
def bad_network(topology: Topology, weather: Weather) -> Generator[Proxies, None, None]:
    """Put proxies in front of a topology."""
    proxies = Proxies(topology, weather)
    proxies.start()
    try:
        yield proxies
    finally:
        proxies.close()
