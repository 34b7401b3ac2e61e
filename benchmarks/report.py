"""Tables and a chart of what was measured."""

import statistics
from pathlib import Path

#: by measurement and subject, the figures of each round: s and numbers per run
Rows = dict[str, dict[str, list[dict[str, float]]]]

#: what others are compared with
OLD, FLOOR = "1.2.4", "floor"

TITLES = {
    "kiq": "`kiq()`, one after another",
    "kiq_together": "`kiq()`, many at once",
    "kiq_many": "`kiq_many()`, a hundred each time",
    "work": "worker, no results",
    "work_results": "worker, results stored",
    "get_result": "`get_result()` of a stored result",
    "round_trip": "`kiq()` to `wait_result()`, idle worker",
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
    "p50 / p99 ms",
)


def median(rounds: list[dict[str, float]], key: str) -> float:
    """Return the median of a figure, or 0 if it wasn't measured."""
    return statistics.median(figures.get(key, 0.0) for figures in rounds)


def as_markdown(rows: Rows, where: dict[str, str]) -> str:
    """Return a table for each measurement."""
    parts = [", ".join(f"{name} {what}" for name, what in where.items())]
    for name, by_subject in rows.items():
        lines = [_line(subject, rounds, by_subject) for subject, rounds in by_subject.items()]
        dashes = f"|{'---|' * len(HEADER)}"
        parts.append("\n".join([f"## {TITLES[name]}", "", _row(HEADER), dashes, *lines]))
    return "\n\n".join(parts) + "\n"


def _line(
    subject: str, rounds: list[dict[str, float]], others: dict[str, list[dict[str, float]]]
) -> str:
    cpu = median(rounds, "cpu")
    values = [figures["cpu"] * 1e6 for figures in rounds]
    p50, p99 = median(rounds, "p50") * 1e3, median(rounds, "p99") * 1e3
    cells = [
        subject,
        f"{cpu * 1e6:.0f}",
        f"{min(values):.0f} to {max(values):.0f}",
        *(f"{cpu / median(others[to], 'cpu'):.2f}" if to in others else "" for to in (OLD, FLOOR)),
        f"{median(rounds, 'server_cpu') * 1e6:.0f}",
        f"{median(rounds, 'commands'):.2f}",
        f"{median(rounds, 'wall') * 1e6:.0f}",
        f"{p50:.1f} / {p99:.1f}" if p50 else "",
    ]
    return _row(cells)


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


def draw(rows: Rows, path: Path) -> None:
    """Draw the CPU time of each subject, a panel for each measurement."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - tables do without it

    heights = [1 + 0.3 * len(by_subject) for by_subject in rows.values()]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    panels = figure.subplots(len(rows), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, by_subject) in zip(panels, rows.items(), strict=True):
        subjects = list(by_subject)[::-1]
        values = [median(by_subject[subject], "cpu") * 1e6 for subject in subjects]
        bars = axes.barh(subjects, values)
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.set_title(TITLES[name].replace("`", ""), loc="left")
        axes.set_xlabel("µs of CPU time")
    figure.savefig(path)
