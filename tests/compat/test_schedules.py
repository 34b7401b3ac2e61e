"""Schedules of 1.2.4 are listed and deleted, and written with the same keys and bytes."""

from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from tests.compat.recorded import (
    SCHEDULES,
    build,
    check_key,
    load,
    maybe_await,
    names,
    restore,
    serializer_of,
)
from tests.servers import Topology, client_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
    pytest.mark.parametrize("class_name", ["RedisScheduleSource", "ListRedisScheduleSource"]),
]


def schedule(schedule_id: str) -> ScheduledTask:
    when = SCHEDULES[schedule_id]
    return ScheduledTask(
        task_name="golden:task",
        labels={"l": "1"},
        args=[1, "ü"],
        kwargs={"k": [1, None]},
        schedule_id=schedule_id,
        **when,
    )


def own_key(name: str, recorded: str) -> str:
    """Return the key of this test for a recorded key, whose prefix is `schedule`."""
    return f"{name}:{recorded.removeprefix('schedule:')}"


def keys_of_1_2_4(topology: Topology, name: str) -> list[str]:
    """Return the keys that 1.2.4 has, too."""
    return [key for key in names(topology, name) if not key.startswith(f"{{{name}}}:")]


def own_keys(name: str, recorded: Any) -> list[str]:
    return sorted(own_key(name, key) for key in recorded)


def check_left(topology: Topology, name: str, recorded: list[str]) -> None:
    """Check the keys that are left after the recorded deletions, as 1.2.4 sees them.

    It leaves out IDs without a schedule, which stay in its lists for a while.
    """
    assert keys_of_1_2_4(topology, name) == own_keys(name, recorded)
    client = client_of(topology)
    lists = [key for key in own_keys(name, recorded) if client.type(key) == b"list"]
    listed = [f"{name}:data:{each.decode()}" for key in lists for each in client.lrange(key, 0, -1)]
    found = [key for key in listed if client.exists(key)]
    assert sorted(found) == [key for key in own_keys(name, recorded) if ":data:" in key]


def source_of(twin: str, class_name: str, topology: Topology, name: str, form: str) -> Any:
    serializer = serializer_of(form)
    return build(twin, class_name, topology, prefix=name, serializer=serializer)


async def all_of(source: Any) -> dict[str, ScheduledTask]:
    """Return all schedules of a source by id, including those that aren't due."""
    return {each.schedule_id: each for each in await maybe_await(source.get_all_schedules())}


@pytest.mark.smoke
async def test_schedules_are_written_as_by_1_2_4(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"schedule-{class_name}-{form}")
    source = source_of(twin, class_name, topology, name, form)
    for schedule_id in SCHEDULES:
        await maybe_await(source.add_schedule(schedule(schedule_id)))
    assert keys_of_1_2_4(topology, name) == own_keys(name, recorded["keys"])
    for key, value in recorded["keys"].items():
        check_key(topology, own_key(name, key), value)

    # The three recorded deletions, in the same order.
    await maybe_await(source.post_send(schedule("time1")))
    await maybe_await(source.delete_schedule("int1"))
    await maybe_await(source.delete_schedule("missing"))
    check_left(topology, name, recorded["keys_after_delete"])

    for schedule_id in SCHEDULES:
        await maybe_await(source.delete_schedule(schedule_id))
    assert names(topology, name) == []
    await maybe_await(source.shutdown())


@pytest.mark.smoke
async def test_schedules_of_1_2_4_are_listed_and_deleted(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"schedule-{class_name}-{form}")
    for key, value in recorded["keys"].items():
        restore(topology, own_key(name, key), value)
    source = source_of(twin, class_name, topology, name, form)
    await maybe_await(source.startup())
    listed = await all_of(source)
    assert listed == {schedule_id: schedule(schedule_id) for schedule_id in SCHEDULES}
    for schedule_id, task in listed.items():
        assert task.time == schedule(schedule_id).time
        assert task.task_id == SCHEDULES[schedule_id].get("task_id")
    await maybe_await(source.post_send(listed["time1"]))
    await maybe_await(source.delete_schedule("int1"))
    check_left(topology, name, recorded["keys_after_delete"])
    assert (await all_of(source)).keys() == SCHEDULES.keys() - {"time1", "int1"}
    for schedule_id in SCHEDULES:
        await maybe_await(source.delete_schedule(schedule_id))
    assert names(topology, name) == []
    await maybe_await(source.shutdown())


async def test_cron_and_interval_schedules_are_listed_without_startup(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"schedule-{class_name}-{form}")
    for key, value in recorded["keys"].items():
        restore(topology, own_key(name, key), value)
    source = source_of(twin, class_name, topology, name, form)
    listed = {each.schedule_id for each in await maybe_await(source.get_schedules())}
    assert {"cron1", "cron2", "cron3", "int1", "int2"} <= listed
    await maybe_await(source.shutdown())


async def test_schedule_of_1_2_4_is_replaced_completely(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"schedule-{class_name}-{form}")
    for key, value in recorded["keys"].items():
        restore(topology, own_key(name, key), value)
    source = source_of(twin, class_name, topology, name, form)
    await maybe_await(source.startup())
    moved = {}
    for schedule_id, other in (("cron1", "int1"), ("time1", "cron1"), ("int2", "time1")):
        moved[schedule_id] = ScheduledTask(
            task_name="golden:task",
            labels={},
            args=[],
            kwargs={},
            schedule_id=schedule_id,
            **SCHEDULES[other],
        )
        await maybe_await(source.add_schedule(moved[schedule_id]))
    listed = await all_of(source)
    assert listed.keys() == SCHEDULES.keys()
    assert {schedule_id: listed[schedule_id] for schedule_id in moved} == moved
    for schedule_id in SCHEDULES:
        await maybe_await(source.delete_schedule(schedule_id))
    assert names(topology, name) == []
    await maybe_await(source.shutdown())


async def test_schedule_added_by_1_2_4_is_found_after_startup(
    topology: Topology, name: str, twin: str, form: str, class_name: str
) -> None:
    recorded = load(f"schedule-{class_name}-{form}")["keys"]
    source = source_of(twin, class_name, topology, name, form)
    await maybe_await(source.startup())
    assert await maybe_await(source.get_schedules()) == []
    cron = [key for key in recorded if key.endswith((":cron", ":data:cron1", ":cron1"))]
    for key in cron:
        restore(topology, own_key(name, key), recorded[key])
    assert [each.schedule_id for each in await maybe_await(source.get_schedules())] == ["cron1"]
    await maybe_await(source.shutdown())
