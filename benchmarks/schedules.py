"""Measure schedule sources: reading, adding, deleting, migrating, and how late one-offs are sent.

    python benchmarks/schedules.py [--old PYTHON] [--rounds N] [--only poll,late] [--quick]

Give `--old` a Python that has taskiq-redis 1.2.4, and both versions take turns. Each keeps its
schedules in its own database of one server. Medians, their spread and ratios within the run go to
`benchmarks/results/`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import OLD, Rounds, median, micros, ratio, spread, table, with_what
from running import (
    HERE,
    Servers,
    Subject,
    about,
    environment_of,
    figures_of,
    log_progress,
    per_run,
    since,
    started,
    write,
)

#: kinds of stored schedules, as in `subjects/schedule_tasks.py`
FAR, ONE_MINUTE, CRONS, DUE = range(4)
#: rounds by part, label and subject
Measured = dict[str, dict[str, dict[str, Rounds]]]
#: seconds of lateness by time ahead and subject
Lateness = dict[str, dict[str, list[float]]]

TITLES = {
    "poll": "`get_schedules()`",
    "add": "`add_schedule()`, one after another",
    "delete": "`delete_schedule()`, one after another",
    "migrate": "Migration from one key per schedule, per schedule",
}
LATE = "Lateness of one-offs that are added to a running `taskiq scheduler`, in seconds"
HEADER = (
    "",
    "",
    "CPU µs",
    "lowest to highest",
    "of 1.2.4",
    "server CPU µs",
    "of none",
    "commands",
    "wall µs",
)
NOTE = """CPU µs: of the measured process. "Of none" compares the server's CPU time with that of the
same subject when nothing of that kind is stored. Commands include those run by scripts. Schedulers
for the lateness run with default flags; the first schedules are added when they are ready."""

#: ms ahead, and seconds until all have to be sent: a default update takes place after a minute
AHEAD = (500, 2000, 5000, 30_000)
PATIENCE = 150


@dataclass(frozen=True)
class Step:
    """One measurement.

    Args:
        part: its table.
        label: what is stored.
        kind: kind of the stored schedules.
        stored: their number.
        number: number of runs.
        changing: whether a schedule is replaced before each run.
    """

    part: str
    label: str
    kind: int
    stored: int
    number: int
    changing: bool = False

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that are measured in turn."""
        return {"poll": ("poll",), "add": ("add", "delete"), "migrate": ("migrate",)}[self.part]


