"""Real workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import Topology, wait_until

ROOT = Path(__file__).parent.parent.parent
#: s; only guards against a worker that hangs
PATIENCE = 30

Worker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def environment(topology: Topology, name: str) -> dict[str, str]:
    """What tells the workers where to listen."""
    return {
        **os.environ,
        "KIND": topology.kind,
        "URL": topology.url,
        "SENTINELS": " ".join(f"{host}:{port}" for host, port in topology.sentinels),
        "NAME": name,
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    """Start `taskiq worker`s, which end with the test; one that failed fails it."""
    running: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "worker.log"

    def start(*arguments: str, mechanism: str = "stream") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "taskiq", "worker", "tests.e2e.tasks:broker", *arguments]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, "MECHANISM": mechanism},
                stdout=output,
                stderr=output,
            )
        running.append(process)
        wait_until(
            lambda: log.read_bytes().count(b"Listening started"),
            timeout=PATIENCE,
            what=f"a worker that listens: {log.read_text()}",
        )
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    output = log.read_text() if log.exists() else ""
    assert "Traceback" not in output or "ValueError: as it should" in output, output
