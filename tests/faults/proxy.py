"""A faulty network: proxies that randomly drop and delay the traffic of real servers."""

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
#: name of the master behind a proxy; not `MASTER`, because sentinels that monitor the same name
#: find and remember each other
PROXIED_MASTER = "proxied"
#: faults of `CutOff` after which all requests are lost
ENDS = ("crash", "go away")
FAULTS = ("lose the request", "lose the reply", "delay the reply", "delay the request")


class FaultInjector:
    """Chooses a fault, or none, for each request while it is active.

    Each round contains every fault once, and a number of requests without a fault, in random order.

    Args:
        text: part of the requests that may be hit, such as the name of a queue.
        delay: s; maximum delay.
        passes: number of requests without a fault in each round.
        seed: of the random numbers.
    """

    def __init__(self, text: str, delay: float, passes: int = 8, seed: int = 0) -> None:
        self.active = False
        #: s; time that all traffic takes in each direction
        self.travel_time = 0.0
        self._text = text.encode()
        self.injected: Counter[str] = Counter()
        #: grows when connections are forgotten
        self.epoch = 0
        self._random = random.Random(seed)
        self._delay = delay
        self._round = [*FAULTS, *["pass"] * passes]
        self._upcoming: list[str] = []

    def choose(self, request: bytes) -> str:
        """Return the fault for a request, or "pass"."""
        if not self.active or self._text not in request:
            return "pass"
        if not self._upcoming:
            self._upcoming = self._random.sample(self._round, len(self._round))
        fault = self._upcoming.pop()
        self.injected[fault] += 1
        return fault

    def record_loss(self, request: bytes) -> None:
        """Do nothing: only `Forgetful` forgets connections."""

    def choose_delay(self) -> float:
        """Choose a delay in seconds."""
        return self._random.uniform(0, self._delay)


class CutOff(FaultInjector):
    """Cuts off the connection at one of the requests with a text, counted from `arm`.

    Args:
        text: part of the requests that are counted.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, 0)
        self._fault = "pass"
        self._number = 0
        self._seen = 0

    def arm(self, fault: str, number: int) -> None:
        """Choose what happens to a request.

        Args:
            fault: "lose the request", "lose the reply", or "crash" or "go away", which lose the
                reply and all later requests.
            number: number of the request, from 1.
        """
        self._fault, self._number, self._seen = fault, number, 0

    def disarm(self) -> None:
        """Let all requests pass, until the next `arm`."""
        self._fault = "pass"

    @property
    def hit(self) -> bool:
        """Whether there was such a request."""
        return self._seen >= self._number

    @property
    def is_away(self) -> bool:
        """Whether all requests are lost now."""
        return self._fault in ENDS and self.hit

    def choose(self, request: bytes) -> str:
        """Return the fault for a request, or "pass"."""
        if self._fault == "pass" or self._text not in request:
            return "pass"
        self._seen += 1
        if self._seen == self._number:
            return "lose the reply" if self._fault in ENDS else self._fault
        return "lose the request" if self.is_away else "pass"


class HalfOpen(FaultInjector):
    """Loses a connection, at a request with a text, without closing it; others still work.

    Args:
        text: part of the request.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, 0)

    def choose(self, request: bytes) -> str:
        """Return the fault for a request, or "pass"."""
        if not self.active or self._text not in request:
            return "pass"
        self.active = False
        self.injected["lose the connection"] += 1
        return "lose the connection"


class Forgetful(FaultInjector):
    """Forgets all connections that are open, without closing them; new ones work.

    Args:
        text: part of the requests that are counted when they are lost.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text, 0)

    def record_loss(self, request: bytes) -> None:
        """Count a request that was sent on a forgotten connection."""
        self.injected["lose the connection"] += self._text in request

    def forget(self) -> None:
        """Forget them, like a NAT gateway when they have been idle for long."""
        self.epoch += 1


class Distance(FaultInjector):
    """No faults, but a round trip takes its time.

    Args:
        round_trip: s; its duration. The delay doesn't limit how much is under way.
        text: part of the requests that are counted, such as the name of a command.
    """

    def __init__(self, round_trip: float, text: str = "") -> None:
        super().__init__(text, 0)
        self.travel_time = round_trip / 2
        #: number of requests with the text
        self.requests = 0

    def choose(self, request: bytes) -> str:
        """Count a request, and let it pass."""
        self.requests += self._text in request
        return "pass"


class Proxy:
    """A proxy between a server and its clients.

    A delayed request reaches the server even if its client has closed the connection and sent
    another one, as with a frozen server.

    Args:
        target: the server.
        faults: chooses faults; shared by the proxies of a topology.
        port: port to listen on.
    """

    def __init__(self, target: Address, faults: FaultInjector, port: int) -> None:
        self.address: Address = (HOST, port)
        self._target = target
        self._faults = faults
        self._connections: set[ProxiedConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening."""
        self._server = await asyncio.start_server(self._accept, *self.address)

    async def stop(self) -> None:
        """Close all connections."""
        assert self._server is not None
        self._server.close()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for_delayed(self) -> None:
        """Wait until all delayed traffic has arrived."""
        while any(connection.is_delaying for connection in self._connections):
            await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ProxiedConnection(self._faults)
        connection.task = asyncio.ensure_future(connection.run(reader, writer, self._target))
        self._connections.add(connection)
        await asyncio.gather(connection.task, return_exceptions=True)
        self._connections.discard(connection)


