"""The command ``ping``, whose exit code answers: is the server, a worker, a scheduler there?"""

from collections.abc import Iterable
from typing import Annotated

import typer

from taskiq_redis import SchedulerStats, WorkerStats
from taskiq_redis.cli.info import count_alive, read_stats, workers_in
from taskiq_redis.cli.options import on_both
from taskiq_redis.cli.output import NO, answer, described, fail, plural
from taskiq_redis.cli.targets import CommandError, Target, open_broker, open_sources, queues_of
from taskiq_redis.exceptions import ServerUnavailableError

Worker = Annotated[
    str | None,
    typer.Option(
        "--worker",
        metavar="NAME",
        help="Ask for the worker with this consumer name.",
        show_default=False,
    ),
]
Any_ = Annotated[bool, typer.Option("--any", help="Ask for any worker.")]
Scheduler = Annotated[bool, typer.Option("--scheduler", help="Ask for any scheduler.")]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="With --any or --scheduler: only on this host.",
        metavar="NAME",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ping")(ping)


@on_both
def ping(
    target: Target,
    worker: Worker = None,
    any: Any_ = False,  # noqa: A002 - the name of the option
    scheduler: Scheduler = False,
    host: Host = None,
) -> None:
    """Ask whether the server, a worker or a scheduler answers.

    Exit with 0 if it does, and with 1 if not. Exit with 2 if that isn't known: the server can't be
    asked about workers or schedulers, or there is no such broker.
    """
    if sum([worker is not None, any, scheduler]) > 1:
        raise CommandError("Give one of --worker, --any and --scheduler.")
    if host is not None and not (any or scheduler):
        raise CommandError("--host needs --any or --scheduler.")
    if scheduler:
        ping_schedulers(target, host)
    elif worker is not None or any:
        ping_workers(target, worker, host)
    else:
        ping_server(target)


def ping_server(target: Target) -> None:
    """Exit with 1 if the server doesn't answer."""
    try:
        with open_broker(target) as broker:
            broker.stats(queues_of(target, broker)[0])
            answer(f"{described(broker)} answers.")
    except ServerUnavailableError as error:
        fail(str(error), NO)


def ping_workers(target: Target, name: str | None, host: str | None) -> None:
    """Exit with 1 if there is no such worker.

    Args:
        target: the target.
        name: its consumer name; None for any.
        host: its host; None for any.
    """
    with open_broker(target) as broker:
        found = read_stats(target, broker)
    for stats in found:
        if stats.kind != "stream" and (name is not None or host is not None):
            raise CommandError(
                f"Only streams know their workers, and {stats.queue_name!r} is none."
            )
    if name is None and host is None:
        number = sum(map(count_alive, found))
    else:
        number = len(matching((worker for _, _, worker in workers_in(found)), name, host))
    conclude(number, "worker")


def matching(
    workers: Iterable[WorkerStats], name: str | None, host: str | None
) -> list[WorkerStats]:
    """Return the workers that are alive, with a consumer name and host if these are given."""
    return [
        worker
        for worker in workers
        if worker.is_alive and name in {None, worker.name} and host in {None, worker.host}
    ]


def ping_schedulers(target: Target, host: str | None) -> None:
    """Exit with 1 if no scheduler is alive."""
    with open_sources(target) as sources:
        found: list[SchedulerStats] = [each for source in sources for each in source.schedulers()]
    conclude(sum(each.is_alive and host in {None, each.host} for each in found), "scheduler")


def conclude(number: int, noun: str) -> None:
    """Print how many there are; exit with 1 if there is none."""
    if not number:
        fail(f"No such {noun} is alive.", NO)
    answer(f"{plural(number, noun)} alive.")
