# Generated from taskiq_redis/_async/schedules/key_per_schedule.py by scripts/unasync.py; edit that.

"""Schedule sources with one key per schedule, found by a SCAN of the whole database."""

from collections.abc import Iterator, Sequence
from typing import Any

from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.keys import ScheduleKeys, escape_glob
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.plain_pickles import MAX_SIZE
from taskiq_redis._core.wire import as_str
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.schedules.base import BaseScheduleSource
from taskiq_redis._sync.schedules.managed import Encoded, Raw
from taskiq_redis._sync.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis.exceptions import InvalidScheduleError, ScheduleDecodeError

#: number of keys per SCAN, and of schedules per page
PAGE = 1000

FORGET = lua.load("schedule_index", "forget_records")


class KeyPerSchedule(BaseScheduleSource):
    """A schedule source with one key per schedule. Reading schedules scans the whole database."""

    _indexed = False

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        super().__init__(server, options)
        #: by ID, what was read last
        self._by_id: dict[str, ScheduledTask] = {}

    @property
    def _keys(self) -> ScheduleKeys:
        return ScheduleKeys(self.prefix, "keys:")

    def _data_key(self, schedule_id: str) -> str:
        return self.prefix + ":" + schedule_id

    def _put(self, schedules: Sequence[Encoded]) -> None:
        self._check_taken([schedule.schedule_id for schedule, _ in schedules])
        for schedule, data in schedules:
            self._set(self._data_key(schedule.schedule_id), data)
        # Replacing a paused schedule resumes it.
        self._end_pauses([schedule.schedule_id for schedule, _ in schedules])

    def _set(self, key: str, data: bytes) -> None:
        # With GET, SET fails on a key of another type instead of overwriting it.
        self._connection.call(
            lambda client: client.set(key, data, get=True), key=key, size=len(data)
        )

    def _check_taken(self, schedule_ids: Sequence[str]) -> None:
        """Check that schedules don't have the keys of an index, or of an indexed source."""
        others = ScheduleKeys(self.prefix)
        for schedule_id in schedule_ids:
            key = self._data_key(schedule_id)
            if key in {*self._keys.index, *others.index, others.schedulers}:
                # With a prefix that has a hash tag.
                reason = f"the key {key!r} is that of an index"
                raise InvalidScheduleError(schedule_id=schedule_id, field="ID", reason=reason)
            other = schedule_id.removeprefix("data:")
            if other != schedule_id and self._score(others.due, other) is not None:
                reason = f"the key {key!r} holds the schedule {other!r} of another source"
                raise InvalidScheduleError(schedule_id=schedule_id, field="ID", reason=reason)

    def _score(self, key: str, schedule_id: str) -> float | None:
        score: float | None = self._connection.call(
            lambda client: client.zscore(key, schedule_id), key=key
        )
        return score

    def _delete(self, schedule_ids: Sequence[str]) -> int:
        deleted = 0
        for schedule_id in schedule_ids:
            deleted += self._delete_key(self._data_key(schedule_id))
        self._forget(schedule_ids)
        return deleted

    def _delete_key(self, key: str) -> bool:
        # Unlike DEL, GETDEL fails on a key of another type.
        value = self._connection.call(lambda client: client.getdel(key), key=key)
        return value is not None

    def _forget(self, schedule_ids: Sequence[str]) -> None:
        self._connection.run_script(
            FORGET, self._keys.index, list(schedule_ids), key=self._keys.patterns
        )

    def _pause(self, schedule_id: str) -> bool:
        if self.get_schedule(schedule_id) is None:
            return False
        key = self._keys.due
        paused = {schedule_id: float("inf")}
        self._connection.call(lambda client: client.zadd(key, dict(paused)), key=key)
        return True

    def _resume(self, schedule_id: str) -> bool:
        return self._end_pauses([schedule_id])

    def _end_pauses(self, schedule_ids: Sequence[str]) -> bool:
        """Resume schedules, and return whether any was paused (ZREM)."""
        key = self._keys.due
        removed = self._connection.call(lambda client: client.zrem(key, *schedule_ids), key=key)
        return bool(removed)

    def _is_paused(self, schedule_id: str) -> bool:
        return self._score(self._keys.due, schedule_id) is not None

    def _paused(self) -> set[str]:
        """Return the IDs of the paused schedules (ZRANGE)."""
        key = self._keys.due
        paused: Any = self._connection.call(lambda client: client.zrange(key, 0, -1), key=key)
        return {as_str(schedule_id) for schedule_id in paused}

    def get_schedules(self) -> list[ScheduledTask]:
        """Read all schedules (SCAN, MGET); an unreadable one is logged and left out.

        While Redis can't be read, it returns what it returned last.

        Raises:
            ServerUnavailableError: Redis can't be reached, and nothing has been read before.
        """
        return super().get_schedules()

    def _read_due(self) -> list[ScheduledTask]:
        paused = self._paused()
        schedules = self.get_all_schedules()
        self._by_id = {schedule.schedule_id: schedule for schedule in schedules}
        self._registration.write()
        return [schedule for schedule in schedules if schedule.schedule_id not in paused]

    def _read_last(self, schedule_id: str) -> ScheduledTask | None:
        return self._by_id.get(schedule_id)

    def _own_ids(self) -> list[str]:
        # The keys of a source with a longer prefix, and those of an indexed source, look alike.
        return [schedule.schedule_id for schedule in self.get_all_schedules()]

    def _is_foreign(self, key: str, schedule_id: str, raw: bytes) -> bool:
        try:
            schedule = self._decode_value(key, raw)
        except ScheduleDecodeError:
            return False
        return schedule.schedule_id != schedule_id

    def _pages(self) -> Iterator[list[str]]:
        keys = self._connection.call(self._scan)
        ids = [key.removeprefix(self.prefix + ":") for key in keys]
        for start in range(0, len(ids), PAGE):
            yield ids[start : start + PAGE]

    def count(self) -> int:
        """Return the number of schedules, which are read for that (SCAN, MGET).

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        return len(self.get_all_schedules())

    def _scan(self, client: Client) -> list[str]:
        pattern = f"{escape_glob(self.prefix)}:*"
        keys = client.scan_iter(match=pattern, count=PAGE, _type="string")
        # SCAN may return a key twice.
        return list({as_str(key): None for key in keys})

    def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values; one by one on a cluster, where each may be in another hash slot."""
        if not self._connection.sharded:
            return super()._get(keys)
        return [super(KeyPerSchedule, self)._get([key])[0] for key in keys]


