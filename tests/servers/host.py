"""The servers that all workers of pytest-xdist share; the controller owns them."""

import contextlib
import secrets
import shutil
import tempfile
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

from tests.servers.processes import THREAD_PREFIX
from tests.servers.shared import Servers, topology_from
from tests.servers.topologies import Kind, ServerError, Topology


class ServerHost:
    """Owns the shared servers in the controller of a distributed run, and serves its workers."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="taskiq-redis-")
        self._authkey = secrets.token_bytes(16)
        self._listener = Listener(f"{self._directory}/s", "AF_UNIX", 16, authkey=self._authkey)
        self._thread = threading.Thread(
            target=self._serve, name=f"{THREAD_PREFIX}-host", daemon=True
        )
        self._thread.start()

    @property
    def ticket(self) -> tuple[str, bytes]:
        """The address and the key by which a worker asks for servers."""
        return f"{self._directory}/s", self._authkey

    def _serve(self) -> None:
        # One request at a time: the second worker that wants a topology finds it running.
        with contextlib.closing(Servers()) as servers:
            while self._serve_one(servers):
                pass

    def _serve_one(self, servers: Servers) -> bool:
        # A worker that dies during its request must not stop the host.
        with (
            contextlib.suppress(OSError, EOFError, AuthenticationError),
            self._listener.accept() as connection,
        ):
            kind = connection.recv()
            if kind is None:
                return False
            connection.send(servers.answer(kind))
        return True

    def close(self) -> None:
        """End all topologies and the thread."""
        with Client(self.ticket[0], "AF_UNIX", authkey=self._authkey) as connection:
            connection.send(None)
        self._thread.join()
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class RemoteServers:
    """The shared servers, seen from a worker of a distributed run."""

    def __init__(self, address: str, authkey: bytes) -> None:
        self._address, self._authkey = address, authkey
        self._answers: dict[Kind, Topology | ServerError] = {}

    def topology(self, kind: Kind) -> Topology:
        """Return the running topology of this kind."""
        if kind not in self._answers:
            with Client(self._address, "AF_UNIX", authkey=self._authkey) as connection:
                connection.send(kind)
                self._answers[kind] = connection.recv()
        return topology_from(self._answers[kind])

    def close(self) -> None:
        """Nothing to do: the controller owns the servers."""
