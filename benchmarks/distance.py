"""Measure how many tasks per second remain when the server is far away.

    python benchmarks/distance.py [--old PYTHON] [--rounds N] [--only work,kiq_many]

A proxy holds traffic back, so that a round trip takes 0 to 200 ms. Give `--old` a Python that has
taskiq-redis 1.2.4, and both versions take turns. Medians go to `benchmarks/results/`.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from redis import Redis
from report import OLD, Rounds, make_panels, median, table, with_what
from running import Servers, Subject, about, log_progress, per_run, started, write

from tests.faults.proxy import Distance, faulty_network
from tests.servers import Topology

#: by measurement, subject and round trip in ms, the rounds
Measured = dict[str, dict[str, dict[int, Rounds]]]

#: ms
ROUND_TRIPS = (0, 20, 60, 100, 200)
#: measurements, and the number of runs per round
NUMBERS = {
    "kiq": 10,
    "kiq_together": 2000,
    "kiq_many": 5000,
    "work": 2000,
    "work_results": 2000,
    "work_delayed": 1000,
    "set_result": 2000,
    "get_result": 2000,
    "add_schedule": 1000,
    "poll": 10,
}
#: what 1.2.4 doesn't have, or does at a few per second
NOT_OLD = {"kiq_many", "work_delayed", "add_schedule"}
TITLES = {
    "kiq": "`kiq()`, one after another",
    "kiq_together": "`kiq()` from 100 producers",
    "kiq_many": "`kiq_many()`, 5,000 with one call",
    "work": "worker, no results, acknowledgements included",
    "work_results": "worker, results stored",
    "work_delayed": "worker, delayed tasks that are due",
    "set_result": "`set_result()`, 100 at a time",
    "get_result": "`get_result()`, 100 at a time",
    "add_schedule": "`add_schedule()`, 100 at a time",
    "poll": "the scheduler's reads, one after another",
}


def measure_all(
    subjects: list[Subject], names: list[str], rounds: int, distance: Distance
) -> Measured:
    """Measure all subjects in turn, in several rounds. The first round only warms up, nearby."""
    measured: Measured = {}
    for round_, round_trip, name in product(range(rounds + 1), ROUND_TRIPS, names):
        if round_ == 0 and round_trip > 0:
            continue
        for subject in [each for each in subjects if _is_measured(each, name)]:
            distance.travel_time = round_trip / 2000
            subject.ask("prepare", name, NUMBERS[name])
            figures = per_run(subject.ask("measure", name, NUMBERS[name]), NUMBERS[name])
            log_progress(round_, rounds, f"{name} at {round_trip} ms, {subject.name}", figures)
            if round_ > 0:
                by_round_trip = measured.setdefault(name, {}).setdefault(subject.name, {})
                by_round_trip.setdefault(round_trip, []).append(figures)
    return measured


def _is_measured(subject: Subject, name: str) -> bool:
    return name in subject.measures and not (subject.name == OLD and name in NOT_OLD)


def per_second(rounds: Rounds) -> float:
    """Return the number of runs per second, of the median round."""
    return 1 / median(rounds, "wall")


def as_markdown(measured: Measured, where: dict[str, str]) -> str:
    """Return a table."""
    header = ("per second, by round trip", *(f"{round_trip} ms" for round_trip in ROUND_TRIPS))
    return f"{with_what(where)}\n\n{table('Distance', header, _lines(measured))}\n"


def _lines(measured: Measured) -> Iterator[list[str]]:
    for name, by_subject in measured.items():
        for subject, by_round_trip in by_subject.items():
            rates = [f"{per_second(rounds):,.0f}" for rounds in by_round_trip.values()]
            yield [f"{TITLES[name]}, {subject}", *rates]


def draw(measured: Measured, path: Path) -> None:
    """Draw how the rates fall, with a panel for each measurement."""
    figure, panels = make_panels([3.0] * len(measured))
    for axes, (name, by_subject) in zip(panels, measured.items(), strict=True):
        for subject, by_round_trip in by_subject.items():
            rates = [per_second(rounds) for rounds in by_round_trip.values()]
            axes.plot(list(by_round_trip), rates, marker="o", label=subject)
        axes.set_title(TITLES[name], loc="left")
        axes.set_ylabel("per second")
        axes.set_yscale("log")
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", metavar="PYTHON")
    parser.add_argument("--subject", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(NUMBERS))
    chosen = parser.parse_args()
    programs = {"ours": sys.executable}
    programs |= {OLD: chosen.old} if chosen.old else {}
    programs |= dict(given.split("=", 1) for given in chosen.subject)
    distance = Distance(0)
    with ExitStack() as stack:
        servers = Servers(stack, ["single"])
        client: Redis = servers.clients["single"][0]
        near = servers.arguments["single"]
        options = client.get_connection_kwargs()
        topology = Topology(kind="single", url=near[0], nodes=((options["host"], options["port"]),))
        proxies = stack.enter_context(faulty_network(topology, distance))
        servers.arguments |= {"near": near, "single": [proxies.topology.url]}
        subjects = [
            stack.enter_context(started(name, "distance_async", python, servers))
            for name, python in programs.items()
        ]
        measured = measure_all(subjects, chosen.only.split(","), chosen.rounds, distance)
        where = about(client)
    draw(measured, write("distance", measured, where, as_markdown(measured, where)))


if __name__ == "__main__":
    main()
