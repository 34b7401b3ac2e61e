"""Fixtures for real programs, their records, and async and blocking clients."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from taskiq_redis._taskiq.portal import stop_portal
from tests._async.support import on_all_nodes
from tests.e2e.blocking_programs import BlockingPrograms
from tests.e2e.clients import AsyncClient, SyncClient
from tests.e2e.programs import ROOT, Program, taskiq
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import KINDS, Topology, client_of
from tests.waiting import wait_until

Start = Callable[..., Program]
Clients = tuple[AsyncClient, SyncClient]

slow = pytest.mark.slow
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)
#: on all topologies, but in short runs only on one, if other tests of the file cover all of them
mostly_on_one_server = pytest.mark.parametrize(
    "topology",
    ["single", pytest.param("cluster", marks=slow), pytest.param("sentinel", marks=slow)],
    indirect=True,
)
#: streams on all topologies; in short runs, lists on one only
mostly_streams = pytest.mark.parametrize(
    ("topology", "mechanism"),
    [
        pytest.param(kind, what, marks=[] if kind == "single" or what == "stream" else slow)
        for kind in KINDS
        for what in ("stream", "list")
    ],
    indirect=["topology"],
)


@pytest.fixture
def mechanism() -> str:
    """Return the kind of broker; tests parametrise it to use another one."""
    return "stream"


@pytest.fixture
def setting(topology: Topology, name: str, mechanism: str, tmp_path: Path) -> Setting:
    """Return the setting that this test's programs read from their environment."""
    return Setting(topology, name, mechanism, records=str(tmp_path / "records"))


@pytest.fixture
def records(setting: Setting) -> Records:
    """Return the records of this test's programs."""
    return Records(Path(setting.records))


@pytest.fixture
def connect() -> Iterator[Callable[[Any], Clients]]:
    """Return a function that makes two clients: one with a broker, and one with its blocking twin."""
    with ExitStack() as stack:
        # The portal runs async middlewares for the twin, and would otherwise outlive the test.
        stack.callback(stop_portal)

        def make_clients(broker: Any) -> Clients:
            both = AsyncClient(broker), SyncClient(broker)
            for client in both:
                stack.callback(client.close)
            return both

        yield make_clients


@pytest.fixture
def clients(setting: Setting, connect: Callable[[Any], Clients]) -> Clients:
    """Return an async and a blocking client for the queue of this test."""
    return connect(setting.broker())


@pytest.fixture
def start(setting: Setting, tmp_path: Path) -> Iterator[Start]:
    """Start programs, and stop them at the end; a failure or a complaint in a log fails the test.

    Keyword arguments are changes of the setting for this program.
    """
    programs: list[Program] = []
    numbers = count(1)

    def start_program(command: list[str], *, folder: Path = ROOT, **changes: Any) -> Program:
        environment = dataclasses.replace(setting, **changes).environment()
        log = tmp_path / f"program-{next(numbers)}.log"
        programs.append(Program(command, environment, log, folder))
        return programs[-1]

    with ExitStack() as stack:
        yield start_program
        for program in programs:
            stack.callback(program.kill)
        running = [program for program in programs if program.process.poll() is None]
        codes = [program.stop() for program in running]
        for program in programs:
            program.check_log()
        assert codes == [program.proper_end for program in running]


@pytest.fixture
def worker(start: Start, setting: Setting) -> Start:
    """Start `taskiq worker`, and wait until all of its processes listen."""

    def start_worker(
        *arguments: str,
        app: str = "tests.e2e.apps.tasks:broker",
        processes: int = 1,
        uvloop: bool = True,
        **changes: Any,
    ) -> Program:
        command = taskiq("worker", app, *arguments, f"--workers={processes}", uvloop=uvloop)
        program = start(command, **changes)
        program.says("Listening started", processes)
        if setting.mechanism == "pubsub":
            # Messages that are published before the subscription are lost.
            wait_until(lambda: subscribers(setting) == processes)
        return program

    return start_worker


@pytest.fixture
def scheduler(start: Start) -> Start:
    """Start `taskiq scheduler`, with sources read every second."""

    def start_scheduler(
        *arguments: str, app: str = "tests.e2e.apps.scheduled:scheduler", **changes: Any
    ) -> Program:
        program = start(taskiq("scheduler", app, "--update-interval=1", *arguments), **changes)
        # The scheduler handles no other signal.
        program.stop_signal = SIGINT
        if sys.version_info < (3, 11):
            # Before 3.11, asyncio raises KeyboardInterrupt at any point of the running code.
            program.proper_end, program.ends_in_order = -SIGINT, False
        program.says("Startup completed.")
        return program

    return start_scheduler


@pytest.fixture
def programs(
    setting: Setting, records: Records, start: Start, worker: Start
) -> Iterator[BlockingPrograms]:
    """Start scripts and sites that use blocking classes, and the workers that run their tasks."""
    blocking_programs = BlockingPrograms(setting, records, start, worker)
    yield blocking_programs
    blocking_programs.check_workers()


def subscribers(setting: Setting) -> int:
    """Return the number of subscribers to the channel, on all nodes together."""
    replies = on_all_nodes(setting.topology, lambda node: node.pubsub_numsub(setting.name))
    return sum(number for reply in replies for _, number in reply)


def queue_is_drained(setting: Setting) -> bool:
    """Return whether the queue is empty, or all of its messages are acknowledged."""
    client = client_of(setting.topology)
    if setting.mechanism == "list":
        return client.llen(setting.name) == 0
    (group,) = client.xinfo_groups(setting.name)
    newest = client.xinfo_stream(setting.name)["last-generated-id"]
    return group["pending"] == 0 and group["last-delivered-id"] == newest
