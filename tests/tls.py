"""TLS in front of a server that has none: not each server that the tests run on was built with it."""

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import trustme

from tests.servers import HOST, Address


@contextmanager
def tls_in_front_of(address: Address, ca_file: Path) -> Iterator[int]:
    """Serve at a port what another address serves, by TLS only.

    Args:
        address: the server behind it.
        ca_file: where the certificate of the authority goes that signs the server's.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            # Who doesn't speak TLS, or doesn't trust the certificate, is just cut off.
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                with socket.create_connection(address) as server:
                    relay(client, server)

    with ThreadingTCPServer((HOST, 0), Handler) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield front.server_address[1]
        finally:
            front.shutdown()
            thread.join()


def relay(client: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on what comes from either side, until one of them ends."""
    while True:
        # What TLS has decrypted already doesn't make the socket readable.
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)
