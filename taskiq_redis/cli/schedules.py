"""The commands for schedules: ``schedules list|show|delete|pause|resume|migrate``."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any

import typer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis.cli.options import (
    AsJson,
    Kind,
    Limit,
    ShowArgs,
    TaskName,
    Yes,
    on_source,
)
from taskiq_redis.cli.output import (
    NO,
    add_row,
    answer,
    as_json,
    call_arguments,
    cell,
    confirm,
    described,
    duration,
    listed,
    plain,
    plural,
    print_lines,
    say,
    show as show_table,
    table,
    watched,
)
from taskiq_redis.cli.targets import CommandError, Target, open_sources

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODULE:SOURCE] ID...", help="IDs of schedules.", show_default=False),
]
Origin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODULE:SOURCE",
        help="Import path of the source to move schedules from.",
        show_default=False,
    ),
]
OriginPrefix = Annotated[
    str | None,
    typer.Option("--from-prefix", help="Its prefix, on the same server.", show_default=False),
]
OriginKind = Annotated[Kind, typer.Option("--from-kind", help="Its kind.")]
Keep = Annotated[bool, typer.Option("--keep", help="Copy them, only once, instead of moving them.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Schedules of MODULE:SOURCE, MODULE:SCHEDULER or --url --prefix.")
    commands: dict[str, Callable[..., None]] = {
        "list": list_all,
        "show": show,
        "delete": delete,
        "pause": pause,
        "resume": resume,
        "migrate": migrate,
        "schedulers": list_schedulers,
    }
    for name, function in commands.items():
        group.command(name)(function)
    app.add_typer(group, name="schedules", no_args_is_help=True)


@on_source
def list_all(
    target: Target,
    task: TaskName = None,
    limit: Limit = 50,
    args: ShowArgs = False,
    json: AsJson = False,
) -> None:
    """List schedules, with the time when each is due next."""
    with open_sources(target) as sources:
        found = islice(read(sources, task), limit + 1)
        if json:
            wanted = islice(found, limit)
            print_lines(as_dict(schedule, source, args) for source, schedule in wanted)
            return
        made = table(
            "Schedules", "ID", "Task", "When", "Next (UTC)", *(["Arguments"] if args else [])
        )
        number = 0
        for source, schedule in found:
            number += 1
            if number <= limit:
                next_run = source.next_run(schedule) or cell("paused, or never due", "yellow")
                row = (schedule.schedule_id, schedule.task_name, when(schedule), next_run)
                add_row(
                    made, *row, *([call_arguments(schedule.args, schedule.kwargs)] if args else [])
                )
    show_table(made)
    if number > limit:
        say(f"There are more than {limit}; see --limit.")


@on_source
def list_schedulers(target: Target, json: AsJson = False) -> None:
    """List the schedulers that read the source.

    Those that died within an hour are included.
    """
    with open_sources(target) as sources:
        found = [each for source in sources for each in source.schedulers()]
    if json:
        rows = [{**plain(each), "is_alive": each.is_alive} for each in found]
        typer.echo(as_json({"schedulers": rows}))
        return
    made = table("Schedulers", "Name", "State", "Host", "PID", "Version", "Started", ">Seen before")
    for each in found:
        state = cell("alive", "green") if each.is_alive else cell("gone", "bold red")
        row = (each.name, state, each.host, str(each.pid), each.version, each.started)
        add_row(made, *row, duration(each.age))
    show_table(made)


@on_source
def show(target: Target, ids: Ids = None, args: ShowArgs = False, json: AsJson = False) -> None:
    """Show schedules by their IDs; exit with 1 if one is missing."""
    missing = 0
    with open_sources(target) as sources:
        for schedule_id in required(ids):
            found = [(each, each.get_schedule(schedule_id)) for each in sources]
            for source, schedule in found:
                if schedule is not None:
                    print_schedule(as_dict(schedule, source, args), json)
            if not any(schedule for _, schedule in found):
                missing += 1
                say(f"There is no schedule {schedule_id!r}.")
    if missing:
        raise typer.Exit(NO)


def print_schedule(shown: dict[str, Any], json: bool) -> None:
    """Print a schedule as JSON, or as a table."""
    if json:
        typer.echo(as_json(shown))
        return
    made = table("Schedule", "Field", "Value")
    for name, value in shown.items():
        add_row(made, name.replace("_", " "), value)
    show_table(made)


@on_source
def delete(target: Target, ids: Ids = None, yes: Yes = False) -> None:
    """Delete schedules by their IDs; exit with 1 if one is missing."""
    confirm(f"Delete the schedules {listed(required(ids))}?", yes)
    change(target, ids, "delete_schedule", "Deleted", "there is no such schedule")


@on_source
def pause(target: Target, ids: Ids = None) -> None:
    """Keep schedules without sending them, until `resume`.

    Exit with 1 if one is missing.
    """
    change(target, ids, "pause_schedule", "Paused", "there is no such schedule")


@on_source
def resume(target: Target, ids: Ids = None) -> None:
    """Send paused schedules again; exit with 1 if one wasn't paused."""
    change(target, ids, "resume_schedule", "Resumed", "it was not paused")


