"""Brokers on lists: LPUSH adds a message, and BRPOP removes it, without acknowledgements."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import RedisCluster
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers.base import (
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
)
from taskiq_redis._async.brokers.delays import Promoter
from taskiq_redis._async.brokers.producer import QueueBroker
from taskiq_redis._async.brokers.records import Tracking
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.wire import as_bytes
from taskiq_redis._drivers.aio import disconnect, initialize
from taskiq_redis._runtime.aio import run_shielded

T = TypeVar("T")

#: s; how long one BRPOP waits; short, as a clean stop waits for it to end
POP_WAIT = 1.0


class ListReader(Reader[Message]):
    """Pops messages from the right end of a list.

    Args:
        connection: where the list is.
        queue_name: Redis key of the list.
        client: client for this reader only, as BRPOP blocks it.
        promoter: moves due messages into the list.
        block: s; how long one BRPOP waits.
        accept: returns a message without its signature; None if it is dropped.
    """

    def __init__(
        self,
        connection: Connection,
        queue_name: str,
        client: Client,
        promoter: Promoter,
        block: float,
        accept: Callable[[bytes], bytes | None],
    ) -> None:
        self._connection = connection
        self._queue_name = queue_name
        self._client = client
        self._promoter = promoter
        self._block = block
        self._accept = accept

    async def fetch(self) -> list[Message]:
        """Pop one message (BRPOP); if the caller was cancelled, put it back (RPUSH)."""
        popped = await run_shielded(self._pop, self._put_back)
        accepted = map(self._accept, popped)
        return [message for message in accepted if message is not None]

    async def _pop(self) -> list[bytes]:
        if isinstance(self._client, RedisCluster):
            await initialize(self._client)
        await self._promoter.promote(self._client)
        # 0 would block forever.
        block = max(0.01, min(self._block, self._promoter.time_left()))
        popped = await self._client.brpop([self._queue_name], timeout=block)
        return [as_bytes(popped[1])] if popped else []

    async def _put_back(self, popped: list[bytes]) -> None:
        if popped:
            await self._connection.call(
                lambda client: client.rpush(self._queue_name, *popped),
                key=self._queue_name,
                repeatable=False,
            )

    async def close(self) -> None:
        """Close the client."""
        await disconnect(self._client)


class ListBroker(QueueBroker):
    """A broker that keeps its queue in a list, without acknowledgements.

    A message is lost when its worker dies.
    """

    def _add_command(self) -> tuple[str | int, ...]:
        return ("LPUSH",)

    async def _open_reader(self) -> Reader[Message]:
        """Make the reader of the list (BRPOP)."""
        block = self._connection.block_time(POP_WAIT)
        client = self._connection.make_client(block)
        name = self.queue_name
        promoter = Promoter(self._connection, name, self._add_command, Tracking(self._tracks))
        accept = partial(self._accept, name)
        return ListReader(self._connection, name, client, promoter, block, accept)


class ListQueueBroker(ListBroker, BaseRedisBroker):
    """Keeps the queue in a list on one Redis server, without acknowledgements.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        result_backend: stores results, as for `with_result_backend`. Default none.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: AsyncResultBackend[T] | None = None,
        queue_name: str = "taskiq",
        max_connection_pool_size: int | None = None,
        kick_timeout: float = 10,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
            task_id_generator,
            result_backend,
        )


class ListQueueClusterBroker(ListBroker, BaseRedisClusterBroker):
    """Keeps the queue in a list on a Redis Cluster, without acknowledgements.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections per node. Default unlimited, but at
            most 50 commands are executed at a time.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int = 2**31,
        kick_timeout: float = 10,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
        )


class ListQueueSentinelBroker(ListBroker, BaseSentinelBroker):
    """Keeps the queue in a list on a master that sentinels monitor, without acknowledgements.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        result_backend: stores results, as for `with_result_backend`. Default none.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        queue_name: key of the list. Default ``taskiq``.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        result_backend: AsyncResultBackend[T] | None = None,
        task_id_generator: Callable[[], str] | None = None,
        queue_name: str = "taskiq",
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
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
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
            task_id_generator,
            result_backend,
        )
