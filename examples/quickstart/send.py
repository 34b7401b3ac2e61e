"""Send tasks from asyncio and from blocking code, and show their progress and results.

Set REDIS_URL to your server, and start a worker: taskiq worker tasks:broker
"""

import asyncio
import sys
import time
from typing import Any

from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress
from tasks import REDIS_URL, add, bake, broker

from taskiq_redis import SyncRedisAsyncResultBackend, SyncRedisStreamBroker, to_sync

#: s; time to wait for a result
TIMEOUT = 20
CAKES = 6


async def send_from_asyncio() -> str:
    """Send tasks as usual with taskiq, and return the id of one of them."""
    print("From asyncio:")
    await broker.startup()
    try:
        summing = await add.kiq(2, 3)
        show(await summing.wait_result(timeout=TIMEOUT), "await add.kiq(2, 3)", 5)

        baking = await bake.kiq(CAKES)
        while not await baking.is_ready():
            show_progress(await baking.get_progress())
            await asyncio.sleep(0.3)
        show(await baking.get_result(), f"await bake.kiq({CAKES})", f"{CAKES} cakes")
    finally:
        await broker.shutdown()
    return summing.task_id


def send_from_blocking_code() -> None:
    """Send the same tasks with the broker's blocking twin, as in a Django view."""
    print("From blocking code, with the twin of the same broker:")
    with to_sync(broker) as twin:
        summing = twin.kicker(add).kiq(20, 22)
        show(summing.wait_result(timeout=TIMEOUT), "to_sync(broker).kicker(add).kiq(20, 22)", 42)

        baking = twin.kicker(bake).kiq(CAKES)
        while not baking.is_ready():
            show_progress(baking.get_progress())
            time.sleep(0.3)
        call = f"to_sync(broker).kicker(bake).kiq({CAKES})"
        show(baking.get_result(), call, f"{CAKES} cakes")


def send_by_name(known_id: str) -> None:
    """Send a task by name and read a result by id, without importing the task."""
    print("From blocking code that knows only a name and an id:")
    results: SyncRedisAsyncResultBackend[int] = SyncRedisAsyncResultBackend(REDIS_URL)
    with SyncRedisStreamBroker(REDIS_URL).with_result_backend(results) as own_broker:
        summing = own_broker.kicker("tasks:add").kiq(a=600, b=66)
        call = 'broker.kicker("tasks:add").kiq(a=600, b=66)'
        show(summing.wait_result(timeout=TIMEOUT), call, 666)
        show(results.get_result(known_id), f'results.get_result("{known_id[:8]}...")', 5)


def show(result: TaskiqResult[Any], call: str, expected: object) -> None:
    """Print a result, and raise an error if it isn't the expected one."""
    result.raise_for_error()
    if result.return_value != expected:
        raise ValueError(f"{call} returned {result.return_value!r} instead of {expected!r}")
    print(f"  {call:<46} {result.return_value}")


def show_progress(progress: TaskProgress[int] | None) -> None:
    """Draw a progress bar; on a terminal, over the previous one."""
    done = (progress.meta if progress else None) or 0
    bar = "#" * done + "." * (CAKES - done)
    print(
        f"  [{bar}] {done} of {CAKES} cakes", end="\r" if sys.stdout.isatty() else "\n", flush=True
    )


def main() -> None:
    known_id = asyncio.run(send_from_asyncio())
    send_from_blocking_code()
    send_by_name(known_id)


if __name__ == "__main__":
    main()
