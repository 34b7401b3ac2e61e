"""Tasks of all kinds, for workers without special options."""

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
    """Add two numbers in a thread."""
    record("add", sum=a + b)
    return a + b


@broker.task
async def fail() -> None:
    """Raise an error."""
    record("fail")
    raise ValueError("as it should")


@broker.task
def meet(processes: int) -> None:
    """Wait until this task runs in `processes` processes at the same time."""
    record("meet")
    wait_until(lambda: len(RECORDS.processes("meet")) == processes)


@broker.task
async def until_released(number: int) -> int:
    """Wait until the test creates a file, without blocking the event loop."""
    record("started", number=number)
    while not RECORDS.signal_file("go").exists():
        await asyncio.sleep(0.01)
    record("ended", number=number)
    return number


@broker.task
def until_released_in_thread(number: int) -> int:
    """Wait in a thread until the test creates a file."""
    record("started", number=number)
    while not RECORDS.signal_file("go").exists():
        time.sleep(0.01)
    record("ended", number=number)
    return number


@broker.task
async def report(steps: int, progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Report progress, and wait at each step until the test has seen it."""
    for step in range(1, steps + 1):
        await progress.set_progress("working", meta=step)
        while not RECORDS.signal_file(f"seen {step}").exists():
            await asyncio.sleep(0.01)
    return f"{steps} steps"


@async_shared_broker.task
async def shared(number: int) -> int:
    """Return the number; declared on no broker."""
    record("shared", number=number)
    return number


@broker.task
async def call_shared(number: int) -> int:
    """Send the shared task with the default broker, and return its result."""
    result = await (await shared.kiq(number)).wait_result(timeout=TIMEOUT)
    return result.return_value


@broker.task
async def event_loop() -> str:
    """Return the module of the running event loop."""
    return type(asyncio.get_running_loop()).__module__


class Item(BaseModel):
    """A model with a type that JSON lacks."""

    name: str
    added: datetime


@dataclass
class Point:
    """A dataclass."""

    x: float
    y: float


@broker.task
async def update(item: Item, point: Point, when: datetime, by: timedelta) -> Item:
    """Combine a model, a dataclass and times into a model."""
    assert isinstance(point, Point)
    assert when.tzinfo is not None
    return Item(name=f"{item.name} {point.x} {point.y}", added=when + by)


@broker.task
def midpoint(points: list[Point]) -> Point:
    """Return the average `x` of points as a dataclass."""
    x = sum(point.x for point in points) / len(points)
    return Point(x=x, y=points[0].y)
