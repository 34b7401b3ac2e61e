"""Compare the CPU time of this project and others, side by side on the same servers.

    python benchmarks/compare.py [--subject NAME:PROGRAM=PYTHON ...] [--rounds N] [--only kiq,work]

Each subject (see `subjects/`) is a separate program in its own environment. Subjects take turns,
measurement by measurement and round by round, so that other load on the machine affects all of
them. Medians, their spread and ratios within the run go to `benchmarks/results/`.
"""

import argparse
import sys
from contextlib import ExitStack

from report import Rows, as_markdown, draw
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

#: measurements, and the number of runs per round
NUMBERS = {
    "kiq": 1000,
    "kiq_together": 5000,
    "kiq_many": 5000,
    "kiq_tracked": 1000,
    "kiq_together_tracked": 5000,
    "work": 2000,
    "work_results": 2000,
    "get_result": 1000,
    "round_trip": 100,
    "round_trip_cluster": 100,
    "round_trip_sentinel": 100,
}
#: kind of servers by measurement, if not a single server
KINDS = {"round_trip_cluster": "cluster", "round_trip_sentinel": "sentinel"}
#: subjects that run in this project's own environment
OURS = {"ours": "taskiq_redis_async", "ours, blocking": "taskiq_redis_blocking", "floor": "floor"}


def kind_of(name: str) -> str:
    """Return the kind of servers for a measurement."""
    return KINDS.get(name, "single")


def measure(subject: Subject, name: str, servers: Servers) -> dict[str, float]:
    """Measure once, and return the figures per run."""
    clients, number = servers.clients[kind_of(name)], NUMBERS[name]
    subject.ask("prepare", name, number)
    before = figures_of(clients)
    figures = subject.ask("measure", name, number)
    return per_run(figures | since(before, clients), number)


def measure_all(subjects: list[Subject], names: list[str], rounds: int, servers: Servers) -> Rows:
    """Measure all subjects in turn, in several rounds. The first round only warms up."""
    rows: Rows = {name: {} for name in names}
    for round_ in range(rounds + 1):
        for name in names:
            for subject in [each for each in subjects if name in each.measures]:
                figures = measure(subject, name, servers)
                if round_ > 0:
                    rows[name].setdefault(subject.name, []).append(figures)
                log_progress(round_, rounds, f"{name}, {subject.name}", figures)
    return rows


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", action="append", default=[], metavar="NAME:PROGRAM=PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(NUMBERS))
    chosen = parser.parse_args()
    subjects = [(name, program, sys.executable) for name, program in OURS.items()]
    for given in chosen.subject:
        named, python = given.split("=", 1)
        subjects.append((*named.split(":", 1), python))
    names = chosen.only.split(",")
    if unknown := [name for name in names if name not in NUMBERS]:
        parser.error(f"{', '.join(unknown)}: not among {', '.join(NUMBERS)}")
    with ExitStack() as stack:
        # Every subject connects to the single server, whatever it measures.
        kinds = dict.fromkeys(["single", *map(kind_of, names)])
        servers = Servers(stack, list(kinds))
        running = [stack.enter_context(started(*each, servers)) for each in subjects]
        rows = measure_all(running, names, chosen.rounds, servers)
        where = about(servers.clients["single"][0])
    draw(rows, write("latest", rows, where, as_markdown(rows, where)))


if __name__ == "__main__":
    main()
