"""A TLS proxy, because not every server that the tests use is built with TLS."""

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
    """Accept TLS connections, relay them to a server without TLS, and yield the port.

    Args:
        address: address of the server.
        ca_file: file to write the CA certificate to.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            # A failed handshake just closes the connection.
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
    """Copy data in both directions until one side closes."""
    while True:
        # Data that is already decrypted doesn't make the socket readable.
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)
