"""What the workers of the tests run."""

import asyncio
import os

from taskiq import TaskiqDepends, async_shared_broker
from taskiq.depends.progress_tracker import ProgressTracker

from tests._async.support import build
from tests.servers import Topology

TOPOLOGY = Topology(
    kind=os.environ.get("KIND", "single"),  # type: ignore[arg-type]
    url=os.environ.get("URL", "redis://127.0.0.1:1"),
    sentinels=tuple(
        (host, int(port))
        for host, _, port in (
            address.partition(":") for address in os.environ.get("SENTINELS", "").split()
        )
    ),
    master_name="mymaster",
)

NAME = os.environ.get("NAME", "e2e")
broker = build(TOPOLOGY, os.environ.get("MECHANISM", "stream"), queue_name=NAME)
broker.with_result_backend(build(TOPOLOGY, "results", prefix_str=NAME))


@broker.task
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@broker.task
def add_in_thread(a: int, b: int) -> int:
    """Add two numbers, without an event loop."""
    return a + b


@broker.task
async def fail() -> None:
    """Raise an error."""
    raise ValueError("as it should")


@broker.task
async def report(progress: ProgressTracker[int] = TaskiqDepends()) -> str:
    """Say how far it is, until it is told to end."""
    await progress.set_progress("half", meta=50)
    await asyncio.sleep(0.5)
    return "reported"


@async_shared_broker.task
async def shared() -> str:
    """Belong to no broker."""
    return "shared"
