"""The commands ``info`` and ``workers``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Group as Stack
from rich.live import Live
from rich.table import Table
from rich.text import Text

from taskiq_redis import GroupStats, QueueStats, WorkerStats
from taskiq_redis.cli.options import AsJson, on_broker
from taskiq_redis.cli.output import (
    NO,
    add_row,
    as_json,
    cell,
    console,
    duration,
    plain,
    plural,
    say,
    show,
    table,
)
from taskiq_redis.cli.targets import CommandError, Target, open_broker, queues_of

Watch = Annotated[
    float | None,
    typer.Option("--watch", min=0.1, metavar="SECONDS", help="Repeat it.", show_default=False),
]
MaxWaiting = Annotated[
    int | None,
    typer.Option(
        "--fail-if-waiting-over",
        min=0,
        metavar="N",
        help="Exit with 1 if more messages wait.",
        show_default=False,
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option(
        "--fail-if-older-than",
        min=0,
        metavar="SECONDS",
        help="Exit with 1 if a message waits for longer.",
        show_default=False,
    ),
]
NeedsWorker = Annotated[
    bool, typer.Option("--fail-if-no-worker", help="Exit with 1 if no worker is alive.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("info")(show_info)
    app.command("workers")(show_workers)


@on_broker
def show_info(
    target: Target,
    watch: Watch = None,
    json: AsJson = False,
    fail_if_waiting_over: MaxWaiting = None,
    fail_if_older_than: MaxAge = None,
    fail_if_no_worker: NeedsWorker = False,
) -> None:
    """Count the waiting, running, delayed and dead messages of queues.

    Without --queue, for all queues of the broker.
    """
    probes = fail_if_no_worker or (fail_if_waiting_over, fail_if_older_than) != (None, None)
    if watch is not None and probes:
        raise CommandError("--watch doesn't end, so leave out --fail-if-...")
    with open_broker(target) as broker:
        if watch is not None:
            watch_info(target, broker, watch, json)
            return
        found = read_stats(target, broker)
        if json:
            typer.echo(as_json({"queues": [queue_as_json(each) for each in found]}))
        else:
            show(*overview(found))
    reasons: list[str] = []
    for stats in found:
        reasons += exceeded_limits(stats, fail_if_waiting_over, fail_if_older_than)
        if fail_if_no_worker and not count_alive(stats):
            reasons.append(f"no worker is alive on the queue {stats.queue_name!r}")
    for reason in reasons:
        say(f"Failed: {reason}.")
    if reasons:
        raise typer.Exit(NO)


@on_broker
def show_workers(target: Target, json: AsJson = False) -> None:
    """List the workers of streams, dead ones included."""
    with open_broker(target) as broker:
        rows = list(workers_in(read_stats(target, broker)))
    if json:
        typer.echo(as_json({"workers": [worker_as_json(*row) for row in rows]}))
        return
    made = table(
        "Workers", "Queue", "Group", "Worker", "State", ">Running", "Host", "PID", "Version",
        "Started", ">Lease age",
    )  # fmt: skip
    for queue, group, worker in rows:
        add_row(
            made, queue, group, worker.name, state_of(worker), worker.running, worker.host,
            None if worker.pid is None else str(worker.pid), worker.version, worker.started,
            duration(worker.lease_age),
        )  # fmt: skip
    show(made)


def read_stats(target: Target, broker: Any) -> list[QueueStats]:
    """Return the states of the queues that a command shows."""
    found = [broker.stats(name) for name in queues_of(target, broker)]
    return [only_group(stats, target.group) for stats in found]


def only_group(stats: QueueStats, name: str | None) -> QueueStats:
    """Leave out the groups with other names, if one is given."""
    if name is None:
        return stats
    groups = tuple(group for group in stats.groups if group.name == name)
    if not groups:
        raise CommandError(
            f"The queue {stats.queue_name!r} has no consumer group {name!r}: no worker of it has "
            "started yet. Correct --group, or start one."
        )
    (group,) = groups
    return replace(stats, groups=groups, waiting=group.waiting, running=group.running)


def watch_info(target: Target, broker: Any, pause: float, json: bool) -> None:
    """Show the state again and again, until Ctrl-C."""
    try:
        if not json and console().is_terminal:
            with Live(console=console(), auto_refresh=False) as live:
                while True:
                    live.update(Stack(*overview(read_stats(target, broker))), refresh=True)
                    time.sleep(pause)
        while True:
            found = read_stats(target, broker)
            if json:
                typer.echo(as_json({"queues": [queue_as_json(each) for each in found]}))
            else:
                show(*overview(found))
            time.sleep(pause)
    except KeyboardInterrupt:
        return


# --- Tables


def overview(found: Sequence[QueueStats]) -> list[Table]:
    """Return the tables of queues, and of groups if there are any."""
    tables = [queue_table(found)]
    if any(stats.groups for stats in found):
        tables.append(group_table(found))
    return tables


def queue_table(found: Sequence[QueueStats]) -> Table:
    """Return a table with a row for each queue."""
    channels = any(stats.kind == "pubsub" for stats in found)
    made = table(
        "Queues", "Queue", "Kind", "State", ">Waiting", ">Oldest", ">Running", ">Delayed",
        ">Next due", ">Dead", *([">Subscribers"] if channels else []),
    )  # fmt: skip
    for stats in found:
        due = "now" if stats.next_due == 0 else duration(stats.next_due)
        add_row(
            made, stats.queue_name, stats.kind,
            cell("paused", "bold yellow") if stats.paused else cell("active", "green"),
            stats.waiting, duration(stats.oldest_age), stats.running, stats.delayed, due,
            cell(stats.dead, "bold red" if stats.dead else ""),
            *([stats.subscribers] if channels else []),
        )  # fmt: skip
    return made


def group_table(found: Sequence[QueueStats]) -> Table:
    """Return a table with a row for each consumer group."""
    made = table("Groups", "Queue", "Group", ">Lag", ">Waiting", ">Running", "Workers")
    for stats in found:
        for group in stats.groups:
            add_row(
                made, stats.queue_name, group.name, group.lag, group.waiting, group.running,
                summary(group),
            )  # fmt: skip
    return made


def summary(group: GroupStats) -> Text:
    """Return how many workers of a group are in which state."""
    states = [str(state_of(worker)) for worker in group.workers]
    if not states:
        return cell("none", "bold red")
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    text = ", ".join(f"{number:,} {state}" for state, number in counts.items())
    return cell(text, "" if "alive" in counts else "bold red")


def state_of(worker: WorkerStats) -> Text:
    """Return whether a worker is alive; that isn't known of a worker of 1.2.4."""
    if not worker.registered:
        return cell("unregistered", "yellow")
    return cell("alive", "green") if worker.is_alive else cell("lease expired", "bold red")


