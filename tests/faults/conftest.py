"""Real servers and real workers, and what happens to them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import (
    Start,
    clients,
    connect,
    mechanism,
    records,
    setting,
    start,
)
from tests.e2e.programs import Program, taskiq
from tests.servers import LocalCluster, LocalSentinel, ServerProcess

__all__ = ["clients", "connect", "mechanism", "records", "setting", "start"]

#: what a server keeps that is killed
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
GROUPS: dict[str, Callable[[], Any]] = {
    "single": lambda: ServerProcess(extra=DURABLE),
    "cluster": lambda: LocalCluster(extra=DURABLE),
    "sentinel": lambda: LocalSentinel(extra=DURABLE),
}


@pytest.fixture
def own_servers() -> Iterator[Callable[[str], Any]]:
    """Start a topology of a kind that no other test uses, and that may be broken."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(GROUPS[kind]())


@pytest.fixture
def worker(start: Start, tmp_path: Path) -> Start:
    """Start `taskiq worker` with one process, and wait until it listens, unless it isn't `awaited`.

    The program is the whole: killing it kills the worker process, too.
    """

    def start_worker(
        *arguments: str, slots: int = 10, awaited: bool = True, **changes: Any
    ) -> Program:
        command = taskiq(
            "worker", "tests.faults.apps.work:broker", *arguments, "--workers=1",
            f"--max-async-tasks={slots}",
        )  # fmt: skip
        program = start(command, **changes)
        if awaited:
            program.says("Listening started")
        return program

    return start_worker


@pytest.fixture(autouse=True)
def _tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Show what a test has measured, by its `record_property`."""
    yield
    measured = ", ".join(f"{name}: {value}" for name, value in request.node.user_properties)
    if measured:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {measured}")