def steps(most: int) -> Iterator[Step]:
    """Return all measurements, with at most that many stored schedules."""
    some = most // 10
    for stored in (0, most // 100, some, most):
        number = min(100, max(2, 100_000 // (stored or 1)))
        yield Step("poll", f"{stored:,} far one-offs", FAR, stored, number)
    yield Step("poll", f"{some:,} crons", CRONS, some, 5)
    yield Step("poll", f"{some:,} crons, one changed", CRONS, some, 5, changing=True)
    yield Step("poll", f"{some:,} due one-offs", DUE, some, 5)
    for kind, what in ((ONE_MINUTE, "one-offs in one minute"), (CRONS, "crons")):
        yield Step("add", f"no {what}", kind, 0, 200)
        yield Step("add", f"{most:,} {what}", kind, most, 200)
    yield Step("migrate", f"{most // 5:,} one-offs", FAR, most // 5, most // 5)


class Play:
    """Lets subjects take turns.

    Args:
        subjects: the subjects.
        client: client of the server.
        rounds: number of rounds after the first one, which only warms up.
    """

    def __init__(self, subjects: Sequence[Subject], client: Any, rounds: int) -> None:
        self._subjects = subjects
        self._client = client
        self._rounds = rounds
        self.measured: Measured = {}

    def run(self, step: Step) -> None:
        """Measure a step."""
        able = [each for each in self._subjects if set(step.operations) <= set(each.measures)]
        for round_ in range(self._rounds + 1):
            for subject in able:
                for operation in step.operations:
                    figures = self._measure(subject, step, operation)
                    what = f"{operation}, {step.label}, {subject.name}"
                    log_progress(round_, self._rounds, what, figures)
                    if round_ > 0:
                        by_label = self.measured.setdefault(operation, {})
                        rounds = by_label.setdefault(step.label, {})
                        rounds.setdefault(subject.name, []).append(figures)

    def _measure(self, subject: Subject, step: Step, operation: str) -> dict[str, float]:
        total: dict[str, float] = defaultdict(float)
        runs = step.number if step.changing else 1
        for _ in range(runs):
            arguments = (step.number // runs, step.kind, step.stored)
            if operation != "delete":
                subject.ask("prepare", "change" if step.changing else operation, *arguments)
            before = figures_of([self._client])
            figures = subject.ask("measure", operation, *arguments)
            for name, value in (figures | since(before, [self._client])).items():
                total[name] += value
        return per_run(total, step.number)


class Scheduler:
    """A running `taskiq scheduler` with default flags.

    Args:
        subject: adds its schedules.
        python: Python that runs it.
        url: URL of its database.
        stack: exit stack that stops it.
    """

    def __init__(self, subject: Subject, python: str, url: str, stack: ExitStack) -> None:
        self.subject = subject
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._record, self._log = folder / "record", folder / "log"
        log = stack.enter_context(self._log.open("wb"))
        self._process = subprocess.Popen(
            [python, "-m", "taskiq", "scheduler", "schedules_app:scheduler"],
            cwd=HERE / "subjects",
            env={**environment_of(python), "RECORD": str(self._record), "SERVER": url},
            stdout=log,
            stderr=log,
        )
        stack.callback(self._stop)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_ready(self) -> None:
        """Wait until it has read the schedules once."""
        while "Startup completed" not in self._log.read_text():
            if self._process.poll() is not None:
                raise SystemExit(self._log.read_text())
            time.sleep(0.1)
        time.sleep(2)

    def lateness(self) -> dict[int, list[float]]:
        """Return the lateness of what was sent, by ms ahead."""
        late: dict[int, list[float]] = defaultdict(list)
        for line in self._record.read_text().splitlines() if self._record.exists() else []:
            schedule_id, sent = line.split()
            ahead, _, due = schedule_id.split(":")
            late[int(ahead)].append(float(sent) - float(due))
        return late


def measure_lateness(schedulers: Sequence[Scheduler], number: int) -> Lateness:
    """Add one-offs to all schedulers at once, and return how late each is sent."""
    for scheduler in schedulers:
        scheduler.wait_ready()
    for ahead in AHEAD:
        for scheduler in schedulers:
            scheduler.subject.send("measure", "late", number, ahead)
        for scheduler in schedulers:
            scheduler.subject.read()
        print(f"added one-offs due in {ahead / 1000:g} s", file=sys.stderr)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        sent = [sum(map(len, each.lateness().values())) for each in schedulers]
        if min(sent) >= number * len(AHEAD):
            break
        time.sleep(1)
    late: Lateness = {}
    for ahead in AHEAD:
        for scheduler in schedulers:
            by_subject = late.setdefault(f"{ahead / 1000:g} s ahead", {})
            by_subject[scheduler.subject.name] = scheduler.lateness()[ahead]
    return late


def as_markdown(measured: Measured, late: Lateness, number: int, where: dict[str, str]) -> str:
    """Return a table for each part."""
    parts = [with_what(where), NOTE]
    for part, by_label in measured.items():
        parts.append(table(TITLES[part], HEADER, _lines(by_label)))
    if late:
        header = ("", "", "sent", "median", "highest")
        parts.append(table(LATE, header, _late_lines(late, number)))
    return "\n\n".join(parts) + "\n"


def _lines(by_label: dict[str, dict[str, Rounds]]) -> Iterator[list[str]]:
    nothing: dict[str, dict[str, Rounds]] = {}
    for label, by_subject in by_label.items():
        if label.startswith(("no ", "0 ")):
            nothing = {"none": by_subject}
        for subject, rounds in by_subject.items():
            none = nothing.get("none", {}).get(subject)
            yield [
                label,
                subject,
                micros(rounds),
                spread(rounds),
                ratio(rounds, by_subject.get(OLD)),
                micros(rounds, "server_cpu"),
                _of(rounds, none),
                f"{median(rounds, 'commands'):.2f}",
                micros(rounds, "wall"),
            ]


def _of(rounds: Rounds, none: Rounds | None) -> str:
    """Return the ratio of the server's CPU times."""
    least = median(none, "server_cpu") if none else 0
    return f"{median(rounds, 'server_cpu') / least:.2f}" if least else ""


def _late_lines(late: Lateness, number: int) -> Iterator[list[str]]:
    for ahead, by_subject in late.items():
        for subject, seconds in by_subject.items():
            figures = [statistics.median(seconds), max(seconds)] if seconds else []
            cells = [f"{figure:.2f}" for figure in figures] or ["", ""]
            yield [ahead, subject, f"{len(seconds)} of {number}", *cells]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="poll,add,migrate,late")
    parser.add_argument(
        "--quick", action="store_true", help="at most 2,000 schedules, and one round"
    )
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    most, rounds, number = (2000, 1, 3) if chosen.quick else (100_000, chosen.rounds, 12)
    programs = [("ours", "schedules_async", sys.executable)]
    programs += [(OLD, "schedules_async", chosen.old)] if chosen.old else []
    programs += [("ours, blocking", "schedules_blocking", sys.executable)]
    with ExitStack() as stack:
        servers = Servers(stack, ["single"])
        client, url = servers.clients["single"][0], servers.arguments["single"][0]
        subjects = []
        for database, each in enumerate(programs):
            # 1.2.4 scans the whole database, so none may see schedules of another.
            subject = started(*each, servers, DATABASE=str(database))
            subjects.append(stack.enter_context(subject))
        play = Play(subjects, client, rounds)
        for step in steps(most):
            if step.part in parts:
                play.run(step)
        late: Lateness = {}
        if "late" in parts:
            schedulers = []
            for database, (subject, (_, _, python)) in enumerate(
                zip(subjects, programs, strict=True)
            ):
                if "late" in subject.measures:
                    subject.ask("prepare", "late", 0, 0)
                    schedulers.append(Scheduler(subject, python, f"{url}/{database}", stack))
            late = measure_lateness(schedulers, number)
        where = about(client)
    rows = {"measured": play.measured, "late": late}
    write("schedules", rows, where, as_markdown(play.measured, late, number, where))


if __name__ == "__main__":
    main()
