"""Start scripts and sites that use blocking classes, and the workers that run their tasks."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.programs import Program
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.waiting import wait_until


@dataclass
class BlockingPrograms:
    """Starts programs and workers on one queue, and counts the runs of each task.

    Keyword arguments of methods that start a program change the setting for this program.

    Args:
        setting: setting of the test.
        records: records of the programs.
        start_program: starts a program.
        start_worker: starts a worker, and waits until it listens.
    """

    setting: Setting
    records: Records
    start_program: Callable[..., Program]
    start_worker: Callable[..., Program]
    workers: list[Program] = field(default_factory=list)

    def start(self, *arguments: str, **changes: Any) -> Program:
        """Start a Python program, which must not print any traceback."""
        program = self.start_program([sys.executable, *arguments], **changes)
        program.expected.clear()
        return program

    def script(self, name: str, *arguments: str, **changes: Any) -> Program:
        """Start a module of `tests.e2e.scripts`, with all warnings shown."""
        module = f"tests.e2e.scripts.{name}"
        return self.start("-W", "default", "-m", module, *arguments, **changes)

    def worker(self, *arguments: str, **changes: Any) -> Program:
        """Start a worker, and wait until it listens."""
        app = "tests.e2e.apps.twins:broker"
        self.workers.append(self.start_worker(*arguments, app=app, role="worker", **changes))
        return self.workers[-1]

    def runs(self) -> Counter[str]:
        """Return the number of runs by name."""
        return self.records.tally("ran", "name")

    def wait_for_runs(self, expected: Mapping[str, int]) -> None:
        """Wait until all expected runs are recorded, and fail if there are others."""
        wanted = Counter(dict(expected))
        wait_until(lambda: not wanted - self.runs(), what="all tasks")
        assert self.runs() == wanted

    def connections(self) -> set[str]:
        """Return the connections of the programs, without workers and schedulers."""
        return self.setting.connections()

    def wait_for_no_connections(self) -> None:
        """Wait until the programs have no connections."""
        wait_until(lambda: not self.connections(), what="the end of all connections")

    def check_workers(self) -> None:
        """Fail if workers have logged more tracebacks than failed tasks."""
        tracebacks = sum(worker.log.count("Traceback") for worker in self.workers)
        assert tracebacks == self.runs()["fail"]
