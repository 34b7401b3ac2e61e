"""Write the measurements as tables and a chart."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

#: figures of each round, per run: seconds, or counts
Rounds = list[dict[str, float]]
#: rounds by measurement and subject
Rows = dict[str, dict[str, Rounds]]

#: subjects that the others are compared with
OLD, FLOOR = "1.2.4", "floor"

TITLES = {
    "kiq": "`kiq()`, one after another",
    "kiq_together": "`kiq()`, many at once",
    "kiq_many": "`kiq_many()`, a hundred each time",
    "kiq_tracked": "`kiq()`, one after another, `track_tasks=True`",
    "kiq_together_tracked": "`kiq()`, many at once, `track_tasks=True`",
    "work": "worker, no results",
    "work_results": "worker, results stored",
    "get_result": "`get_result()` of a stored result",
    "round_trip": "`kiq()` to `wait_result()`, idle worker",
    "round_trip_cluster": "`kiq()` to `wait_result()`, idle worker, cluster",
    "round_trip_sentinel": "`kiq()` to `wait_result()`, idle worker, sentinels",
}
HEADER = (
    "",
    "CPU µs",
    "lowest to highest",
    "of 1.2.4",
    "of the floor",
    "server CPU µs",
    "commands",
    "wall µs",
)
#: columns of the tables whose subjects measure these figures
MORE_COLUMNS = {"p50": "p50 / p99 ms", "kept": "bytes kept"}
NOTES = """CPU µs: of the measured process, or of the worker. Server CPU and commands: of the
server, the master, or all primaries of a cluster, including commands run by scripts. Bytes kept:
MEMORY USAGE of the queue and its other keys per task, after all tasks are acknowledged and the
worker has ended. Results expire, so they don't count."""


def median(rounds: Rounds, key: str) -> float:
    """Return the median of a figure, or 0 if it wasn't measured."""
    return statistics.median(figures.get(key, 0.0) for figures in rounds)


def as_markdown(rows: Rows, where: dict[str, str]) -> str:
    """Return a table for each measurement."""
    parts = [with_what(where), NOTES]
    for name, by_subject in rows.items():
        more = [
            key for key in MORE_COLUMNS if any(median(each, key) for each in by_subject.values())
        ]
        lines = [
            [*_cells(subject, by_subject), *_more_cells(rounds, more)]
            for subject, rounds in by_subject.items()
        ]
        header = (*HEADER, *(MORE_COLUMNS[key] for key in more))
        parts.append(table(TITLES[name], header, lines))
    return "\n\n".join(parts) + "\n"


def with_what(where: dict[str, str]) -> str:
    """Return a line with the machine and the versions."""
    return ", ".join(f"{name} {what}" for name, what in where.items())


def table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a section with a table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(cells)} |" for cells in rows)])


def micros(rounds: Rounds, key: str = "cpu") -> str:
    """Return a median in µs."""
    return f"{median(rounds, key) * 1e6:.0f}"


def spread(rounds: Rounds) -> str:
    """Return the lowest and highest CPU time in µs."""
    values = [figures["cpu"] * 1e6 for figures in rounds]
    return f"{min(values):.0f} to {max(values):.0f}"


def ratio(rounds: Rounds, to: Rounds | None) -> str:
    """Return the ratio of the CPU times, or an empty string without rounds to compare to."""
    return f"{median(rounds, 'cpu') / median(to, 'cpu'):.2f}" if to else ""


def _cells(subject: str, by_subject: dict[str, Rounds]) -> list[str]:
    rounds = by_subject[subject]
    return [
        subject,
        micros(rounds),
        spread(rounds),
        *(ratio(rounds, by_subject.get(to)) for to in (OLD, FLOOR)),
        micros(rounds, "server_cpu"),
        f"{median(rounds, 'commands'):.2f}",
        micros(rounds, "wall"),
    ]


def _more_cells(rounds: Rounds, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if not all(key in figures for figures in rounds):
            yield ""
        elif key == "p50":
            yield f"{median(rounds, 'p50') * 1e3:.1f} / {median(rounds, 'p99') * 1e3:.1f}"
        else:
            yield f"{median(rounds, key):.0f}"


def make_panels(heights: list[float]) -> tuple[Any, Any]:
    """Return a figure and its panels, stacked, with these heights in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - tables don't need it

    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    return figure, figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]


def draw(rows: Rows, path: Path) -> None:
    """Draw the CPU time of each subject, with a panel for each measurement."""
    heights = [1 + 0.3 * len(by_subject) for by_subject in rows.values()]
    figure, panels = make_panels(heights)
    for axes, (name, by_subject) in zip(panels, rows.items(), strict=True):
        subjects = list(by_subject)[::-1]
        values = [median(by_subject[subject], "cpu") * 1e6 for subject in subjects]
        bars = axes.barh(subjects, values)
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set_title(TITLES[name].replace("`", ""), loc="left")
        axes.set_xlabel("µs of CPU time")
    figure.savefig(path)
