"""Names that are members of an enum, such as ``class Queue(str, Enum)``."""

import enum
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.keys import delayed_key
from tests._aio import wait_until
from tests._async.support import Listener, build, opened, redis_of, result
from tests.servers import Topology

pytestmark = pytest.mark.anyio


def member(name: str) -> Any:
    """Return a member of an enum, whose value is the name."""
    make: Any = enum.Enum
    return make("Name", {"MEMBER": name}, type=str).MEMBER


async def test_queue_may_be_a_member_of_an_enum(topology: Topology, name: str) -> None:
    queue, other = member(name), member(f"{name}:other")
    options = {"consumer_group_name": member("group"), "consumer_name": member("me")}
    broker = build(topology, "stream", queue_name=queue, **options)
    elsewhere = build(topology, "stream", queue_name=other)
    task = broker.register_task(lambda: None, task_name=f"{name}:task", queue_name=other)
    async with Listener(broker) as here, Listener(elsewhere) as there:
        await task.kicker().with_labels(queue_name=queue).with_delay(0.01).kiq()
        await task.kicker().with_delay(0.01).kiq()
        await task.kicker().with_labels(queue_name=queue).kiq()
        await task.kiq()

        async def all_arrived() -> bool:
            return len(here.got) == len(there.got) == 2

        await wait_until(all_arrived)
    client = redis_of(topology)
    assert client.xinfo_groups(name)[0]["name"] == b"group"
    assert not client.exists(delayed_key(name))


@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
async def test_prefix_may_be_a_member_of_an_enum(
    topology: Topology, name: str, mechanism: str
) -> None:
    prefix = f"{{{name}}}"
    schedule = ScheduledTask(
        task_name="task", labels={}, args=[], kwargs={}, schedule_id="id", cron="* * * * *"
    )
    async with opened(topology, mechanism, prefix=member(prefix)) as source:
        await source.add_schedule(schedule)
        assert await source.get_schedule("id") == schedule
    async with opened(topology, mechanism, prefix=prefix) as source:
        assert await source.get_schedule("id") == schedule


async def test_prefix_str_may_be_a_member_of_an_enum(topology: Topology, name: str) -> None:
    async with opened(topology, "results", prefix_str=member(name)) as results:
        await results.set_result(member("id"), result(7))
        assert (await results.wait_result(member("id"))).return_value == 7
    assert redis_of(topology).exists(f"{name}:id")
