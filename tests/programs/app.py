"""What the programs of these tests have in common: tasks for the workers, and blocking twins."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from taskiq import TaskiqDepends, TaskiqScheduler
from taskiq.depends.progress_tracker import ProgressTracker

from taskiq_redis import to_sync
from tests._async.support import build
from tests.servers import Topology

TOPOLOGY = Topology(**json.loads(os.environ["TOPOLOGY"]))
NAME = os.environ["NAME"]
#: where each run of a task is noted: outside of Redis, so that Redis can't be wrong about it
RECORD = Path(os.environ["RECORD"])
#: the tests count connections by it
CLIENT = {"client_name": os.environ["CLIENT_NAME"]}

results = build(TOPOLOGY, "results", prefix_str=NAME, **CLIENT)
source = build(TOPOLOGY, "indexed", prefix=f"{{{NAME}}}:schedule", **CLIENT)
broker = build(
    TOPOLOGY,
    os.environ["MECHANISM"],
    queue_name=NAME,
    **json.loads(os.environ["OPTIONS"]),
    **CLIENT,
).with_result_backend(results)
scheduler = TaskiqScheduler(broker, [source])

sync_broker = to_sync(broker)
sync_results: Any = sync_broker.result_backend
sync_source = to_sync(source)


def note(what: object) -> None:
    """Write a line into the record, which other processes write to as well."""
    descriptor = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what}\n".encode())
    finally:
        os.close(descriptor)


@broker.task
async def record(what: str) -> str:
    """Note that it ran."""
    note(what)
    return what


@broker.task
async def report(steps: int, progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Say how far it is, and wait a little after each step, so that somebody can see it."""
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
