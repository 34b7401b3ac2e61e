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
def tls_in_front_of(address: Address, ca_file: Path, *, mutual: bool = False) -> Iterator[int]:
    """Accept TLS connections, relay them to a server without TLS, and yield the port.

    Args:
        address: address of the server.
        ca_file: file to write the CA certificate to.
        mutual: whether to require the client certificate that `client_files` returns.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        write_client_files(authority, ca_file)

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


def write_client_files(authority: trustme.CA, ca_file: Path) -> None:
    """Write a client certificate and its key beside the CA certificate; see `client_files`."""
    client = authority.issue_cert("client@example.org")
    certificate, key = client_files(ca_file)
    client.cert_chain_pems[0].write_to_path(certificate)
    client.private_key_pem.write_to_path(key)


def client_files(ca_file: Path) -> tuple[str, str]:
    """Return the paths of the client certificate and of its key."""
    return str(ca_file.with_name("client.pem")), str(ca_file.with_name("client.key"))


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
