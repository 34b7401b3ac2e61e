"""Schedule sources with one key per schedule, found by a SCAN of the whole database."""

from collections.abc import Sequence
from typing import Any

from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.clients import Client
from taskiq_redis._async.schedules.base import BaseScheduleSource, Raw
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._core.keys import escape_glob
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.wire import as_str, encode_schedule

#: number of keys per SCAN
SCAN_COUNT = 1000


class KeyPerSchedule(BaseScheduleSource):
    """A schedule source with one key per schedule. Reading schedules scans the whole database."""

    def _key(self, schedule_id: str) -> str:
        return f"{self.prefix}:{schedule_id}"

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its ID (SET).

        Args:
            schedule: the schedule.

        Raises:
            ScheduleEncodeError: it can't be serialized.
            WrongKeyTypeError: the key holds another type, and is not overwritten.
            ServerUnavailableError: Redis can't be reached.
        """
        key, data = self._key(schedule.schedule_id), encode_schedule(self.serializer, schedule)
        # With GET, SET fails on a key of another type instead of overwriting it.
        await self._connection.call(
            lambda client: client.set(key, data, get=True), key=key, size=len(data)
        )

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule if it exists (DEL).

        Args:
            schedule_id: ID of the schedule.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._key(schedule_id)
        await self._connection.call(lambda client: client.delete(key), key=key)

    async def _delete_sent(self, sent: ScheduledTask) -> None:
        for stored in (await self._read([self._key(sent.schedule_id)])).values():
            if stored.time == sent.time:
                await self.delete_schedule(sent.schedule_id)

    async def get_schedules(self) -> list[ScheduledTask]:
        """Read all schedules (SCAN, MGET); an unreadable one is logged and left out.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        return self._without_sent(await self.get_all_schedules())

    async def get_all_schedules(self) -> list[ScheduledTask]:
        """Read all schedules."""
        found = await self._read(await self._connection.call(self._scan))
        # The pattern also matches keys of sources with a longer prefix.
        return [task for key, task in found.items() if key == self._key(task.schedule_id)]

    async def _scan(self, client: Client) -> list[str]:
        pattern = f"{escape_glob(self.prefix)}:*"
        keys = client.scan_iter(match=pattern, count=SCAN_COUNT, _type="string")
        # SCAN may return a key twice.
        return list({as_str(key): None async for key in keys})

    async def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values; one by one on a cluster, where each may be in another hash slot."""
        if not self._connection.sharded:
            return await super()._get(keys)
        return [(await super(KeyPerSchedule, self)._get([key]))[0] for key in keys]


class RedisScheduleSource(OnSingleNode, KeyPerSchedule):
    """Keeps each schedule in its own key on one Redis server.

    Reading schedules scans the whole database; `ListRedisScheduleSource` doesn't.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        buffer_size: maximum number of keys per MGET. Default 50.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
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
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=buffer_size,
                skip_past_schedules=False,
            ),
        )


class RedisClusterScheduleSource(OnCluster, KeyPerSchedule):
    """Keeps each schedule in its own key on a Redis Cluster.

    Reading schedules scans all nodes; `ListRedisClusterScheduleSource` doesn't.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "schedule",
        serializer: TaskiqSerializer | None = None,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, connection_kwargs=connection_kwargs),
            ScheduleOptions(
                prefix=prefix,
                serializer=serializer,
                buffer_size=50,
                skip_past_schedules=False,
            ),
        )


class RedisSentinelScheduleSource(OnSentinel, KeyPerSchedule):
    """Keeps each schedule in its own key on a master that sentinels monitor.

    Reading schedules scans the whole database; `ListRedisSentinelScheduleSource` doesn't.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        prefix: prefix of all keys, followed by a colon. Default ``schedule``.
        buffer_size: maximum number of keys per MGET. Default 50.
        serializer: default pickle, limited to plain values, so that reading can't run code.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
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
            ),
        )
