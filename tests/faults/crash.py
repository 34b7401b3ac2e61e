"""Simulate crashes: cut a process off from the server after a number of commands."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from tests.servers import HOST, THREAD_PREFIX, Address, Topology, node_url

CHUNK = 1 << 16


def split_commands(sent: bytes) -> tuple[list[bytes], bytes]:
    """Split the bytes of a client into complete commands and the rest."""
    commands, begin = [], 0
    while (end := _end_of_command(sent, begin)) is not None:
        commands.append(sent[begin:end])
        begin = end
    return commands, sent[begin:]


def _end_of_command(sent: bytes, begin: int) -> int | None:
    """Return the end of a command such as ``*2 $4 INCR $1 k``, with CRLF after each part."""
    position = sent.find(b"\r\n", begin)
    if position < 0:
        return None
    for _ in range(int(sent[begin + 1 : position])):
        begin, position = position + 2, sent.find(b"\r\n", position + 2)
        if position < 0:
            return None
        position += 2 + int(sent[begin + 1 : position])
    position += 2
    return position if position <= len(sent) else None


class CrashProxy:
    """A proxy that cuts one client off from a server for good, after a number of commands.

    The server still runs the last command, but its reply is dropped.

    Args:
        target: the server.
        commands: number of commands to forward; None for no limit.
    """

    def __init__(self, target: Address, commands: int | None) -> None:
        self._target = target
        self._limit = commands
        #: names of the forwarded commands
        self.commands: list[str] = []
        self.closed = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    @property
    def url(self) -> str:
        """Return its URL."""
        assert self._server is not None
        return node_url(self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        """Close all connections, stop listening and wait for them."""
        assert self._server is not None
        self.end()
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def end(self) -> None:
        """Close all connections, and new ones at once.

        It goes on to listen: asyncio never closes a connection that arrives while its server stops.
        """
        self.closed.set()
        # Commands that were written before still reach the server.
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed.is_set():
            writer.close()
            return
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        self._writers.add(writer)
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection(*self._target)
            self._writers.add(to_server)
            back = asyncio.ensure_future(self._forward_replies(from_server, writer))
            try:
                await self._forward_commands(reader, to_server)
            finally:
                to_server.close()
                writer.close()
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)

    async def _forward_commands(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        rest = b""
        while not self.closed.is_set() and (chunk := await source.read(CHUNK)):
            commands, rest = split_commands(rest + chunk)
            for command in commands:
                if self.closed.is_set():
                    return
                target.write(command)
                self.commands.append(command.split(b"\r\n")[2].decode())
                if len(self.commands) == self._limit:
                    self.end()

    async def _forward_replies(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while not self.closed.is_set() and (reply := await source.read(CHUNK)):
                if not self.closed.is_set():
                    target.write(reply)


class CrashProxies:
    """Proxies to a server, one for each simulated crash of a test.

    Args:
        topology: a single server.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._loop = asyncio.new_event_loop()
        self._proxies: list[CrashProxy] = []

    def start(self, commands: int | None) -> tuple[CrashProxy, Topology]:
        """Start a proxy that closes after a number of commands.

        Return it, and the topology of a client that connects through it.
        """
        proxy = CrashProxy(self._topology.nodes[0], commands)
        self._proxies.append(proxy)
        self._run(proxy.start())
        return proxy, replace(self._topology, url=proxy.url)

    def close(self, proxy: CrashProxy) -> None:
        """Close a proxy now."""
        self._loop.call_soon_threadsafe(proxy.end)

    def _run(self, call: Any) -> None:
        asyncio.run_coroutine_threadsafe(call, self._loop).result(30)

    @contextmanager
    def running(self) -> Iterator["CrashProxies"]:
        """Run the proxies."""
        thread = threading.Thread(
            target=self._loop.run_forever, name=f"{THREAD_PREFIX}-crashes", daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            for proxy in self._proxies:
                self._run(proxy.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()
