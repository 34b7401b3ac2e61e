"""Tasks of all kinds, for workers that are started without anything special."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel
from taskiq import TaskiqDepends, async_shared_broker
from taskiq.depends.progress_tracker import ProgressTracker

from tests.e2e.recorder import RECORDS, record
from tests.e2e.setting import SETTING
from tests.waiting import TIMEOUT, wait_until

broker = SETTING.broker()
async_shared_broker.default_broker(broker)


@broker.task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    record("add", sum=a + b)
    return a + b


@broker.task
def add_in_thread(a: int, b: int) -> int:
    """Add two numbers, without an event loop."""
    record("add", sum=a + b)
    return a + b


@broker.task
async def fail() -> None:
    """Raise an error."""
    record("fail")
    raise ValueError("as it should")


@broker.task
def meet(processes: int) -> None:
    """Wait until so many processes are in here at the same time."""
    record("meet")
    wait_until(lambda: len(RECORDS.processes("meet")) == processes)


@broker.task
async def until_released(number: int) -> int:
    """Wait until the test creates a file; without blocking the event loop."""
    record("started", number=number)
    while not RECORDS.file("go").exists():
        await asyncio.sleep(0.01)
    record("ended", number=number)
    return number


@broker.task
def until_released_in_thread(number: int) -> int:
    """Wait until the test creates a file; in a thread."""
    record("started", number=number)
    while not RECORDS.file("go").exists():
        time.sleep(0.01)
    record("ended", number=number)
    return number


@broker.task
async def report(steps: int, progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Say how far it is, and wait at each step until the test has seen it."""
    for step in range(1, steps + 1):
        await progress.set_progress("working", meta=step)
        while not RECORDS.file(f"seen {step}").exists():
            await asyncio.sleep(0.01)
    return f"{steps} steps"


@async_shared_broker.task
async def shared(number: int) -> int:
    """Belong to no broker."""
    record("shared", number=number)
    return number


@broker.task
async def call_shared(number: int) -> int:
    """Send the shared task with the default broker, and wait for it."""
    result = await (await shared.kiq(number)).wait_result(timeout=TIMEOUT)
    return result.return_value


@broker.task
async def event_loop() -> str:
    """Tell which event loop it runs on."""
    return type(asyncio.get_running_loop()).__module__


class Item(BaseModel):
    """A model with what JSON doesn't have."""

    name: str
    added: datetime


@dataclass
class Point:
    """A dataclass."""

    x: float
    y: float


@broker.task
async def update(item: Item, point: Point, when: datetime, by: timedelta) -> Item:
    """Take a model, a dataclass and times, and return a model."""
    assert isinstance(point, Point)
    assert when.tzinfo is not None
    return Item(name=f"{item.name} {point.x} {point.y}", added=when + by)


@broker.task
def midpoint(points: list[Point]) -> Point:
    """Take several dataclasses, and return one."""
    x = sum(point.x for point in points) / len(points)
    return Point(x=x, y=points[0].y)
