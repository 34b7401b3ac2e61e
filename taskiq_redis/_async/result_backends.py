"""The public result backends."""

from collections.abc import Sequence
from typing import Any

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis._async.results import ResultBackend, ReturnType
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.options import ResultOptions
from taskiq_redis._core.plain_pickles import MAX_SIZE


class RedisAsyncResultBackend(OnSingleNode, ResultBackend[ReturnType]):
    """Keeps results on one Redis server.

    Args:
        redis_url: address of the server, such as ``redis://localhost:6379/0``.
        keep_results: whether a result is kept when it has been read. Default True.
        result_ex_time: s; how long results and progress are kept. Default forever.
        result_px_time: ms; the same. At most one of the two can be given.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        prefix_str: prefix of all keys, followed by a colon. Default none.
        store_tracebacks: whether the worker's traceback of a failed task is stored, for
            ``get_result(with_logs=True).log``. Default False.
        max_value_size: bytes; longer results and progress are neither stored nor read; None for no
            limit. Default 100,000,000.
        allowed_exceptions: classes of exceptions that a result may raise, with their subclasses.
            Others become a `RefusedExceptionError`. Default Exception.
        read_timeout: s; how long reading is retried while Redis can't be reached. Default 10.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are set.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option is invalid.
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
        store_tracebacks: bool = False,
        max_value_size: int | None = MAX_SIZE,
        allowed_exceptions: Sequence[type[BaseException]] = (Exception,),
        read_timeout: float = 10,
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
                store_tracebacks=store_tracebacks,
                max_value_size=max_value_size,
                allowed_exceptions=allowed_exceptions,
                read_timeout=read_timeout,
            ),
        )


class RedisAsyncClusterResultBackend(OnCluster, ResultBackend[ReturnType]):
    """Keeps results on a Redis Cluster.

    Args:
        redis_url: address of any node, such as ``redis://localhost:7000``.
        keep_results: whether a result is kept when it has been read. Default True.
        result_ex_time: s; how long results and progress are kept. Default forever.
        result_px_time: ms; the same. At most one of the two can be given.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        prefix_str: prefix of all keys, followed by a colon. Default none.
        store_tracebacks: whether the worker's traceback of a failed task is stored, for
            ``get_result(with_logs=True).log``. Default False.
        max_value_size: bytes; longer results and progress are neither stored nor read; None for no
            limit. Default 100,000,000.
        allowed_exceptions: classes of exceptions that a result may raise, with their subclasses.
            Others become a `RefusedExceptionError`. Default Exception.
        read_timeout: s; how long reading is retried while Redis can't be reached. Default 10.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are set.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option is invalid.
    """

    def __init__(
        self,
        redis_url: str,
        keep_results: bool = True,
        result_ex_time: int | None = None,
        result_px_time: int | None = None,
        serializer: TaskiqSerializer | None = None,
        prefix_str: str | None = None,
        store_tracebacks: bool = False,
        max_value_size: int | None = MAX_SIZE,
        allowed_exceptions: Sequence[type[BaseException]] = (Exception,),
        read_timeout: float = 10,
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
                store_tracebacks=store_tracebacks,
                max_value_size=max_value_size,
                allowed_exceptions=allowed_exceptions,
                read_timeout=read_timeout,
            ),
        )


class RedisAsyncSentinelResultBackend(OnSentinel, ResultBackend[ReturnType]):
    """Keeps results on a master that sentinels monitor.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        keep_results: whether a result is kept when it has been read. Default True.
        result_ex_time: s; how long results and progress are kept. Default forever.
        result_px_time: ms; the same. At most one of the two can be given.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        prefix_str: prefix of all keys, followed by a colon. Default none.
        store_tracebacks: whether the worker's traceback of a failed task is stored, for
            ``get_result(with_logs=True).log``. Default False.
        max_value_size: bytes; longer results and progress are neither stored nor read; None for no
            limit. Default 100,000,000.
        allowed_exceptions: classes of exceptions that a result may raise, with their subclasses.
            Others become a `RefusedExceptionError`. Default Exception.
        read_timeout: s; how long reading is retried while Redis can't be reached. Default 10.
        connection_kwargs: connection options for the master.

    Raises:
        DuplicateExpireTimeSelectedError: both expiry times are set.
        ExpireTimeMustBeMoreThanZeroError: an expiry time is zero or negative.
        InvalidOptionError: another option is invalid.
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
        store_tracebacks: bool = False,
        max_value_size: int | None = MAX_SIZE,
        allowed_exceptions: Sequence[type[BaseException]] = (Exception,),
        read_timeout: float = 10,
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
                store_tracebacks=store_tracebacks,
                max_value_size=max_value_size,
                allowed_exceptions=allowed_exceptions,
                read_timeout=read_timeout,
            ),
        )
