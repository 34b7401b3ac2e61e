"""Migration of schedules by asyncio code and blocking code of the same project."""

import asyncio

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis import (
    ListRedisScheduleSource,
    RedisScheduleSource,
    SyncListRedisScheduleSource,
    SyncRedisScheduleSource,
)
from tests.servers import Topology


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_schedules_that_a_blocking_program_has_migrated_are_not_migrated_again(
    topology: Topology, name: str
) -> None:
    old = SyncRedisScheduleSource(topology.url, prefix=f"{name}:old")
    new = SyncListRedisScheduleSource(topology.url, prefix=name)
    old.add_schedule(
        ScheduledTask(
            task_name="task", labels={}, args=[], kwargs={}, schedule_id="id", cron="* * * * *"
        )
    )
    with new.with_migrate_from(old, delete_schedules=False):
        assert new.delete_schedule("id")

    async def start() -> int:
        source = ListRedisScheduleSource(topology.url, prefix=name)
        previous = RedisScheduleSource(topology.url, prefix=f"{name}:old")
        await source.with_migrate_from(previous, delete_schedules=False).startup()
        found = await source.count()
        await source.shutdown()
        return found

    assert asyncio.run(start()) == 0
    old.shutdown()
