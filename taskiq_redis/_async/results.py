"""Where results and progress are kept, under keys that have the task's id in them."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis._async.connection import Client, connect
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core.keys import progress_key, result_key
from taskiq_redis._core.options import ResultOptions
from taskiq_redis._core.servers import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.wire import (
    PlainPickleSerializer,
    decode_progress,
    decode_result,
    encode_progress,
    encode_result,
    error_result,
)
from taskiq_redis.exceptions import (
    ResultEncodeError,
    ResultIsMissingError,
    TaskIQRedisError,
    ValueTooLargeError,
)

ReturnType = TypeVar("ReturnType")

#: s; how long storing a result is tried. taskiq acknowledges the task even if that fails.
STORE_PATIENCE = 60.0

logger = logging.getLogger("taskiq_redis")


class ResultBackend(AsyncResultBackend[ReturnType]):
    """A result backend on Redis.

    Args:
        server: where Redis is.
        options: see `ResultOptions`.
    """

    def __init__(self, server: Server, options: ResultOptions) -> None:
        self.connection = connect(server)
        self.serializer: TaskiqSerializer = options.serializer or PlainPickleSerializer()
        self.keep_results = options.keep_results
        self.result_ex_time = options.result_ex_time
        self.result_px_time = options.result_px_time
        self.prefix_str = options.prefix_str

    async def startup(self) -> None:
        """Connect, to find out early what is wrong; nothing needs it.

        Raises:
            CommandRefusedError: Redis lets nobody in with this password.
        """
        await super().startup()
        await self.connection.check()

    async def shutdown(self) -> None:
        """Close the connections; using the backend again opens new ones."""
        await self.connection.close()
        await super().shutdown()

    def _task_name(self, task_id: str) -> str:
        """Name the key of a result."""
        return result_key(task_id, self.prefix_str)

    async def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Store a result (SET); it is tried for a minute while Redis can't be reached.

        What can't be serialized, or is too long, is stored as an error result that says so.

        Args:
            task_id: id of the task.
            result: what it returned or raised.

        Raises:
            WrongKeyTypeError: the key holds something else, which stays.
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis doesn't take it.
        """
        try:
            data = encode_result(self.serializer, task_id, result)
            await self._store(self._task_name(task_id), data)
        except (ResultEncodeError, ValueTooLargeError) as error:
            logger.exception("The result of task %s is stored as an error.", task_id)
            data = encode_result(self.serializer, task_id, error_result(result, error))
            await self._store(self._task_name(task_id), data)

    async def is_result_ready(self, task_id: str) -> bool:
        """Tell whether a result is there (EXISTS).

        Args:
            task_id: id of the task.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._task_name(task_id)
        return bool(await self.connection.call(lambda client: client.exists(key), key=key))

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Read a result (GET); without `keep_results`, then delete it and its progress (UNLINK).

        Whoever is interrupted while it is deleted may leave no result, though nobody got it.

        Args:
            task_id: id of the task.
            with_logs: whether to return the log that the worker collected.

        Raises:
            ResultIsMissingError: there is no result.
            ResultDecodeError: the value isn't a result; it is left where it is.
            WrongKeyTypeError: the key holds something else.
            ServerUnavailableError: Redis can't be reached.
        """
        result = await self._read(task_id, with_logs)
        await self._forget([task_id])
        return result

    async def get_results(
        self, task_ids: Sequence[str], with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Read the results that are there; the others are left out.

        Without `keep_results`, they are deleted when all are read.

        Args:
            task_ids: ids of the tasks.
            with_logs: whether to return the logs that the workers collected.

        Raises:
            ResultDecodeError: a value isn't a result.
            ServerUnavailableError: Redis can't be reached.
        """
        results: dict[str, TaskiqResult[ReturnType]] = {}
        for task_id in task_ids:
            try:
                results[task_id] = await self._read(task_id, with_logs)
            except ResultIsMissingError:
                continue
        # Not before all are read: an error would leave the caller with nothing, and Redis too.
        await self._forget(results)
        return results

    async def _read(self, task_id: str, with_logs: bool) -> TaskiqResult[ReturnType]:
        key = self._task_name(task_id)
        raw = await self.connection.call(lambda client: client.get(key), key=key)
        if raw is None:
            raise ResultIsMissingError(key=key)
        result: TaskiqResult[ReturnType] = decode_result(self.serializer, key, raw)
        if not with_logs:
            result.log = None
        return result

    async def _forget(self, task_ids: Iterable[str]) -> None:
        """Delete what was read, unless results are kept."""
        if self.keep_results:
            return
        try:
            for task_id in task_ids:
                await self.delete_result(task_id)
        except TaskIQRedisError:
            # No error for the caller, who would lose what was read: it may be deleted by now.
            logger.exception("Results that were read could not be deleted.")

    async def delete_result(self, task_id: str) -> None:
        """Delete a result and its progress (UNLINK).

        Args:
            task_id: id of the task.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._task_name(task_id)
        # The result goes last: whoever is cancelled between the two can read and delete it again.
        await self._unlink(progress_key(key))
        await self._unlink(key)

    async def _unlink(self, key: str) -> None:
        await self.connection.call(lambda client: client.unlink(key), key=key)

    async def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        """Store a progress (SET), as long as results are kept.

        Args:
            task_id: id of the task.
            progress: how far it is.

        Raises:
            ResultEncodeError: it can't be serialized.
            ValueTooLargeError: it has more bytes than the server takes.
            WrongKeyTypeError: the key holds something else, which stays.
            ServerUnavailableError: Redis can't be reached.
        """
        data = encode_progress(self.serializer, task_id, progress)
        await self._store(progress_key(self._task_name(task_id)), data)

    async def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        """Read a progress (GET), or None if there is none.

        Args:
            task_id: id of the task.

        Raises:
            ResultDecodeError: the value isn't a progress.
            WrongKeyTypeError: the key holds something else.
            ServerUnavailableError: Redis can't be reached.
        """
        key = progress_key(self._task_name(task_id))
        raw = await self.connection.call(lambda client: client.get(key), key=key)
        return None if raw is None else decode_progress(self.serializer, key, raw)

    async def _store(self, key: str, data: bytes) -> None:
        async def store(client: Client) -> None:
            # With GET, it fails where there is a queue, say, instead of overwriting it.
            await client.set(key, data, ex=self.result_ex_time, px=self.result_px_time, get=True)

        await self.connection.call(store, key=key, size=len(data), patience=STORE_PATIENCE)


class RedisAsyncResultBackend(OnSingleNode, ResultBackend[ReturnType]):
    """Keeps results on one Redis server.

    Args:
        redis_url: address of the server, such as ``redis://localhost:6379/0``.
        keep_results: whether a result stays once it was read. Default True.
        result_ex_time: s; how long results are kept. Default for ever.
        result_px_time: the same in ms; give one of the two.
        max_connection_pool_size: most connections for commands at a time. Default 50.
        serializer: default pickle of plain values, read without running code.
        prefix_str: keys begin with it and a colon. Default none.
        connection_kwargs: go to redis-py's BlockingConnectionPool.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are given.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option can't work.
    """

    def __init__(
        self,
        redis_url: str,
        keep_results: bool = True,
        result_ex_time: int | None = None,
        result_px_time: int | None = None,
        max_connection_pool_size: int | None = None,
        serializer: TaskiqSerializer | None = None,
        prefix_str: str | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(redis_url, max_connection_pool_size, connection_kwargs),
            ResultOptions(
                keep_results=keep_results,
                result_ex_time=result_ex_time,
                result_px_time=result_px_time,
                serializer=serializer,
                prefix_str=prefix_str,
            ),
        )


class RedisAsyncClusterResultBackend(OnCluster, ResultBackend[ReturnType]):
    """Keeps results on a Redis Cluster.

    Args:
        redis_url: address of any node, such as ``redis://localhost:7000``.
        keep_results: whether a result stays once it was read. Default True.
        result_ex_time: s; how long results are kept. Default for ever.
        result_px_time: the same in ms; give one of the two.
        serializer: default pickle of plain values, read without running code.
        prefix_str: keys begin with it and a colon. Default none.
        connection_kwargs: go to redis-py's RedisCluster.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are given.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option can't work.
    """

    def __init__(
        self,
        redis_url: str,
        keep_results: bool = True,
        result_ex_time: int | None = None,
        result_px_time: int | None = None,
        serializer: TaskiqSerializer | None = None,
        prefix_str: str | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(redis_url, connection_kwargs=connection_kwargs),
            ResultOptions(
                keep_results=keep_results,
                result_ex_time=result_ex_time,
                result_px_time=result_px_time,
                serializer=serializer,
                prefix_str=prefix_str,
            ),
        )


class RedisAsyncSentinelResultBackend(OnSentinel, ResultBackend[ReturnType]):
    """Keeps results on the master that sentinels name.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        keep_results: whether a result stays once it was read. Default True.
        result_ex_time: s; how long results are kept. Default for ever.
        result_px_time: the same in ms; give one of the two.
        min_other_sentinels: a sentinel that sees fewer others isn't believed. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        serializer: default pickle of plain values, read without running code.
        prefix_str: keys begin with it and a colon. Default none.
        connection_kwargs: connection options for the master.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are given.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option can't work.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        keep_results: bool = True,
        result_ex_time: int | None = None,
        result_px_time: int | None = None,
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        serializer: TaskiqSerializer | None = None,
        prefix_str: str | None = None,
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
            ResultOptions(
                keep_results=keep_results,
                result_ex_time=result_ex_time,
                result_px_time=result_px_time,
                serializer=serializer,
                prefix_str=prefix_str,
            ),
        )
