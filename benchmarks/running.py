"""Start subjects, and the servers that they share."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis import Redis

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tests.servers import (  # noqa: E402 - the servers of the tests
    LocalCluster,
    LocalSentinel,
    ServerProcess,
)

#: figures that are not sums over all runs
NOT_SUMS = {"p50", "p99", "kept"}


class Servers:
    """Servers of each kind: single, cluster or sentinel.

    Args:
        stack: exit stack that stops them.
        kinds: kinds to start.
    """

    def __init__(self, stack: ExitStack, kinds: Sequence[str]) -> None:
        self._stack = stack
        #: by kind, the first arguments of brokers and result backends
        self.arguments: dict[str, list[Any]] = {}
        #: by kind, clients of the servers that hold the tasks
        self.clients: dict[str, list[Redis]] = {}
        for kind in kinds:
            self.arguments[kind], urls = getattr(self, f"_start_{kind}")()
            self.clients[kind] = [stack.enter_context(Redis.from_url(url)) for url in urls]

    def _start_single(self) -> tuple[list[Any], list[str]]:
        url = self._stack.enter_context(ServerProcess()).url
        return [url], [url]

    def _start_cluster(self) -> tuple[list[Any], list[str]]:
        cluster = self._stack.enter_context(LocalCluster())
        urls = [process.url for process in cluster.primaries]
        return urls[:1], urls

    def _start_sentinel(self) -> tuple[list[Any], list[str]]:
        group = self._stack.enter_context(LocalSentinel())
        sentinels, name = group.topology.sentinels, group.topology.master_name
        return [sentinels, name], [group.master().url]


class Subject:
    """A running subject.

    Args:
        name: its name in the report.
        process: its process.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process
        #: measurements that it supports
        self.measures: list[str] = self.read()

    def send(self, step: str, name: str, *arguments: int) -> None:
        """Send a request."""
        assert self._process.stdin is not None
        asked = {"step": step, "name": name, "arguments": arguments}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        """Return the reply to a request."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended unexpectedly")
        return json.loads(line)

    def ask(self, step: str, name: str, *arguments: int) -> dict[str, float]:
        """Send a request, and return its figures."""
        self.send(step, name, *arguments)
        figures: dict[str, float] = self.read()
        return figures


def environment_of(python: str) -> dict[str, str]:
    """Return the environment in which a Python imports its own version of taskiq-redis."""
    path = str(HERE.parent) if python == sys.executable else ""
    return {**os.environ, "PYTHONPATH": path}


@contextmanager
def started(
    name: str, program: str, python: str, servers: Servers, **variables: str
) -> Iterator[Subject]:
    """Start a subject, and let it end at the end of the block.

    Args:
        name: its name in the report.
        program: its module in `subjects`.
        python: Python that runs it.
        servers: the servers.
        variables: more environment variables.
    """
    path = HERE / "subjects" / f"{program}.py"
    command = [python, str(path), json.dumps(servers.arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env={**environment_of(python), **variables}
    ) as process:
        try:
            yield Subject(name, process)
        except BaseException:
            process.kill()
            raise
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def figures_of(clients: Sequence[Any]) -> dict[str, float]:
    """Return the CPU time and commands of all servers so far."""
    cpu, commands = 0.0, 0
    for client in clients:
        used, stats = client.info("cpu"), client.info("commandstats")
        cpu += used["used_cpu_user"] + used["used_cpu_sys"]
        commands += sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")
    return {"server_cpu": cpu, "commands": commands}


def since(before: dict[str, float], clients: Sequence[Any]) -> dict[str, float]:
    """Return the CPU time and commands of all servers since an earlier `figures_of`."""
    return {key: value - before[key] for key, value in figures_of(clients).items()}


def per_run(figures: dict[str, float], runs: int) -> dict[str, float]:
    """Divide sums by the number of runs."""
    return {key: value if key in NOT_SUMS else value / runs for key, value in figures.items()}


def log_progress(round_: int, rounds: int, what: str, figures: dict[str, float]) -> None:
    """Print progress. The first round only warms up."""
    took = f"{figures['cpu'] * 1e6:.0f} µs"
    print(f"round {round_}/{rounds}, {what}: {took}", file=sys.stderr)


def about(client: Any) -> dict[str, str]:
    """Return the machine and the versions."""
    server = client.info("server")
    names = ("valkey_version", "redis_version")
    number = next(server[name] for name in names if name in server)
    return {
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "redis-py": version("redis"),
        "taskiq": version("taskiq"),
        "server": f"{server.get('server_name', 'redis')} {number}",
    }


def write(name: str, rows: Any, where: dict[str, str], report: str) -> Path:
    """Write and print the results, and return the path for a chart."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps({"with": where, "rows": rows}, indent=1))
    (results / f"{name}.md").write_text(report)
    print(report)
    return results / f"{name}.png"