class SyncRedisScheduleSource(OnSingleNode, KeyPerSchedule):
    """Keeps each schedule in its own key on one Redis server.

    Reading schedules scans the whole database; `SyncListRedisScheduleSource` doesn't.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        buffer_size: maximum number of keys per MGET. Default 50.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
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
        buffer_size: int = 50,
        max_connection_pool_size: int | None = None,
        serializer: TaskiqSerializer | None = None,
        max_value_size: int | None = MAX_SIZE,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=False,
                max_value_size=max_value_size,
            ),
        )


class SyncRedisClusterScheduleSource(OnCluster, KeyPerSchedule):
    """Keeps each schedule in its own key on a Redis Cluster.

    Reading schedules scans all nodes; `SyncListRedisClusterScheduleSource` doesn't.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        max_value_size: bytes; longer schedules are neither stored nor read; None for no
            limit. Default 100,000,000.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "schedule",
        serializer: TaskiqSerializer | None = None,
        max_value_size: int | None = MAX_SIZE,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, connection_kwargs=connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=50,
                skip_past_schedules=False,
                max_value_size=max_value_size,
            ),
        )


class SyncRedisSentinelScheduleSource(OnSentinel, KeyPerSchedule):
    """Keeps each schedule in its own key on a master that sentinels monitor.

    Reading schedules scans the whole database; `SyncListRedisSentinelScheduleSource` doesn't.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        buffer_size: maximum number of keys per MGET. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
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
        buffer_size: int = 50,
        serializer: TaskiqSerializer | None = None,
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
                skip_past_schedules=False,
                max_value_size=max_value_size,
            ),
        )
