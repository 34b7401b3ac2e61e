"""Schedules that have one key each, found by looking at all keys of the database."""

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

#: how many keys one SCAN looks at
SCAN_COUNT = 1000


class KeyPerSchedule(BaseScheduleSource):
    """A schedule source with one key per schedule. Reading it scans the whole database."""

    def _key(self, schedule_id: str) -> str:
        return f"{self.prefix}:{schedule_id}"

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its id (SET).

        Args:
            schedule: what to add.

        Raises:
            ScheduleEncodeError: it can't be serialized.
            WrongKeyTypeError: the key holds something else, which stays.
            ServerUnavailableError: Redis can't be reached.
        """
        key, data = self._key(schedule.schedule_id), encode_schedule(self.serializer, schedule)
        # With GET, it fails where there is a queue, say, instead of overwriting it.
        await self._connection.call(
            lambda client: client.set(key, data, get=True), key=key, size=len(data)
        )

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule, if it is there (DEL).

        Args:
            schedule_id: its id.

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
        # The pattern matches the keys of sources with a longer prefix, too.
        return [task for key, task in found.items() if key == self._key(task.schedule_id)]

    async def _scan(self, client: Client) -> list[str]:
        pattern = f"{escape_glob(self.prefix)}:*"
        keys = client.scan_iter(match=pattern, count=SCAN_COUNT, _type="string")
        # SCAN may return a key twice.
        return list({as_str(key): None async for key in keys})

    async def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values; one by one on a cluster, where each key is in a slot of its own."""
        if not self._connection.sharded:
            return await super()._get(keys)
        return [(await super(KeyPerSchedule, self)._get([key]))[0] for key in keys]


class RedisScheduleSource(OnSingleNode, KeyPerSchedule):
    """Keeps each schedule under a key of its own on one Redis server.

    Reading it scans the whole database; `ListRedisScheduleSource` doesn't.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        prefix: keys begin with it and a colon. Default ``schedule``.
        buffer_size: most keys that one MGET reads. Default 50.
        max_connection_pool_size: most connections for commands at a time. Default 50.
        serializer: default pickle of plain values, read without running code.
        connection_kwargs: go to redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option can't work.
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
            ScheduleOptions(prefix=prefix, buffer_size=buffer_size, serializer=serializer),
        )


class RedisClusterScheduleSource(OnCluster, KeyPerSchedule):
    """Keeps each schedule under a key of its own on a Redis Cluster.

    Reading it scans all nodes; `ListRedisClusterScheduleSource` doesn't.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        prefix: keys begin with it and a colon. Default ``schedule``.
        serializer: default pickle of plain values, read without running code.
        connection_kwargs: go to redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option can't work.
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
            ScheduleOptions(prefix=prefix, serializer=serializer),
        )


class RedisSentinelScheduleSource(OnSentinel, KeyPerSchedule):
    """Keeps each schedule under a key of its own on the master that sentinels name.

    Reading it scans the whole database; `ListRedisSentinelScheduleSource` doesn't.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        prefix: keys begin with it and a colon. Default ``schedule``.
        buffer_size: most keys that one MGET reads. Default 50.
        serializer: default pickle of plain values, read without running code.
        min_other_sentinels: a sentinel that sees fewer others isn't believed. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option can't work.
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
            ScheduleOptions(prefix=prefix, buffer_size=buffer_size, serializer=serializer),
        )
