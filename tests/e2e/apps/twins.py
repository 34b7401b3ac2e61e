"""Tasks for a worker, and the blocking twins by which scripts and sites use them."""

import asyncio
from typing import Any

from taskiq import TaskiqDepends, TaskiqScheduler
from taskiq.depends.progress_tracker import ProgressTracker

from taskiq_redis import to_sync
from tests.e2e import recorder
from tests.e2e.setting import SETTING

NAME = SETTING.name

broker = SETTING.broker()
source = SETTING.source("indexed")
scheduler = TaskiqScheduler(broker, [source])

sync_broker = to_sync(broker)
sync_results: Any = sync_broker.result_backend
sync_source = to_sync(source)


def note(what: str) -> None:
    """Note that something ran, outside of Redis, so that Redis can't be wrong about it."""
    recorder.record("ran", name=what)


@broker.task
async def record(what: str) -> str:
    """Note that it ran."""
    note(what)
    return what


@broker.task
async def report(steps: int, progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Report its progress, and wait a little after each step, so that a client can see it."""
    note("report")
    for step in range(1, steps + 1):
        await progress.set_progress("STEPPING", step)
        await asyncio.sleep(0.1)
    return f"{steps} steps"


@broker.task
async def fail() -> None:
    """Raise an error."""
    note("fail")
    raise ValueError("as it should")
