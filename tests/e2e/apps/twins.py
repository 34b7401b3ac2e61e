"""Tasks for a worker, and blocking twins for scripts and sites."""

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
    """Record a run outside of Redis, so that the record doesn't depend on Redis."""
    recorder.record("ran", name=what)


@broker.task
async def record(what: str) -> str:
    """Record its run."""
    note(what)
    return what


@broker.task
async def report(steps: int, progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Report progress, with a pause after each step for clients to see it."""
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
