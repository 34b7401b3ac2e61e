"""Two tasks and their broker. Run them with: taskiq worker tasks:broker."""

import asyncio
import os

from taskiq import TaskiqDepends
from taskiq.depends.progress_tracker import ProgressTracker

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")

broker = RedisStreamBroker(REDIS_URL).with_result_backend(
    RedisAsyncResultBackend(REDIS_URL, result_ex_time=3600)
)


@broker.task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@broker.task
async def bake(
    cakes: int,
    progress: ProgressTracker[int] = TaskiqDepends(),  # noqa: B008 - the worker injects it
) -> str:
    """Bake some cakes, and report progress after each."""
    for done in range(1, cakes + 1):
        await asyncio.sleep(0.3)
        await progress.set_progress("BAKING", done)
    return f"{cakes} cakes"
