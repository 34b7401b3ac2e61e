"""Programs of three variants: `old` runs 1.2.4, `async` and `sync` run this version's twins.

`TASKIQ_REDIS_OLD_PYTHON` names a Python with taskiq-redis 1.2.4; without it, tests that need one are
skipped. `nox -s compat` creates one.
"""

import dataclasses
import json
import os
import select
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import ROOT, Program
from tests.servers import Topology
from tests.waiting import TIMEOUT

PROGRAMS = Path(__file__).with_name("programs")
VARIABLE = "TASKIQ_REDIS_OLD_PYTHON"
#: variants, and the prefixes of their class names
VARIANTS = {"old": "", "async": "", "sync": "Sync"}


def python_of(variant: str) -> str:
    """Return the Python of a variant, or skip the test if it is missing."""
    if variant != "old":
        return sys.executable
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} doesn't name a Python with taskiq-redis 1.2.4")
    return python


def environment_of(variant: str) -> dict[str, str]:
    """Return environment variables that let a variant import its version of the package."""
    return {"PYTHONPATH": "" if variant == "old" else str(ROOT), "PYTHONUNBUFFERED": "1"}


def describe(topology: Topology) -> dict[str, Any]:
    """Describe servers as JSON for a program that can't import these tests."""
    return dataclasses.asdict(topology)


class Peer:
    """A program that runs functions of `programs/peer.py` for a test.

    Args:
        variant: variant that it runs.
    """

    def __init__(self, variant: str) -> None:
        self._process = subprocess.Popen(
            [python_of(variant), "peer.py", VARIANTS[variant]],
            cwd=PROGRAMS,
            env={**os.environ, **environment_of(variant)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start_call(self, function: str, **arguments: Any) -> None:
        """Start a function; call `read_reply` before the next one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
        self._process.stdin.flush()

    def read_reply(self) -> Any:
        """Wait for the function that was started, and return its return value."""
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], TIMEOUT)
        assert ready, "the peer doesn't answer"
        answer = json.loads(output.readline())
        assert "raised" not in answer, answer["raised"]
        return answer["returned"]

    def call(self, function: str, **arguments: Any) -> Any:
        """Run a function, and return its return value."""
        self.start_call(function, **arguments)
        return self.read_reply()

    def close(self) -> None:
        """Close its input, and wait until it exits."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()


class Peers:
    """One peer of each variant, started on first use."""

    def __init__(self) -> None:
        self._started: dict[str, Peer] = {}

    def __getitem__(self, variant: str) -> Peer:
        if variant not in self._started:
            self._started[variant] = Peer(variant)
            about = self._started[variant].call("about")
            assert about == {"old": variant == "old", "twin": VARIANTS[variant]}
        return self._started[variant]

    def close(self) -> None:
        """Close all started peers."""
        for peer in self._started.values():
            peer.close()


@dataclasses.dataclass(frozen=True)
class Launcher:
    """Start the workers and schedulers of a test, which all run the same application.

    Args:
        topology: the servers.
        name: name of the queue, and prefix of results and schedules.
        folder: folder for logs and the record of runs.
        stack: exit stack that kills the programs.
    """

    topology: Topology
    name: str
    folder: Path
    stack: ExitStack

    def worker(self, variant: str, mechanism: str, *arguments: str) -> Program:
        """Start a worker, and wait until it listens; the variant `sync` has its own loop."""
        taskiq = ["-m", "taskiq", "worker", "app:broker", "--workers=1", "--max-async-tasks=2"]
        command = ["consume.py"] if variant == "sync" else [*taskiq, *arguments]
        program = self._start(variant, command, MECHANISM=mechanism)
        program.says("Listening started")
        return program

    def scheduler(self, variant: str, source: str) -> Program:
        """Start a scheduler that reads schedules each second, and sends to a list."""
        command = ["-m", "taskiq", "scheduler", "app:scheduler", "--update-interval=1"]
        program = self._start(variant, command, MECHANISM="list", SOURCE=source)
        program.says("Startup completed")
        return program

    def _start(self, variant: str, command: list[str], **environment: str) -> Program:
        everything = {
            "WHERE": json.dumps(describe(self.topology)),
            "NAME": self.name,
            "VARIANT": variant,
            "RECORD": str(self._record),
            **environment_of(variant),
            **environment,
        }
        log = self.folder / f"{variant}-{len(list(self.folder.iterdir()))}.log"
        program = Program([python_of(variant), *command], everything, log, PROGRAMS)
        self.stack.callback(program.kill)
        if variant != "old":
            self.stack.callback(program.check_log)
        return program

    @property
    def _record(self) -> Path:
        return self.folder / "record"

    @property
    def ran(self) -> Counter[tuple[int, str]]:
        """How often each variant ran each number."""
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return Counter((int(number), by) for number, by in map(str.split, lines))
