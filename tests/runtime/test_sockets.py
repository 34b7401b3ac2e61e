"""How long a socket has been silent."""

import asyncio
import socket
import sys
from math import inf
from typing import Any

import anyio
import pytest

from taskiq_redis._drivers.sockets import silence_of
from tests.servers import HOST
from tests.waiting import wait_until


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_silence_ends_when_data_is_received() -> None:
    with socket.create_server((HOST, 0)) as server:
        with socket.create_connection(server.getsockname()) as sock, server.accept()[0] as other:
            wait_until(lambda: 0.05 < silence_of(sock) < inf)
            silent_for = silence_of(sock)
            other.send(b"1")
            wait_until(lambda: silence_of(sock) < silent_for or silence_of(sock) == inf)


def test_silence_of_other_sockets_is_unknown() -> None:
    first, second = socket.socketpair()
    with first, second:
        assert silence_of(first) == inf
    assert silence_of(first) == inf
    assert silence_of(None) == inf


def test_silence_of_closed_transport_is_unknown(asyncio_backend: Any) -> None:
    async def check() -> None:
        with socket.create_server((HOST, 0)) as server:
            _, writer = await asyncio.open_connection(*server.getsockname())
            sock = writer.get_extra_info("socket")
            writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert silence_of(sock) == inf

    backend, options = asyncio_backend
    anyio.run(check, backend=backend, backend_options=options)