def change(target: Target, ids: list[str] | None, method: str, done: str, not_done: str) -> None:
    """Change schedules one by one, and say what was done.

    Args:
        target: the target.
        ids: their IDs.
        method: method of the source that does it, and returns whether it did.
        done: what was done, for the output.
        not_done: why it wasn't.
    """
    missing = 0
    with open_sources(target) as sources:
        for schedule_id in required(ids):
            changed = [getattr(source, method)(schedule_id) for source in sources]
            if any(changed):
                answer(f"{done} {schedule_id}.")
            else:
                missing += 1
                say(f"{schedule_id}: {not_done}.")
    if missing:
        raise typer.Exit(NO)


@on_source
def migrate(
    target: Target,
    origin: Origin = None,
    from_prefix: OriginPrefix = None,
    from_kind: OriginKind = Kind.KEYS,
    keep: Keep = False,
    yes: Yes = False,
) -> None:
    """Move all schedules of another source into this one.

    This one has to be indexed.
    """
    if (origin is None) == (from_prefix is None):
        raise CommandError("Give --from MODULE:SOURCE or --from-prefix PREFIX.")
    if origin is None and target.url is None:
        raise CommandError("--from-prefix needs --url. Give --from MODULE:SOURCE.")
    other = replace(target, spec=origin, kind=from_kind.value, prefix=from_prefix or "")
    with open_sources(target) as sources, open_sources(other) as origins:
        if len(sources) != 1 or len(origins) != 1:
            raise CommandError("Give one source, not a scheduler with several.")
        (into,), (source,) = sources, origins
        if not hasattr(into, "with_migrate_from"):
            raise CommandError(f"{described(into)} isn't indexed. Use --kind indexed.")
        verb = "Copy" if keep else "Move"
        number = source.count()
        confirm(
            f"{verb} {plural(number, 'schedule')} of {described(source)} to {described(into)}?", yes
        )
        into.with_migrate_from(source, delete_schedules=not keep)
        before = into.count()
        watched("Migrating", into.startup, lambda: number - (into.count() - before))
        answer(f"{plural(into.count() - before, 'schedule')} added, {source.count()} left there.")


# --- Helpers


def required(ids: list[str] | None) -> list[str]:
    """Return IDs, or refuse a command without any."""
    if not ids:
        raise CommandError("Give the ID of a schedule; `schedules list` shows them.")
    return ids


def read(sources: list[Any], task: str | None) -> Iterator[tuple[Any, ScheduledTask]]:
    """Yield each source with each of its schedules, or with those of a task."""
    for source in sources:
        for schedule in source.iter_schedules():
            if task in {None, schedule.task_name}:
                yield source, schedule


def when(schedule: ScheduledTask) -> str:
    """Return when a schedule is due."""
    if schedule.cron is not None:
        offset = f" ({schedule.cron_offset})" if schedule.cron_offset else ""
        return f"cron {schedule.cron}{offset}"
    if schedule.interval is not None:
        return f"every {schedule.interval}{' s' if isinstance(schedule.interval, int) else ''}"
    return "once" if schedule.time is None else f"once {schedule.time:%Y-%m-%d %H:%M:%S%z}"


def as_dict(schedule: ScheduledTask, source: Any, args: bool) -> dict[str, Any]:
    """Return a schedule for JSON, without its arguments unless they are wanted."""
    names = ("schedule_id", "task_name", "cron", "cron_offset", "interval", "time")
    shown = {name: plain(getattr(schedule, name)) for name in names}
    shown["next_run"] = plain(source.next_run(schedule))
    if args:
        more = {"args": schedule.args, "kwargs": schedule.kwargs, "labels": schedule.labels}
        shown |= plain(more)
    return shown
