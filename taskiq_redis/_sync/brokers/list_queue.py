# Generated from taskiq_redis/_async/brokers/list_queue.py by scripts/unasync.py; edit that.

"""Tasks in a list: pushed from the left, popped from the right, gone once they are popped."""

from collections.abc import Callable
from typing import Any, TypeVar

from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.wire import as_bytes
from taskiq_redis._drivers.blocking import disconnect
from taskiq_redis._runtime.blocking import run_shielded
from taskiq_redis._sync.brokers.base import (
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
)
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis._sync.brokers.producer import QueueBroker
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.result_backend import SyncResultBackend

T = TypeVar("T")

#: s; how long one BRPOP waits. Short, as a clean stop waits for the end of it.
POP_WAIT = 1.0


class ListReader(Reader[Message]):
    """Pops messages from the right end of a list.

    Args:
        connection: where the list is.
        queue_name: its key.
        client: a client of its own, as BRPOP blocks it.
        promoter: moves due messages into the list.
        block: s; how long one BRPOP waits.
    """

    def __init__(
        self,
        connection: Connection,
        queue_name: str,
        client: Client,
        promoter: Promoter,
        block: float,
    ) -> None:
        self._connection = connection
        self._queue_name = queue_name
        self._client = client
        self._promoter = promoter
        self._block = block

    def fetch(self) -> list[Message]:
        """Pop one message; if the caller is cancelled meanwhile, put it back."""
        return run_shielded(self._pop, self._put_back)

    def _pop(self) -> list[Message]:
        self._promoter.promote(self._client)
        # 0 would block for ever.
        block = max(0.01, min(self._block, self._promoter.time_left()))
        popped = self._client.brpop([self._queue_name], timeout=block)
        return [as_bytes(popped[1])] if popped else []

    def _put_back(self, messages: list[Message]) -> None:
        popped = [message for message in messages if isinstance(message, bytes)]
        if popped:
            self._connection.call(
                lambda client: client.rpush(self._queue_name, *popped),
                key=self._queue_name,
                repeatable=False,
            )

    def close(self) -> None:
        """Close the client."""
        disconnect(self._client)


class ListBroker(QueueBroker):
    """A broker that keeps its queue in a list.

    It has no acknowledgements: a task whose worker dies is lost.
    """

    def _add_command(self) -> tuple[str | int, ...]:
        return ("LPUSH",)

    def _open_reader(self) -> Reader[Message]:
        """Make the reader of the list (BRPOP)."""
        block = self._connection.block_time(POP_WAIT)
        client = self._connection.make_client(block)
        promoter = Promoter(self._connection, self.queue_name, self._add_command)
        return ListReader(self._connection, self.queue_name, client, promoter, block)


class SyncListQueueBroker(ListBroker, BaseRedisBroker):
    """Keeps the queue in a list on one Redis server; no acknowledgements.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: makes the ids of new tasks; better set by `with_id_generator`.
        result_backend: where results go; better set by `with_result_backend`.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: most connections for commands at a time. Default 50.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: go to redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        url: str,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
        queue_name: str = "taskiq",
        max_connection_pool_size: int | None = None,
        kick_timeout: float = 10,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
            task_id_generator,
            result_backend,
        )


class SyncListQueueClusterBroker(ListBroker, BaseRedisClusterBroker):
    """Keeps the queue in a list on a Redis Cluster; no acknowledgements.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: most connections per node. Default unbounded; at most 50 commands
            are under way at a time.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: go to redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int = 2**31,
        kick_timeout: float = 10,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
        )


class SyncListQueueSentinelBroker(ListBroker, BaseSentinelBroker):
    """Keeps the queue in a list on the master that sentinels name; no acknowledgements.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        result_backend: where results go; better set by `with_result_backend`.
        task_id_generator: makes the ids of new tasks; better set by `with_id_generator`.
        queue_name: key of the list. Default ``taskiq``.
        min_other_sentinels: a sentinel that sees fewer others isn't believed. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending waits while Redis is away. Default 10.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option can't work.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        result_backend: SyncResultBackend[T] | None = None,
        task_id_generator: Callable[[], str] | None = None,
        queue_name: str = "taskiq",
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SentinelMaster(
                sentinels,
                master_name,
                min_other_sentinels,
                sentinel_kwargs,
                connection_kwargs=connection_kwargs,
            ),
            QueueOptions(queue_name=queue_name, kick_timeout=kick_timeout),
            task_id_generator,
            result_backend,
        )
