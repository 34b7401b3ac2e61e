"""Measure how a task's CPU time grows with producers, workers, payload size and waiting tasks.

    python benchmarks/growth.py [--old PYTHON] [--rounds N] [--only producers,workers]

Give `--old` a Python that has taskiq-redis 1.2.4, and both versions take turns. Medians, and their
ratios to the first of each kind, go to `benchmarks/results/`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from redis import Redis
from report import OLD, Rounds, make_panels, median, micros, ratio, spread, table, with_what
from running import (
    Servers,
    Subject,
    about,
    figures_of,
    log_progress,
    per_run,
    since,
    started,
    write,
)

from tests.waiting import wait_until

#: rounds by part, operation, subject and size
Growth = dict[str, dict[str, dict[str, dict[str, Rounds]]]]

#: the queue, and the list that stops workers, as in `subjects/growth_async.py`
QUEUE, OVER = "bench:growth", "bench:growth:over"
#: maximum numbers of workers and threads
WORKERS, THREADS = 4, 100
TITLES = {
    "producers": "Concurrent producers",
    "workers": "Workers of one queue, each in its own process",
    "payload": "Size of the payload, in bytes",
    "waiting": "Tasks already waiting in the queue",
}
HEADER = (
    "",
    "",
    "CPU µs",
    "lowest to highest",
    "of the first",
    "of 1.2.4",
    "server CPU µs",
    "commands",
)
NOTE = """All figures are per task. CPU µs: of the sending process, or of all workers together, from
the start of listening until all tasks are acknowledged. Commands include those run by scripts."""


@dataclass(frozen=True)
class Step:
    """One point of a curve.

    Args:
        part: the dimension that grows.
        size: its size at this point.
        number: number of tasks to send and run.
    """

    part: str
    size: int
    number: int

    @property
    def label(self) -> str:
        """The size, formatted for the report."""
        return f"{self.size:,}"

    def grown(self, part: str, otherwise: int) -> int:
        """Return the size if this part grows, or else the given value."""
        return self.size if self.part == part else otherwise

    @property
    def to_send(self) -> tuple[int, int, int, int]:
        """Numbers of tasks and producers, payload size, and number of tasks already waiting."""
        producers = 100 if self.part == "workers" else self.grown("producers", 1)
        return self.number, producers, self.grown("payload", 0), self.grown("waiting", 0)


STEPS = (
    *(Step("producers", size, 4000) for size in (1, 10, 100, 1000)),
    *(Step("workers", size, 4000) for size in range(1, WORKERS + 1)),
    *(Step("payload", 10**power, min(2000, 10 ** (8 - power))) for power in range(2, 7)),
    *(Step("waiting", size, 2000) for size in (0, 1000, 100_000, 1_000_000)),
)


class Version:
    """A version to measure, in as many processes as there may be workers.

    Args:
        name: its name in the report.
        subjects: its processes; the first one sends.
        client: client of the server.
    """

    def __init__(self, name: str, subjects: Sequence[Subject], client: Any) -> None:
        self.name = name
        self._subjects = subjects
        self._client = client

    def measure(self, step: Step) -> Iterator[tuple[str, dict[str, float]]]:
        """Send and run tasks, and yield the figures per task of each operation."""
        works = "work" in self._subjects[0].measures
        if not works and (step.part != "producers" or step.size > THREADS):
            return
        sent = self._send(step)
        if step.part != "workers":
            yield "kiq()", sent
        if step.part != "producers":
            yield "worked", self._work(step)

    def _send(self, step: Step) -> dict[str, float]:
        self._subjects[0].ask("prepare", "kiq", *step.to_send)
        before = figures_of([self._client])
        figures = self._subjects[0].ask("measure", "kiq", *step.to_send)
        return per_run(figures | since(before, [self._client]), step.number)

    def _work(self, step: Step) -> dict[str, float]:
        workers = self._subjects[: step.grown("workers", 1)]
        most = 0 if step.part == "workers" else step.number
        for worker in workers:
            worker.ask("prepare", "work", most)
        before = figures_of([self._client])
        for worker in workers:
            worker.send("measure", "work", most)
        if not most:
            wait_until(self._is_over, timeout=120, what="the end of all tasks", interval=0.05)
            self._client.lpush(OVER, *range(len(workers)))
        replies = [worker.read() for worker in workers]
        ran = [index for figures in replies for index in figures.pop("ran")]
        if not most and sorted(ran) != list(range(step.number)):
            raise AssertionError(f"{len(ran)} tasks ran, instead of {step.number} once each")
        cpu = sum(figures["cpu"] for figures in replies)
        return per_run({"cpu": cpu, **since(before, [self._client])}, len(ran))

    def _is_over(self) -> bool:
        """Return whether all tasks are acknowledged."""
        stream, [group] = self._client.xinfo_stream(QUEUE), self._client.xinfo_groups(QUEUE)
        return not group["pending"] and group["last-delivered-id"] == stream["last-generated-id"]


def measure_all(versions: list[Version], steps: list[Step], rounds: int) -> Growth:
    """Measure all versions in turn, in several rounds. The first round only warms up."""
    growth: Growth = {}
    for round_, step, version in product(range(rounds + 1), steps, versions):
        for what, figures in version.measure(step):
            log_progress(
                round_, rounds, f"{step.part} {step.label}, {what}, {version.name}", figures
            )
            if round_ > 0:
                by_subject = growth.setdefault(step.part, {}).setdefault(what, {})
                by_label = by_subject.setdefault(version.name, {})
                by_label.setdefault(step.label, []).append(figures)
    return growth


def as_markdown(growth: Growth, where: dict[str, str]) -> str:
    """Return a table for each part."""
    parts = [table(TITLES[part], HEADER, _lines(by_what)) for part, by_what in growth.items()]
    return "\n\n".join([with_what(where), NOTE, *parts]) + "\n"


def _lines(by_what: dict[str, dict[str, dict[str, Rounds]]]) -> Iterator[list[str]]:
    for what, by_subject in by_what.items():
        for subject, by_label in by_subject.items():
            first = next(iter(by_label.values()))
            for label, rounds in by_label.items():
                yield [
                    f"{what}, {subject}",
                    label,
                    micros(rounds),
                    spread(rounds),
                    ratio(rounds, first),
                    ratio(rounds, by_subject.get(OLD, {}).get(label)),
                    micros(rounds, "server_cpu"),
                    f"{median(rounds, 'commands'):.2f}",
                ]


def draw(growth: Growth, path: Path) -> None:
    """Draw how the CPU time grows, with a panel for each part."""
    figure, panels = make_panels([4.0] * len(growth))
    for axes, (part, by_what) in zip(panels, growth.items(), strict=True):
        for what, by_subject in by_what.items():
            for subject, by_label in by_subject.items():
                values = [median(rounds, "cpu") * 1e6 for rounds in by_label.values()]
                axes.plot(list(by_label), values, marker="o", label=f"{what}, {subject}")
        axes.set_title(TITLES[part], loc="left")
        axes.set_ylabel("µs of CPU time")
        if part == "payload":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path)


def start(stack: ExitStack, servers: Servers, old: str | None) -> list[Version]:
    """Start all versions."""

    def several(name: str, program: str, python: str, number: int) -> Version:
        each = [stack.enter_context(started(name, program, python, servers)) for _ in range(number)]
        return Version(name, each, client)

    client: Redis = servers.clients["single"][0]
    versions = [several("ours", "growth_async", sys.executable, WORKERS)]
    versions += [several(OLD, "growth_async", old, WORKERS)] if old else []
    return [*versions, several("ours, threads", "growth_blocking", sys.executable, 1)]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TITLES))
    chosen = parser.parse_args()
    steps = [step for step in STEPS if step.part in chosen.only.split(",")]
    with ExitStack() as stack:
        servers = Servers(stack, ["single"])
        growth = measure_all(start(stack, servers, chosen.old), steps, chosen.rounds)
        where = about(servers.clients["single"][0])
    draw(growth, write("growth", growth, where, as_markdown(growth, where)))


if __name__ == "__main__":
    main()
