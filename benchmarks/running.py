"""Subjects under way, and the servers that they share: what all measuring programs need."""

import json
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
from tests.servers import (  # noqa: E402 - the package knows nothing of servers
    LocalCluster,
    LocalSentinel,
    ServerProcess,
)

#: figures that are not sums of what each run took
NOT_SUMS = {"p50", "p99", "kept"}


class Servers:
    """Servers of each kind that is needed: single, cluster or sentinel.

    Args:
        stack: ends them.
        kinds: which of them.
    """

    def __init__(self, stack: ExitStack, kinds: Sequence[str]) -> None:
        self._stack = stack
        #: by kind, what the constructors of brokers and result backends begin with
        self.arguments: dict[str, list[Any]] = {}
        #: by kind, clients of those servers that have the tasks
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
    """A program under way.

    Args:
        name: what it is called in the report.
        process: what answers.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process
        #: what it can measure
        self.measures: list[str] = self.read()

    def send(self, step: str, name: str, *arguments: int) -> None:
        """Let it do something."""
        assert self._process.stdin is not None
        asked = {"step": step, "name": name, "arguments": arguments}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        """Return what it says when that is done."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended unexpectedly")
        return json.loads(line)

    def ask(self, step: str, name: str, *arguments: int) -> dict[str, float]:
        """Let it do something, and return its figures."""
        self.send(step, name, *arguments)
        figures: dict[str, float] = self.read()
        return figures


@contextmanager
def started(name: str, program: str, python: str, servers: Servers) -> Iterator[Subject]:
    """Start a subject, and let it end."""
    path = HERE / "subjects" / f"{program}.py"
    command = [python, str(path), json.dumps(servers.arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Subject(name, process)
        except BaseException:
            process.kill()
            raise
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def figures_of(clients: Sequence[Any]) -> dict[str, float]:
    """Return what servers have done so far, all together."""
    cpu, commands = 0.0, 0
    for client in clients:
        used, stats = client.info("cpu"), client.info("commandstats")
        cpu += used["used_cpu_user"] + used["used_cpu_sys"]
        commands += sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")
    return {"server_cpu": cpu, "commands": commands}


def since(before: dict[str, float], clients: Sequence[Any]) -> dict[str, float]:
    """Return what servers have done since `figures_of` returned what they had done before."""
    return {key: value - before[key] for key, value in figures_of(clients).items()}


def per_run(figures: dict[str, float], runs: int) -> dict[str, float]:
    """Divide what is a sum by the number of runs."""
    return {key: value if key in NOT_SUMS else value / runs for key, value in figures.items()}


def tell(round_: int, rounds: int, what: str, figures: dict[str, float]) -> None:
    """Show how far it is; the first round is to warm up."""
    took = f"{figures['cpu'] * 1e6:.0f} µs"
    print(f"round {round_}/{rounds}, {what}: {took}", file=sys.stderr)


def about(client: Any) -> dict[str, str]:
    """Say with what it was measured."""
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


def write(name: str, rows: Any, where: dict[str, str], told: str) -> Path:
    """Write and print what came out, and return where a chart goes."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps({"with": where, "rows": rows}, indent=1))
    (results / f"{name}.md").write_text(told)
    print(told)
    return results / f"{name}.png"