class ProxiedConnection:
    """One connection through a proxy.

    Args:
        faults: chooses faults.
    """

    def __init__(self, faults: FaultInjector) -> None:
        self._faults = faults
        self._opened_in = faults.epoch
        self._reply_fault = "pass"
        self.is_delaying = False
        self.task: asyncio.Future[Any] | None = None

    async def run(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter, target: Address
    ) -> None:
        """Forward traffic until either side closes."""
        with contextlib.closing(to_client), contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection(*target)
            with contextlib.closing(to_server):
                await run_until_first_ends(
                    self._requests(from_client, to_server), self._replies(from_server, to_client)
                )

    async def _requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while request := await source.read(CHUNK):
            fault = self._faults.choose(request)
            if self._opened_in < self._faults.epoch:
                fault = "lose the connection"
                self._faults.record_loss(request)
            if fault == "lose the request":
                return
            if fault == "lose the connection":
                # No more requests are forwarded, and so there are no more replies.
                while request:
                    request = await source.read(CHUNK)
                return
            if fault == "delay the request":
                await self._delay_traffic()
            self._reply_fault = fault
            self._write(target, request)
        await asyncio.sleep(self._faults.travel_time)

    async def _replies(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while reply := await source.read(CHUNK):
            if self._reply_fault == "lose the reply":
                return
            if self._reply_fault == "delay the reply":
                await self._delay_traffic()
            self._write(target, reply)
        await asyncio.sleep(self._faults.travel_time)

    def _write(self, target: asyncio.StreamWriter, data: bytes) -> None:
        if self._faults.travel_time:
            loop = asyncio.get_running_loop()
            loop.call_later(self._faults.travel_time, target.write, data)
        else:
            target.write(data)

    async def _delay_traffic(self) -> None:
        self.is_delaying = True
        await asyncio.sleep(self._faults.choose_delay())
        self.is_delaying = False


async def run_until_first_ends(*calls: Coroutine[Any, Any, None]) -> None:
    """Run calls concurrently until one of them ends."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def lone_sentinel_plan(master: Address) -> Plan:
    """Return a sentinel that knows a master only by this address, and never fails it over."""
    host, port = master
    own_port = lease_port()
    config = (
        f"bind {HOST}",
        f"port {own_port}",
        f"sentinel monitor {PROXIED_MASTER} {host} {port} 1",
        f"sentinel down-after-milliseconds {PROXIED_MASTER} 600000",
    )
    return Plan(own_port, config, sentinel=True)


class Proxies:
    """Proxies for all nodes of a topology, on a thread with an event loop.

    Args:
        topology: the servers, which are left unchanged.
        faults: chooses faults.
    """

    def __init__(self, topology: Topology, faults: FaultInjector) -> None:
        self._topology = topology
        self._by_node = {node: Proxy(node, faults, lease_port()) for node in topology.nodes}
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
            master = self._by_node[self._topology.nodes[0]].address
            self._sentinel = ServerProcess(plan=lone_sentinel_plan(master))
            self._sentinel.start()

    @property
    def topology(self) -> Topology:
        """Return the same servers behind the proxies."""
        url = node_url(self._by_node[self._topology.nodes[0]].address)
        if self._sentinel is None:
            return replace(self._topology, url=url)
        return replace(
            self._topology, url=url, sentinels=(self._sentinel.address,), master_name=PROXIED_MASTER
        )

    def remap(self, address: Address) -> Address:
        """Return the address of a node's proxy, which the node doesn't announce."""
        proxy = self._by_node.get(address)
        return address if proxy is None else proxy.address

    def wait_for_delayed(self) -> None:
        """Wait until all delayed traffic has arrived."""
        for proxy in self._by_node.values():
            self._run(proxy.wait_for_delayed())

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
def faulty_network(topology: Topology, faults: FaultInjector) -> Generator[Proxies, None, None]:
    """Put proxies in front of a topology."""
    proxies = Proxies(topology, faults)
    proxies.start()
    try:
        yield proxies
    finally:
        proxies.close()
