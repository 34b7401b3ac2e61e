"""Compare this project with others, side by side on one server: by CPU time above all.

    python benchmarks/compare.py [--subject NAME:PROGRAM=PYTHON ...] [--rounds N] [--only kiq,work]

Every subject (see `subjects/`) is a program of its own, in an environment of its own. They take
turns, measurement by measurement and round by round, so that whatever else the machine does hits
all of them. What comes out is in `benchmarks/results/`: medians, their spread, and ratios within
the run.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis import Redis
from report import Rows, as_markdown, draw

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tests.servers import ServerProcess  # noqa: E402 - the package knows nothing of servers

#: what is measured, and how often in a round
NUMBERS = {
    "kiq": 1000,
    "kiq_together": 5000,
    "kiq_many": 5000,
    "work": 2000,
    "work_results": 2000,
    "get_result": 1000,
    "round_trip": 100,
}
#: subjects that this project's own environment can run
OURS = {"ours": "taskiq_redis_async", "ours, blocking": "taskiq_redis_blocking", "floor": "floor"}
#: figures that are not sums of what each run took
NOT_SUMS = {"p50", "p99", "kept"}


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
        self.measures: list[str] = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended unexpectedly")
        return json.loads(line)

    def ask(self, step: str, name: str) -> dict[str, float]:
        """Let it do something, and return its figures."""
        assert self._process.stdin is not None
        asked = {"step": step, "name": name, "number": NUMBERS[name]}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        figures: dict[str, float] = self._read()
        return figures


@contextmanager
def started(name: str, program: str, python: str, url: str) -> Iterator[Subject]:
    """Start a subject, and let it end."""
    command = [python, str(HERE / "subjects" / f"{program}.py"), url]
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


def server_figures(client: Any) -> dict[str, float]:
    """Return what the server has done so far."""
    cpu, stats = client.info("cpu"), client.info("commandstats")
    calls = sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")
    return {"server_cpu": cpu["used_cpu_user"] + cpu["used_cpu_sys"], "commands": calls}


def measure(subject: Subject, name: str, client: Any) -> dict[str, float]:
    """Measure once, and return figures per run."""
    subject.ask("prepare", name)
    before = server_figures(client)
    figures = subject.ask("measure", name)
    after = server_figures(client)
    figures |= {key: after[key] - before[key] for key in after}
    return {
        key: value if key in NOT_SUMS else value / NUMBERS[name] for key, value in figures.items()
    }


def play(subjects: list[Subject], names: list[str], rounds: int, client: Any) -> Rows:
    """Let subjects take turns; the first round is to warm up."""
    rows: Rows = {name: {} for name in names}
    for round_ in range(rounds + 1):
        for name in names:
            for subject in [each for each in subjects if name in each.measures]:
                figures = measure(subject, name, client)
                if round_ > 0:
                    rows[name].setdefault(subject.name, []).append(figures)
                told = f"round {round_}/{rounds}, {name}, {subject.name}: "
                print(f"{told}{figures['cpu'] * 1e6:.0f} µs", file=sys.stderr)
    return rows


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


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", action="append", default=[], metavar="NAME:PROGRAM=PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(NUMBERS))
    chosen = parser.parse_args()
    subjects = [(name, program, sys.executable) for name, program in OURS.items()]
    for given in chosen.subject:
        named, python = given.split("=", 1)
        subjects.append((*named.split(":", 1), python))
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess())
        client = stack.enter_context(Redis.from_url(server.url))
        running = [stack.enter_context(started(*each, server.url)) for each in subjects]
        rows = play(running, chosen.only.split(","), chosen.rounds, client)
        where = about(client)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    told = as_markdown(rows, where)
    (results / "latest.json").write_text(json.dumps({"with": where, "rows": rows}, indent=1))
    (results / "latest.md").write_text(told)
    draw(rows, results / "latest.png")
    print(told)


if __name__ == "__main__":
    main()
