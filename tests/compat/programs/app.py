"""The worker's and the scheduler's side of an application; both versions run it as it is."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from objects import build
from taskiq import TaskiqScheduler

WHERE = json.loads(os.environ["WHERE"])
NAME = os.environ["NAME"]
#: who runs this
BY = os.environ["BY"]
#: outside of Redis, one line for each time that a task began
RECORD = Path(os.environ["RECORD"])

broker = build(WHERE, os.environ["MECHANISM"], queue_name=NAME)
broker = broker.with_result_backend(build(WHERE, "results", prefix_str=NAME))
scheduler = TaskiqScheduler(broker, [build(WHERE, os.environ.get("SOURCE", "keys"), prefix=NAME)])


def note(number: int) -> None:
    """Record that work on a number began."""
    with RECORD.open("a") as record:
        record.write(f"{number} {BY}\n")


@broker.task(task_name="work")
async def work(number: int, seconds: float = 0.0) -> dict[str, Any]:
    """Tell who works on what."""
    note(number)
    await asyncio.sleep(seconds)
    return {"number": number, "by": BY}
