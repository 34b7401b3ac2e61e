"""Subclasses of schedule sources."""

from datetime import datetime, timedelta, timezone

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq import ScheduledTask
from taskiq.exceptions import ScheduledTaskCancelledError

from taskiq_redis import ListRedisScheduleSource, RedisScheduleSource
from tests._async.support import connections_named
from tests.compat.subclasses.support import on_one_server
from tests.servers import Topology

pytestmark = pytest.mark.anyio


class Locking(RedisScheduleSource):
    """Take a lock, so that only one of several schedulers sends."""

    async def pre_send(self, task: ScheduledTask) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            if not await redis.set(f"{self.prefix}-lock:{task.schedule_id}", "1", nx=True, ex=20):
                raise ScheduledTaskCancelledError


@on_one_server
async def test_subclass_of_source_can_take_a_lock(topology: Topology, name: str) -> None:
    first, second = Locking(topology.url, prefix=name), Locking(topology.url, prefix=name)
    task = once("a", datetime.now(timezone.utc))
    await first.pre_send(task)
    with pytest.raises(ScheduledTaskCancelledError):
        await second.pre_send(task)
    await first.shutdown()
    await second.shutdown()


def once(schedule_id: str, time: datetime) -> ScheduledTask:
    return ScheduledTask(
        task_name="t", labels={}, args=[], kwargs={}, schedule_id=schedule_id, time=time
    )


class Inventory(ListRedisScheduleSource):
    """Use private names of 1.2.4 to write in a transaction and list all schedules."""

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        assert schedule.time is not None
        async with Redis(connection_pool=self._connection_pool) as redis:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.set(
                    self._get_data_key(schedule.schedule_id),
                    self._serializer.dumpb(schedule.model_dump(mode="json")),
                )
                pipeline.rpush(self._get_time_key(schedule.time), schedule.schedule_id)
                await pipeline.execute()

    async def list_schedules(self) -> list[str]:
        async with Redis(connection_pool=self._connection_pool) as redis:
            keys = [key async for key in redis.scan_iter(f"{self._prefix}:data:*")]
            values = await redis.mget(keys[: self._buffer_size])
            read = [ScheduledTask.model_validate(self._serializer.loadb(raw)) for raw in values]
            return sorted(task.schedule_id for task in read)

    async def shutdown(self) -> None:
        await self._connection_pool.disconnect()
        await super().shutdown()


@on_one_server
async def test_subclass_of_source_can_use_private_names(topology: Topology, name: str) -> None:
    source = Inventory(topology.url, prefix=name)
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    await source.add_schedule(once("soon", soon))
    await source.add_schedule(once("far", soon + timedelta(days=400)))
    assert await source.list_schedules() == ["far", "soon"]
    assert [task.schedule_id for task in await source.get_schedules()] == ["soon"]
    await source.delete_schedule("soon")
    assert await source.get_schedules() == []
    assert not source._skip_past_schedules
    assert (source._get_cron_key(), source._get_interval_key()) == (
        f"{name}:cron",
        f"{name}:interval",
    )
    source._prefix = f"{name}:other"
    assert source._get_data_key("a") == f"{name}:other:data:a"
    assert await source.get_schedules() == []
    source._connection_pool = BlockingConnectionPool.from_url(topology.url, client_name=name)
    assert await source.get_schedules() == []
    assert connections_named(topology, name)
    await source.shutdown()
