"""TLS in front of a server that has none: not each server that the tests run on was built with it."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import trustme

from tests.servers import HOST, Address

#: s; only guards against a test that would hang
PATIENCE = 30


@contextlib.contextmanager
def tls_in_front_of(address: Address, ca_file: Path) -> Iterator[int]:
    """Serve what another address serves, by TLS only, with a certificate of a new authority.

    Args:
        address: the server behind it.
        ca_file: where the certificate of the authority goes.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    port: Future[int] = Future()
    stop: Future[None] = Future()
    relay = _serve(address, context, port, stop)
    thread = threading.Thread(target=lambda: asyncio.run(relay))
    thread.start()
    try:
        yield port.result(PATIENCE)
    finally:
        stop.set_result(None)
        thread.join()


async def _serve(
    address: Address, context: ssl.SSLContext, port: "Future[int]", stop: "Future[None]"
) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*address)
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))

    # Handshakes fail here on purpose, which is nothing to report.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = await asyncio.start_server(relay, HOST, 0, ssl=context)
    port.set_result(server.sockets[0].getsockname()[1])
    await asyncio.wrap_future(stop)
    server.close()


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            to.write(data)
            await to.drain()
    to.close()
