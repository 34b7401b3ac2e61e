"""Real programs beside real workers, and a record of what ran."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests._sync.support import connections_named
from tests.servers import Topology
from tests.waiting import TIMEOUT, wait_until

ROOT = Path(__file__).parent.parent.parent


class Program:
    """A program that runs beside the test, in a process group of its own.

    Args:
        command: what to run.
        environment: its whole environment.
        log: where its output goes.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has written until now, errors included."""
        return self.log.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has written something."""

        def said() -> bool:
            if self.process.poll() is not None and self.output.count(text) < times:
                pytest.fail(f"ended with {self.process.returncode} without {text!r}: {self.output}")
            return self.output.count(text) >= times

        try:
            wait_until(said, timeout=TIMEOUT)
        except TimeoutError:
            pytest.fail(f"no {text!r} in {self.output}")

    def pauses(self, times: int = 1) -> list[str]:
        """Wait until a script has paused so often, and return what it said for the last time."""
        self.says("\n", times)
        wait_until(lambda: len(self._pauses()) >= times, timeout=TIMEOUT, what=self.output)
        return self._pauses()[-1].split()

    def _pauses(self) -> list[str]:
        return re.findall("^pause:(.*)\n", self.output, re.MULTILINE)

    def go_on(self) -> None:
        """Let a script go on that has paused."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def ends(self, code: int = 0, tracebacks: int | None = 0) -> str:
        """Wait for its end, and return what it wrote, with so many tracebacks (None: any number)."""
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            # The tracebacks of all threads, as faulthandler is on.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(TIMEOUT)
            pytest.fail(f"it did not end: {self.output}")
        assert self.process.returncode == code, self.output
        assert tracebacks in {self.output.count("Traceback"), None}, self.output
        assert "Exception ignored" not in self.output
        return self.output

    def stop(self, number: signal.Signals = signal.SIGTERM, **end: int | None) -> str:
        """Send it a signal, and wait for its end."""
        self.process.send_signal(number)
        return self.ends(**end)

    def kill(self) -> None:
        """End it and its children, whatever they do."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


class World:
    """Starts programs and workers on one queue, and knows what was run.

    Args:
        topology: where the queue is.
        name: of the queue, and in all other keys.
        folder: for logs and the record.
    """

    def __init__(self, topology: Topology, name: str, folder: Path) -> None:
        self.topology = topology
        self.name = name
        self.folder = folder
        self.record = folder / "record"
        self.programs: list[Program] = []

    def start(
        self, *command: str, client: str = "program", mechanism: str = "stream", **options: Any
    ) -> Program:
        """Start a program with Python, which sees `app`.

        Args:
            command: what stands behind ``python``.
            client: a part of the name of its connections.
            mechanism: of its broker.
            options: of its broker; ``env_...`` are environment variables.
        """
        variables = {key[4:]: options.pop(key) for key in list(options) if key[:4] == "env_"}
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "TOPOLOGY": json.dumps(dataclasses.asdict(self.topology)),
            "NAME": self.name,
            "CLIENT_NAME": f"{self.name}-{client}",
            "RECORD": str(self.record),
            "MECHANISM": mechanism,
            "OPTIONS": json.dumps(options),
            **variables,
        }
        log = self.folder / f"{len(self.programs)}-{client}.log"
        self.programs.append(Program([sys.executable, *command], environment, log))
        return self.programs[-1]

    def script(self, script: str, *arguments: str, **options: Any) -> Program:
        """Start one of the scripts, in a Python that shows all warnings."""
        return self.start(
            "-W", "default", "-m", f"tests.programs.scripts.{script}", *arguments, **options
        )

    def worker(self, *arguments: str, **options: Any) -> Program:
        """Start a ``taskiq worker``, and wait until it listens."""
        command = ("-m", "taskiq", "worker", "tests.programs.app:broker", "--workers", "1")
        program = self.start(*command, *arguments, **{"client": "worker", **options})
        program.says("Listening started")
        return program

    def ran(self) -> Counter[str]:
        """Count what ran, by what it noted."""
        return Counter(self.record.read_text().splitlines() if self.record.exists() else ())

    def has_run(self, expected: Mapping[str, int]) -> None:
        """Wait until all of it has run; anything more often than that fails."""
        wanted = Counter(dict(expected))
        wait_until(lambda: not wanted - self.ran(), timeout=TIMEOUT, what="all tasks")
        assert self.ran() == wanted

    def connections(self, client: str = "program") -> set[str]:
        """Return the connections that a program has at the moment."""
        return connections_named(self.topology, f"{self.name}-{client}")

    def no_connections(self, client: str = "program") -> None:
        """Wait until a program has no connections left."""
        wait_until(lambda: not self.connections(client), what="the end of all connections")


@pytest.fixture
def world(topology: Topology, name: str, tmp_path: Path) -> Iterator[World]:
    """Programs and workers that end with the test; a worker has to end well."""
    made = World(topology, name, tmp_path)
    yield made
    try:
        for program in made.programs:
            if program.process.poll() is None and program.log.stem.endswith("worker"):
                program.stop(tracebacks=made.ran()["fail"])
    finally:
        for program in made.programs:
            program.kill()
