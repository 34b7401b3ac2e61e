"""Real servers and real workers, and what happens to them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import (
    Clients,
    Start,
    clients,
    connect,
    mechanism,
    records,
    setting,
    start,
)
from tests.e2e.programs import Program, taskiq
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.load import Scene
from tests.servers import QUICK, LocalCluster, LocalSentinel, ServerProcess

__all__ = ["clients", "connect", "mechanism", "records", "setting", "start"]

#: what a server keeps that is killed
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
GROUPS: dict[str, Callable[[], Any]] = {
    "volatile": ServerProcess,
    "single": lambda: ServerProcess(extra=DURABLE),
    # ms; after that, a node that is gone is replaced
    "cluster": lambda: LocalCluster(extra={"cluster-node-timeout": "2000", **DURABLE}),
    "sentinel": lambda: LocalSentinel(extra=DURABLE, down_after=QUICK),
}


@pytest.fixture
def own_servers() -> Iterator[Callable[[str], Any]]:
    """Start a topology of a kind that no other test uses, and that may be broken."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(GROUPS[kind]())


@pytest.fixture
def servers(request: pytest.FixtureRequest, own_servers: Callable[[str], Any]) -> Any:
    """Servers that this test may break; it is parametrised with their kind."""
    return own_servers(request.param)


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


@pytest.fixture
def scene(
    servers: Any,
    setting: Setting,
    records: Records,
    clients: Clients,
    worker: Start,
    start: Start,
) -> Iterator[Scene]:
    """Workers and producers on servers of their own."""
    made = Scene(servers, setting, records, clients, worker, start)
    yield made
    made.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have measured, by their `record_property`."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if reports:
        terminalreporter.section("measured")
    for report in reports:
        measured = ", ".join(f"{name}: {value}" for name, value in report.user_properties)
        terminalreporter.line(f"{report.nodeid.rpartition('::')[2]}: {measured}")
