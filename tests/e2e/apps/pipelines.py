"""A broker with the middleware of the package taskiq-pipelines."""

from typing import Any

from taskiq.serializers import PickleSerializer
from taskiq_pipelines import PipelineMiddleware

from taskiq_redis import to_sync
from tests.e2e.setting import SETTING

broker = SETTING.broker().with_middlewares(PipelineMiddleware())
if SETTING.extras.get("serializer") == "pickle":
    broker.with_serializer(PickleSerializer())
sync_broker = to_sync(broker)


@broker.task
async def add(value: int, other: int = 1) -> int:
    return value + other


@broker.task
def spread(value: int) -> list[int]:
    return list(range(value))


@broker.task
def is_odd(value: int) -> bool:
    return value % 2 == 1


@sync_broker.task
def double(value: int) -> int:
    """Double a number; declared on a blocking broker."""
    return value * 2


@broker.task
async def summarise(values: list[int], unit: str = "") -> str:
    return f"{sum(values)}{unit}"


@broker.task
async def nothing() -> str:
    return "nothing"


@broker.task
async def fail(value: Any = None) -> None:
    raise ValueError("as it should")
