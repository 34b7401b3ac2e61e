"""An application for workers and schedulers, which both versions run unchanged."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from objects import OLD, build
from taskiq import TaskiqScheduler

WHERE = json.loads(os.environ["WHERE"])
NAME = os.environ["NAME"]
#: variant that runs this
VARIANT = os.environ["VARIANT"]
#: file with one line for each run of a task
RECORD = Path(os.environ["RECORD"])

MECHANISM = os.environ["MECHANISM"]
#: options that 1.2.4 doesn't have
OPTIONS = {} if OLD or MECHANISM == "pubsub" else {"keep_failed": True}

broker = build(WHERE, MECHANISM, queue_name=NAME, **OPTIONS)
broker = broker.with_result_backend(build(WHERE, "results", prefix_str=NAME))
scheduler = TaskiqScheduler(broker, [build(WHERE, os.environ.get("SOURCE", "keys"), prefix=NAME)])


def note(number: int) -> None:
    """Record a run of a number."""
    with RECORD.open("a") as record:
        record.write(f"{number} {VARIANT}\n")


@broker.task(task_name="work")
async def work(number: int, seconds: float = 0.0) -> dict[str, Any]:
    """Return the number and the variant that ran it."""
    note(number)
    await asyncio.sleep(seconds)
    return {"number": number, "by": VARIANT}
