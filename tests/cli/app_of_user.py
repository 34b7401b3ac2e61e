"""What users write, for commands that import it."""

import os
import sys

from taskiq import InMemoryBroker, TaskiqScheduler
from taskiq.schedule_sources import LabelScheduleSource

from taskiq_redis import (
    InMemoryScheduleSource,
    ListRedisScheduleSource,
    RedisStreamBroker,
    SyncRedisStreamBroker,
)
from tests.leaks import PASSWORD

url = os.environ["TEST_APP_URL"]
name = os.environ["TEST_APP_NAME"]

broker = RedisStreamBroker(url, queue_name=name, additional_streams={f"{name}-2": ">"})
blocking = SyncRedisStreamBroker(url, queue_name=name)
source = ListRedisScheduleSource(url, prefix=name)
scheduler = TaskiqScheduler(broker, [LabelScheduleSource(broker), source])
foreign_scheduler = TaskiqScheduler(broker, [LabelScheduleSource(broker)])
in_memory = InMemoryBroker()
in_memory_source = InMemoryScheduleSource()


def factory() -> RedisStreamBroker:
    return broker


async def async_factory() -> RedisStreamBroker:
    return broker


def failing_factory() -> None:
    raise ValueError(PASSWORD)


def ending_factory() -> None:
    sys.exit(0)


def importing_factory() -> None:
    raise ImportError(f"no driver for redis://user:{PASSWORD}@host")


def printing_factory() -> RedisStreamBroker:
    print("a greeting")
    return broker