def workers_in(found: Sequence[QueueStats]) -> Iterator[tuple[str, str, WorkerStats]]:
    """Yield queue, group and worker."""
    for stats in found:
        for group in stats.groups:
            for worker in group.workers:
                yield stats.queue_name, group.name, worker


# --- JSON


def queue_as_json(stats: QueueStats) -> dict[str, Any]:
    """Return the state of a queue for JSON."""
    found: dict[str, Any] = plain(stats)
    for group, shown in zip(stats.groups, found["groups"], strict=True):
        for worker, its in zip(group.workers, shown["workers"], strict=True):
            its["is_alive"] = worker.is_alive
    return found


def worker_as_json(queue: str, group: str, worker: WorkerStats) -> dict[str, Any]:
    """Return a worker for JSON."""
    return {"queue": queue, "group": group, **plain(worker), "is_alive": worker.is_alive}


# --- Probes


def count_alive(stats: QueueStats) -> int:
    """Return the number of workers that are alive, or of subscribers.

    Raises:
        CommandError: it is a list, whose workers aren't known.
    """
    if stats.kind == "list":
        raise CommandError(
            f"The workers of {stats.queue_name!r} aren't known, since it is a list. Use a stream."
        )
    return (stats.subscribers or 0) + sum(
        worker.is_alive for group in stats.groups for worker in group.workers
    )


def exceeded_limits(stats: QueueStats, waiting: int | None, age: float | None) -> list[str]:
    """Return which limits a queue exceeds.

    Args:
        stats: its state.
        waiting: maximum number of waiting messages; None for no limit.
        age: s; maximum age of the oldest one; None for no limit.

    Raises:
        CommandError: a limit doesn't apply to channels or lists.
    """
    reasons: list[str] = []
    name = stats.queue_name
    if waiting is not None:
        if stats.waiting is None:
            raise CommandError(f"Nothing waits in {name!r}, since it is a channel.")
        if stats.waiting > waiting:
            reasons.append(f"{plural(stats.waiting, 'waiting message')} in the queue {name!r}")
    if age is not None:
        if stats.kind != "stream":
            raise CommandError(f"Only streams have the age of messages, and {name!r} is none.")
        if stats.oldest_age is not None and stats.oldest_age > age:
            waits = duration(stats.oldest_age)
            reasons.append(f"a message waits for {waits} in the queue {name!r}")
    return reasons
