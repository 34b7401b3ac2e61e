"""Free ports for servers, held until the servers take them."""

import random
import socket
import sys
import threading
from contextlib import ExitStack

from tests.servers.topologies import HOST, ServerError

_LEASES: dict[int, list[socket.socket]] = {}
_LEASES_LOCK = threading.Lock()


def lease_port() -> int:
    """Lease a free port whose cluster bus port (10000 above, as Redis 6.2 fixes it) is free as well.

    Both lie below the range from which the system serves outgoing connections, so that no client
    can take the port of a server that is down for a moment, not even by connecting to itself.
    """
    for _ in range(1000):
        port = random.randrange(10_000, 20_000)
        with _LEASES_LOCK:
            if port not in _LEASES and (held := _hold(port, port + 10_000)) is not None:
                _LEASES[port] = held
                return port
    msg = "no free port between 10000 and 20000"
    raise ServerError(msg)


def release_port(port: int) -> None:
    """Give a leased port back; do nothing for other ports."""
    with _LEASES_LOCK:
        for sock in _LEASES.pop(port, ()):
            sock.close()


def _hold(*ports: int) -> list[socket.socket] | None:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in ports]
        try:
            for sock, port in zip(held, ports, strict=True):
                sock.bind((HOST, port))
        except OSError:
            return None
        if not sys.platform.startswith("linux"):
            return []
        # On Linux a bound socket that does not listen keeps other test processes away, which bind
        # without SO_REUSEADDR, and lets the server in, which binds with it: both sides need it.
        for sock in held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stack.pop_all()
        return held
