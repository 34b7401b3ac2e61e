"""Bad networks: proxies before real servers that lose and hold up what passes, at random."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.servers import (
    HOST,
    MASTER,
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
FATES = ("lose the request", "lose the reply", "delay the reply", "delay the request")


@dataclass
class Weather:
    """What happens to requests; it is fair as long as `share` is 0.

    Args:
        seed: of the random numbers.
        share: how much of the requests meets a fate, from 0 to 1.
        delay: s; how long at most something is held up.
    """

    seed: int
    share: float = 0.0
    delay: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def fate(self) -> str:
        """Choose what becomes of a request."""
        fate = self.random.choice(FATES) if self.random.random() < self.share else "pass"
        self.seen[fate] += 1
        return fate

    def pause(self) -> float:
        """Choose for how long something is held up, in seconds."""
        return self.random.uniform(0, self.delay)


class Proxy:
    """Passes on what a server and its clients send each other.

    A request that is delayed reaches the server also when its client has long closed the
    connection and sent another one, as with a server that was frozen.

    Args:
        target: the server.
        weather: shared by the proxies of a topology.
        port: where to listen.
    """

    def __init__(self, target: Address, weather: Weather, port: int) -> None:
        self.address: Address = (HOST, port)
        self._target = target
        self._weather = weather
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, *self.address)

    async def stop(self) -> None:
        """Close all connections."""
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until everything that was held up for clients that are gone has arrived."""
        while any(link.get_name() == "client is gone" for link in self._links):
            await asyncio.sleep(0.01)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._link(reader, writer))
        self._links.add(task)
        task.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        try:
            await self._converse(link, reader, writer, from_server, to_server)
        except OSError:
            self._weather.seen["broken"] += 1
        finally:
            writer.close()
            to_server.close()

    async def _converse(
        self,
        link: "asyncio.Task[None]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        while request := await reader.read(CHUNK):
            fate = self._weather.fate()
            if fate == "lose the request":
                return
            if fate == "delay the request":
                link.set_name("client is gone")  # or will be: it may time out meanwhile
                await asyncio.sleep(self._weather.pause())
            to_server.write(request)
            # More of a long request comes before there is any reply.
            reply = await self._reply(reader, from_server, to_server)
            link.set_name("at work")
            if not reply or fate == "lose the reply":
                return
            if fate == "delay the reply":
                await asyncio.sleep(self._weather.pause())
            writer.write(reply)

    async def _reply(
        self,
        reader: asyncio.StreamReader,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bytes:
        """Return what the server answers, passing on meanwhile what still belongs to the request."""
        more = asyncio.ensure_future(self._pass_on(reader, to_server))
        try:
            return await from_server.read(CHUNK)
        finally:
            more.cancel()
            await asyncio.gather(more, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while more := await reader.read(CHUNK):
            to_server.write(more)


class Proxies:
    """Proxies before all nodes of a topology, on a thread with an event loop.

    Args:
        topology: whose servers; they are left as they are.
        weather: what the proxies do.
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
        """Begin to listen."""
        self._thread.start()
        for proxy in self._by_node.values():
            self._run(proxy.start())
        if self._topology.kind == "sentinel":
            self._sentinel = ServerProcess(plan=self._sentinel_plan())
            self._sentinel.start()

    def _sentinel_plan(self) -> Plan:
        """A sentinel that knows the master by the address of its proxy, and never doubts it."""
        host, port = self._by_node[self._topology.nodes[0]].address
        own_port = lease_port()
        config = (
            f"bind {HOST}",
            f"port {own_port}",
            f"sentinel monitor {MASTER} {host} {port} 1",
            f"sentinel down-after-milliseconds {MASTER} 600000",
        )
        return Plan(own_port, config, sentinel=True)

    @property
    def topology(self) -> Topology:
        """The same servers, seen through the proxies."""
        url = node_url(self._by_node[self._topology.nodes[0]].address)
        sentinels = (self._sentinel.address,) if self._sentinel else ()
        return replace(self._topology, url=url, sentinels=sentinels)

    def remap(self, address: Address) -> Address:
        """Return the address of a node's proxy, which the node itself doesn't announce."""
        proxy = self._by_node.get(address)
        return address if proxy is None else proxy.address

    def settle(self) -> None:
        """Wait until nothing is held up any more."""
        for proxy in self._by_node.values():
            self._run(proxy.settle())

    def close(self) -> None:
        """End all."""
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
    """Put proxies before a topology."""
    proxies = Proxies(topology, weather)
    proxies.start()
    try:
        yield proxies
    finally:
        proxies.close()
