"""Who takes part in a mixture: programs of 1.2.4, of our async classes, and of their twins.

`TASKIQ_REDIS_OLD_PYTHON` names a Python that has taskiq-redis 1.2.4; without it, mixtures are
skipped. `nox -s compat` makes one.
"""

import dataclasses
import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import ROOT, Program
from tests.servers import Topology
from tests.waiting import TIMEOUT

PROGRAMS = Path(__file__).with_name("programs")
VARIABLE = "TASKIQ_REDIS_OLD_PYTHON"
#: what the names of the classes begin with, by who uses them
TWINS = {"old": "", "async": "", "sync": "Sync"}


def python_of(member: str) -> str:
    """Return the Python that a member runs on, or skip the test where it isn't there."""
    if member != "old":
        return sys.executable
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} doesn't name a Python with taskiq-redis 1.2.4")
    return python


def environment_of(member: str) -> dict[str, str]:
    """Return what lets a member find its version of the package, and no other."""
    return {"PYTHONPATH": "" if member == "old" else str(ROOT), "PYTHONUNBUFFERED": "1"}


def where(topology: Topology) -> dict[str, Any]:
    """Describe servers to a program that can't import these tests."""
    return dataclasses.asdict(topology)


class Peer:
    """A program that does what it is told.

    Args:
        member: with which version, and which twin.
    """

    def __init__(self, member: str) -> None:
        self._process = subprocess.Popen(
            [python_of(member), "peer.py", TWINS[member]],
            cwd=PROGRAMS,
            env={**os.environ, **environment_of(member)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, function: str, **arguments: Any) -> None:
        """Tell it what to do; `hear` what came of it before the next one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Wait until it has done that, and return what it returns."""
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], TIMEOUT)
        assert ready, "the peer doesn't answer"
        answer = json.loads(output.readline())
        assert "raised" not in answer, answer["raised"]
        return answer["returned"]

    def call(self, function: str, **arguments: Any) -> Any:
        """Let it do something, and return what that returns."""
        self.ask(function, **arguments)
        return self.hear()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()


class Peers:
    """One peer of each kind, started on first use."""

    def __init__(self) -> None:
        self._started: dict[str, Peer] = {}

    def __getitem__(self, member: str) -> Peer:
        if member not in self._started:
            self._started[member] = Peer(member)
            about = self._started[member].call("about")
            assert about == {"old": member == "old", "twin": TWINS[member]}
        return self._started[member]

    def close(self) -> None:
        """End those that were started."""
        for peer in self._started.values():
            peer.close()


@dataclasses.dataclass(frozen=True)
class Crew:
    """Starts the workers and schedulers of a test, which all run the same application.

    Args:
        topology: where Redis is.
        name: of the queue, and prefix of results and schedules.
        folder: where they write their logs, and what they ran.
        stack: ends them.
    """

    topology: Topology
    name: str
    folder: Path
    stack: ExitStack

    def worker(self, member: str, mechanism: str, *arguments: str) -> Program:
        """Start a worker, and wait until it listens; that of the twin is a loop of its own."""
        taskiq = ["-m", "taskiq", "worker", "app:broker", "--workers=1", "--max-async-tasks=2"]
        command = ["consume.py"] if member == "sync" else [*taskiq, *arguments]
        program = self._start(member, command, MECHANISM=mechanism)
        program.says("Listening started")
        return program

    def scheduler(self, member: str, source: str) -> Program:
        """Start a scheduler that looks for schedules each second, and sends to a list."""
        command = ["-m", "taskiq", "scheduler", "app:scheduler", "--update-interval=1"]
        program = self._start(member, command, MECHANISM="list", SOURCE=source)
        program.says("Startup completed")
        return program

    def _start(self, member: str, command: list[str], **environment: str) -> Program:
        everything = {
            "WHERE": json.dumps(where(self.topology)),
            "NAME": self.name,
            "BY": member,
            "RECORD": str(self._record),
            **environment_of(member),
            **environment,
        }
        log = self.folder / f"{member}-{len(list(self.folder.iterdir()))}.log"
        program = Program([python_of(member), *command], everything, log, PROGRAMS)
        self.stack.callback(program.kill)
        if member != "old":
            self.stack.callback(program.check_log)
        return program

    @property
    def _record(self) -> Path:
        return self.folder / "record"

    @property
    def ran(self) -> Counter[tuple[int, str]]:
        """How often each number was worked on by each member."""
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return Counter((int(number), by) for number, by in map(str.split, lines))


def crew_of(topology: Topology, name: str, folder: Path) -> Iterator[Crew]:
    """Yield a crew, and end it."""
    with ExitStack() as stack:
        yield Crew(topology, name, folder, stack)
