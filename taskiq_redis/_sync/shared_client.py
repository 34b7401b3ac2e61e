# Generated from taskiq_redis/_async/shared_client.py by scripts/unasync.py; edit that.

"""Count the users of the client for commands, and close it once it is idle."""

from types import TracebackType

from redis import RedisCluster

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._drivers.blocking import disconnect, drop_connections, initialize
from taskiq_redis._runtime.blocking import Event, Semaphore, cancellable
from taskiq_redis._sync.clients import Client

#: s; how long closing waits for the commands in flight
CLOSE_TIMEOUT = 5.0


class SharedClient:
    """The client for commands, with a count of its users, so that it is closed when it is idle.

    Args:
        client: the client.
        size: maximum number of commands in flight.
    """

    def __init__(self, client: Client, size: int) -> None:
        self.client = client
        # Checked once: it takes a microsecond, since the class inherits from protocols of redis-py.
        self._cluster = client if isinstance(client, RedisCluster) else None
        #: the client that this one replaced, on which commands may still be in flight
        self.replaced: SharedClient | None = None
        self._semaphore = Semaphore(size)
        self._lock = ForkSafeLock()
        self._users = 0
        self._closing = False
        #: set when it is closing and has no users left
        self._idle = Event()

    def reserve(self) -> bool:
        """Count the caller as a user and return True, unless the client is closing.

        The caller then enters this context manager, whose exit ends its use.
        """
        with self._lock:
            if not self._closing:
                self._users += 1
            return not self._closing

    def __enter__(self) -> Client:
        try:
            if self._cluster is not None:
                cancellable(initialize, self._cluster)
            self._semaphore.acquire()
        except BaseException:
            self._release()
            raise
        return self.client

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._semaphore.release()
        finally:
            self._release()

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            idle = self._closing and self._users == 0
        if idle:
            self._idle.set()

    def close(self) -> None:
        """Refuse new users, wait a bounded time for commands in flight, and close the client."""
        try:
            if self.replaced is not None:
                self.replaced.close()
            with self._lock:
                self._closing = True
                busy = self._users > 0
            if busy:
                self._idle.wait(CLOSE_TIMEOUT)
        finally:
            disconnect(self.client)

    def drop(self) -> None:
        """Close its sockets at once, since its process or process has ended."""
        drop_connections(self.client)
        if self.replaced is not None:
            self.replaced.drop()
