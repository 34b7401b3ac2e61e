"""Where results and progress are kept, under keys that have the task's id in them."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends import progress_tracker
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._async.batcher import refusal_of
from taskiq_redis._async.connection import RETRY_TIMEOUT, connect
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.pipelines import Command, CommandBatcher, ScriptCall
from taskiq_redis._async.result_waiters import ResultListener, Waiter
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.keys import progress_key, result_key
from taskiq_redis._core.options import ResultOptions
from taskiq_redis._core.redis_errors import is_about_the_key
from taskiq_redis._core.wire import (
    PlainPickleSerializer,
    decode_progress,
    decode_result,
    encode_progress,
    encode_result,
    error_result,
)
from taskiq_redis.exceptions import (
    CommandRefusedError,
    ResultEncodeError,
    ResultIsMissingError,
    ServerUnavailableError,
    TaskIQRedisError,
    ValueTooLargeError,
)

ReturnType = TypeVar("ReturnType")

STORE = lua.load("store")

#: s; how long storing a result is tried. taskiq acknowledges the task even if that fails.
STORE_RETRY_TIMEOUT = 60.0

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
        self.keep_results: bool = options.keep_results
        self.result_ex_time: int | None = options.result_ex_time
        self.result_px_time: int | None = options.result_px_time
        self.prefix_str: str | None = options.prefix_str
        # Those of one event loop each.
        self._reads = LoopLocal(lambda: CommandBatcher(self.connection))
        self._writes = LoopLocal(lambda: CommandBatcher(self.connection, linger=True))
        self._listener = LoopLocal(
            lambda: ResultListener(self.connection),
            ResultListener.stop,
            ResultListener.drop_connections,
        )
        self._scripts_refused = False

    def __repr__(self) -> str:
        prefix = f" prefix {self.prefix_str!r}" if self.prefix_str else ""
        return f"<{type(self).__name__}{prefix} on {self.connection.server}>"

    async def startup(self) -> None:
        """Connect, to find out early what is wrong; nothing needs it.

        Raises:
            CommandRefusedError: Redis lets nobody in with this password.
        """
        await super().startup()
        await self.connection.check()

    async def shutdown(self) -> None:
        """Close the connections; using the backend again opens new ones."""
        listener = self._listener.pop()
        if listener is not None:
            await listener.stop()
        await self.connection.close()
        await super().shutdown()

    def _task_name(self, task_id: str) -> str:
        """Name the key of a result."""
        return result_key(task_id, self.prefix_str)

    async def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Store a result, and tell who waits for it (EVALSHA of SET and PUBLISH).

        It is tried for a minute while Redis can't be reached. What is stored at the same time
        shares round trips.

        What can't be serialized, or is too long, is stored as an error result that says so.

        Args:
            task_id: id of the task.
            result: what it returned or raised.

        Raises:
            WrongKeyTypeError: the key holds something else, which stays.
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis doesn't take it.
        """
        key = self._task_name(task_id)
        try:
            await self._publish(key, encode_result(self.serializer, task_id, result))
        except (ResultEncodeError, ValueTooLargeError) as error:
            logger.exception("The result of task %s is stored as an error.", task_id)
            data = encode_result(self.serializer, task_id, error_result(result, error))
            await self._publish(key, data)

    async def is_result_ready(self, task_id: str) -> bool:
        """Tell whether a result is there (EXISTS).

        Args:
            task_id: id of the task.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._task_name(task_id)
        return bool(await self._read_by("EXISTS", key))

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
        for task_id, raw in (await self._read_all(task_ids, RETRY_TIMEOUT)).items():
            if raw is not None:
                results[task_id] = self._decode(task_id, raw, with_logs)
        # Not before all are read: an error would leave the caller with nothing, and Redis too.
        await self._forget(results)
        return results

    async def wait_result(
        self, task_id: str, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until a result is there, and read it (SUBSCRIBE, GET).

        The worker tells when it is there. Whatever is waited for at the same time shares one
        connection.

        Args:
            task_id: id of the task.
            timeout: s; how long to wait at most. Default -1: for ever.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            TaskiqResultTimeoutError: it isn't there in time.
            ResultDecodeError: the value isn't a result.
            ServerUnavailableError: Redis can't be reached.
        """
        results = await self.wait_results([task_id], timeout, with_logs)
        return results[task_id]

    async def wait_results(
        self, task_ids: Sequence[str], timeout: float = -1.0, with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Wait until results are there, and read them, in the order in which they came.

        Args:
            task_ids: ids of the tasks.
            timeout: s; how long to wait for all of them. Default -1: for ever.
            with_logs: whether to return the logs that the workers collected. Default False.

        Raises:
            TaskiqResultTimeoutError: they aren't all there in time; those that are, are not
                deleted, also without `keep_results`.
            ResultDecodeError: a value isn't a result.
            ServerUnavailableError: Redis can't be reached.
        """
        deadline = time.monotonic() + timeout if timeout > 0 else float("inf")
        results: dict[str, TaskiqResult[ReturnType]] = {}
        missing = {self._task_name(task_id): task_id for task_id in task_ids}
        await self._take(missing, tuple(missing), results, with_logs, deadline)
        if missing:
            await self._wait_for(missing, results, with_logs, deadline)
            # Whether there is something of which nobody has told.
            await self._take(missing, tuple(missing), results, with_logs, deadline)
            if missing:
                raise TaskiqResultTimeoutError(timeout=timeout)
        await self._forget(results)
        return results

    async def _wait_for(
        self,
        missing: dict[str, str],
        results: dict[str, TaskiqResult[ReturnType]],
        with_logs: bool,
        deadline: float,
    ) -> None:
        """Move to the results what arrives of what is missing, until it is time to give up."""
        listener, arrival, keys = self._listener.get(), Waiter(), tuple(missing)
        try:
            await listener.expect(keys, arrival)
            look_at = time.monotonic() + listener.interval
            while missing and (now := time.monotonic()) < deadline:
                if now < look_at:
                    news = await arrival.wait(min(deadline, look_at) - now)
                else:
                    # Rights to listen may have come meanwhile.
                    listener.start()
                    news = set() if listener.listens else set(missing)
                    look_at = time.monotonic() + listener.interval
                await self._take(missing, news, results, with_logs, deadline)
                listener.forget([key for key in news if key not in missing], arrival)
        finally:
            listener.forget(keys, arrival)

    async def _take(
        self,
        missing: dict[str, str],
        keys: Iterable[str],
        results: dict[str, TaskiqResult[ReturnType]],
        with_logs: bool,
        deadline: float,
    ) -> None:
        """Move to the results what is there of what is missing."""
        task_ids = [missing[key] for key in keys if key in missing]
        retry_timeout = max(0.0, min(STORE_RETRY_TIMEOUT, deadline - time.monotonic()))
        try:
            found = await self._read_all(task_ids, retry_timeout)
        except ServerUnavailableError:
            if retry_timeout == 0 or time.monotonic() < deadline:
                raise
            # The round trip of others has taken until now: the last look tells.
            return
        for task_id, raw in found.items():
            if raw is not None:
                results[task_id] = self._decode(task_id, raw, with_logs)
                del missing[self._task_name(task_id)]

    async def _read(self, task_id: str, with_logs: bool) -> TaskiqResult[ReturnType]:
        key = self._task_name(task_id)
        raw = await self._read_by("GET", key)
        if raw is None:
            raise ResultIsMissingError(key=key)
        return self._decode(task_id, raw, with_logs)

    async def _read_all(self, task_ids: Sequence[str], retry_timeout: float) -> dict[str, Any]:
        """Read what is stored, in as few round trips as there are hundreds (GET).

        Who has no patience can't wait for the round trip of others to end, and so shares none.
        """
        keys = map(self._task_name, task_ids)
        commands = [Command(key, ("GET", key), retry_timeout=retry_timeout) for key in keys]
        if len(commands) == 1 and retry_timeout > 0:
            await self._reads.get().run(commands[0])
        else:
            await self._reads.get().run_all(commands)
        return {task_id: command.reply for task_id, command in zip(task_ids, commands, strict=True)}

    def _decode(self, task_id: str, raw: bytes, with_logs: bool) -> TaskiqResult[ReturnType]:
        result: TaskiqResult[ReturnType] = decode_result(
            self.serializer, self._task_name(task_id), raw
        )
        if not with_logs:
            result.log = None
        return result

    async def _read_by(self, name: str, key: str) -> Any:
        return await self._reads.get().run(Command(key, (name, key), retry_timeout=RETRY_TIMEOUT))

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
        await self._read_by("UNLINK", key)

    async def set_progress(
        self, task_id: str, progress: progress_tracker.TaskProgress[Any]
    ) -> None:
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

    async def get_progress(self, task_id: str) -> progress_tracker.TaskProgress[Any] | None:
        """Read a progress (GET), or None if there is none.

        Args:
            task_id: id of the task.

        Raises:
            ResultDecodeError: the value isn't a progress.
            WrongKeyTypeError: the key holds something else.
            ServerUnavailableError: Redis can't be reached.
        """
        key = progress_key(self._task_name(task_id))
        raw = await self._read_by("GET", key)
        return None if raw is None else decode_progress(self.serializer, key, raw)

    def _expiry(self) -> tuple[str | int, ...]:
        if self.result_ex_time is not None:
            return "EX", self.result_ex_time
        return () if self.result_px_time is None else ("PX", self.result_px_time)

    async def _publish(self, key: str, data: bytes) -> None:
        """Store a result, and tell who waits for it, if this user may run scripts."""
        if self._scripts_refused:
            await self._store(key, data)
            return
        args = (data, *self._expiry())
        call = ScriptCall(STORE, key, args, retry_timeout=STORE_RETRY_TIMEOUT, size=len(data))
        refusal = await refusal_of(lambda: self._writes.get().run(call))
        if refusal is not None:
            await self._store(key, data)
            if not is_about_the_key(refusal):
                self._stop_scripts(refusal)

    async def _store(self, key: str, data: bytes) -> None:
        # With GET, it fails where there is a queue, say, instead of overwriting it.
        words = ("SET", key, data, *self._expiry(), "GET")
        command = Command(key, words, retry_timeout=STORE_RETRY_TIMEOUT, size=len(data))
        await self._writes.get().run(command)

    def _stop_scripts(self, refusal: CommandRefusedError) -> None:
        refused_before, self._scripts_refused = self._scripts_refused, True
        if not refused_before:
            logger.warning(
                "Whoever waits for a result looks for it again and again, as the script that tells "
                "them is refused: %s To change that, give this user the right to EVAL, EVALSHA and "
                "PUBLISH, and to all channels.",
                refusal,
            )


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
