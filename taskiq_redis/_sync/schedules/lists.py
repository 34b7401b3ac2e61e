# Generated from taskiq_redis/_async/schedules/lists.py by scripts/unasync.py; edit that.

"""The public schedule sources with an index."""

from datetime import datetime
from typing import Any

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.keys import minute_of
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.plain_pickles import MAX_SIZE
from taskiq_redis._sync.schedules.indexed import IndexedSource
from taskiq_redis._sync.topologies import OnCluster, OnSentinel, OnSingleNode


def _renamed(name: str) -> Any:
    """Return a property for an attribute that had another name in 1.2.4.

    Args:
        name: current name of the attribute.
    """

    def get(source: object) -> Any:
        return getattr(source, name)

    def set_(source: object, value: Any) -> None:
        setattr(source, name, value)

    return property(get, set_)


class SyncListRedisScheduleSource(OnSingleNode, IndexedSource):
    """Keeps schedules indexed by when they are due, on one Redis server.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        max_value_size: bytes; longer schedules are neither stored nor read; None for no
            limit. Default 100,000,000.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "schedule",
        max_connection_pool_size: int | None = None,
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        max_value_size: int | None = MAX_SIZE,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
                max_value_size=max_value_size,
            ),
        )

    # Names of 1.2.4, which subclasses may use.
    _connection_pool = _renamed("connection_pool")
    _prefix = _renamed("prefix")
    _serializer = _renamed("serializer")
    _buffer_size = _renamed("buffer_size")
    _skip_past_schedules = _renamed("skip_past_schedules")

    def _get_cron_key(self) -> str:
        return self._keys.cron

    def _get_interval_key(self) -> str:
        return self._keys.interval

    def _get_time_key(self, time: datetime) -> str:
        return self._keys.minute(minute_of(time))

    def _get_data_key(self, schedule_id: str) -> str:
        return self._keys.data(schedule_id)


class SyncListRedisClusterScheduleSource(OnCluster, IndexedSource):
    """Keeps schedules indexed by when they are due, in one hash slot of a Redis Cluster.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        prefix: prefix of all keys, followed by a colon. Its hash tag in braces chooses the hash
            slot. Default ``{schedule}``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        max_value_size: bytes; longer schedules are neither stored nor read; None for no
            limit. Default 100,000,000.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid, such as a prefix without braces.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "{schedule}",
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        max_value_size: int | None = MAX_SIZE,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, connection_kwargs=connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
                max_value_size=max_value_size,
            ),
        )


class SyncListRedisSentinelScheduleSource(OnSentinel, IndexedSource):
    """Keeps schedules indexed by when they are due, on a master that sentinels monitor.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        buffer_size: maximum number of keys per MGET. Default 50.
        skip_past_schedules: whether one-off schedules that were due before the minute of the first
            read are skipped, instead of being run late. Default False.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        max_value_size: bytes; longer schedules are neither stored nor read; None for no
            limit. Default 100,000,000.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        prefix: str = "schedule",
        serializer: TaskiqSerializer | None = None,
        buffer_size: int = 50,
        skip_past_schedules: bool = False,
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        max_value_size: int | None = MAX_SIZE,
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
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=skip_past_schedules,
                max_value_size=max_value_size,
            ),
        )
