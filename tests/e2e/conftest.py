"""Real programs, what they record, and clients of both worlds."""

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
from tests.e2e.clients import AsyncClient, SyncClient
from tests.e2e.programs import ROOT, Program, taskiq
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.e2e.world import World
from tests.servers import KINDS, Topology, client_of
from tests.waiting import wait_until

Start = Callable[..., Program]
Clients = tuple[AsyncClient, SyncClient]

slow = pytest.mark.slow
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)
#: on all topologies, but in short runs only on one, as others of the file are on all of them
mostly_on_one_server = pytest.mark.parametrize(
    "topology",
    ["single", pytest.param("cluster", marks=slow), pytest.param("sentinel", marks=slow)],
    indirect=True,
)
#: streams on all topologies; others, in short runs, on one
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
    """The kind of broker; a test that wants another one is parametrised with it."""
    return "stream"


@pytest.fixture
def setting(topology: Topology, name: str, mechanism: str, tmp_path: Path) -> Setting:
    """What the programs of this test find in their environment."""
    return Setting(topology, name, mechanism, records=str(tmp_path / "records"))


@pytest.fixture
def records(setting: Setting) -> Records:
    """What the programs of this test have recorded."""
    return Records(Path(setting.records))


@pytest.fixture
def connect() -> Iterator[Callable[[Any], Clients]]:
    """Make a client of each world: one that has a broker, and one that has its twin."""
    with ExitStack() as stack:
        # It runs async middlewares for the twin, and would stay for the next one that needs it.
        stack.callback(stop_portal)

        def make_clients(broker: Any) -> Clients:
            both = AsyncClient(broker), SyncClient(broker)
            for client in both:
                stack.callback(client.close)
            return both

        yield make_clients


@pytest.fixture
def clients(setting: Setting, connect: Callable[[Any], Clients]) -> Clients:
    """A client of each world, for the queue of this test."""
    return connect(setting.broker())


@pytest.fixture
def start(setting: Setting, tmp_path: Path) -> Iterator[Start]:
    """Start programs, which end with the test; one that failed or complained fails it.

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
            # Who isn't subscribed yet would miss what is published.
            wait_until(lambda: subscribers(setting) == processes)
        return program

    return start_worker


@pytest.fixture
def scheduler(start: Start) -> Start:
    """Start `taskiq scheduler`, which reads its sources every second."""

    def start_scheduler(
        *arguments: str, app: str = "tests.e2e.apps.scheduled:scheduler", **changes: Any
    ) -> Program:
        program = start(taskiq("scheduler", app, "--update-interval=1", *arguments), **changes)
        # taskiq knows no other signal here.
        program.stop_signal = SIGINT
        if sys.version_info < (3, 11):
            # There, it raises KeyboardInterrupt in the middle of whatever runs, and in the end.
            program.proper_end, program.ends_in_order = -SIGINT, False
        program.says("Startup completed.")
        return program

    return start_scheduler


@pytest.fixture
def world(setting: Setting, records: Records, start: Start, worker: Start) -> Iterator[World]:
    """Scripts and sites that use blocking twins, beside a worker that runs their tasks."""
    made = World(setting, records, start, worker)
    yield made
    made.check_workers()


def subscribers(setting: Setting) -> int:
    """Count those who listen to the channel, on whichever node they are."""
    replies = on_all_nodes(setting.topology, lambda node: node.pubsub_numsub(setting.name))
    return sum(number for reply in replies for _, number in reply)


def queue_is_drained(setting: Setting) -> bool:
    """Tell whether the queue is empty, or everything in it is acknowledged."""
    client = client_of(setting.topology)
    if setting.mechanism == "list":
        return client.llen(setting.name) == 0
    (group,) = client.xinfo_groups(setting.name)
    newest = client.xinfo_stream(setting.name)["last-generated-id"]
    return group["pending"] == 0 and group["last-delivered-id"] == newest
