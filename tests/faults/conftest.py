"""Fixtures for real servers and workers under faults."""

import dataclasses
import faulthandler
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
from tests.faults.load import Deployment
from tests.faults.schedulers import Schedulers
from tests.servers import FAST_FAILOVER, LocalCluster, LocalSentinel, ServerProcess

__all__ = ["clients", "connect", "mechanism", "records", "setting", "start"]

#: options by which a killed server loses no data
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
GROUPS: dict[str, Callable[[], Any]] = {
    "volatile": ServerProcess,
    "single": lambda: ServerProcess(extra=DURABLE),
    # ms; time until a lost node is replaced
    "cluster": lambda: LocalCluster(extra={"cluster-node-timeout": "2000", **DURABLE}),
    "sentinel": lambda: LocalSentinel(extra=DURABLE, down_after=FAST_FAILOVER),
}


#: s; time limit of slow tests with schedulers
LONGEST_TEST = 600


@pytest.fixture
def own_servers() -> Iterator[Callable[[str], Any]]:
    """Return a function that starts servers of a kind for this test alone, which may break them."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(GROUPS[kind]())


@pytest.fixture
def servers(request: pytest.FixtureRequest, own_servers: Callable[[str], Any]) -> Any:
    """Start servers that this test may break; parametrised with their kind."""
    return own_servers(request.param)


@pytest.fixture
def worker(start: Start, tmp_path: Path) -> Start:
    """Start `taskiq worker` with one process; if `awaited`, wait until it listens.

    Killing the program also kills its worker process.
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
def deployment(
    servers: Any,
    setting: Setting,
    records: Records,
    clients: Clients,
    worker: Start,
    start: Start,
) -> Iterator[Deployment]:
    """Start workers and producers on servers of this test alone."""
    deployment = Deployment(servers, setting, records, clients, worker, start)
    yield deployment
    deployment.stop()


@pytest.fixture
def schedulers(
    request: pytest.FixtureRequest, setting: Setting, records: Records, start: Start
) -> Schedulers:
    """Start schedulers on a source; `indirect` parameters are its kind, by default `indexed`."""
    if request.node.get_closest_marker("slow"):
        # These tests take longer than the limit for all others.
        faulthandler.dump_traceback_later(LONGEST_TEST, exit=True, file=2)
    kind = getattr(request, "param", "indexed")
    made = dataclasses.replace(setting, extras={**setting.extras, "source": kind})
    return Schedulers(made, records, start)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the measurements that tests pass to `record_property`."""
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
