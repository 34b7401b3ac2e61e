"""The commands ``waiting list``, ``running list``, ``delayed list`` and ``delayed cancel``."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from taskiq_redis import QueuedTask
from taskiq_redis.cli.options import AsJson, Limit, ShowArgs, TaskName, Yes, on_broker
from taskiq_redis.cli.output import (
    NO,
    add_row,
    answer,
    call_arguments,
    cell,
    confirm,
    described,
    plain,
    plural,
    print_lines,
    say,
    show as show_table,
    table,
)
from taskiq_redis.cli.targets import (
    CommandError,
    Target,
    changed_queues,
    open_broker,
    queues_of,
    require,
)

#: columns that each list has, besides ID and name of the task
COLUMNS = {
    "waiting": {"Since": "since", ">Failed deliveries": "deliveries"},
    "running": {"Since": "since", ">Delivery": "deliveries", "Worker": "owner"},
    "delayed": {"Due": "due"},
    "dead_letters": {"Died": "since", "Reason": "reason", "Error": "error"},
}

TaskIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE:BROKER] TASK_ID...", help="IDs of the tasks.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for kind, text in {
        "waiting": "Messages that no worker holds.",
        "running": "Messages that workers of streams hold.",
        "delayed": "Messages that wait for their time.",
    }.items():
        group = typer.Typer(help=text, no_args_is_help=True)
        group.command("list")(lister(kind, text))
        if kind == "delayed":
            group.command("cancel")(cancel)
        app.add_typer(group, name=kind)


def lister(kind: str, text: str) -> Callable[..., None]:
    """Return the command that lists messages.

    Args:
        kind: name of the broker's method that yields them.
        text: help of the command.
    """

    @on_broker
    def show(
        target: Target,
        task: TaskName = None,
        limit: Limit = 50,
        args: ShowArgs = False,
        json: AsJson = False,
    ) -> None:
        with open_broker(target) as broker:
            found = islice(read(target, broker, kind, task, limit + 1), limit + 1)
            if json:
                print_lines(message_as_json(each, args) for each in islice(found, limit))
                return
            rows = list(found)
        print_table(kind, rows[:limit], args)
        if len(rows) > limit:
            say(f"There are more than {limit}; see --limit.")

    first = "The first that are due" if kind == "delayed" else "The oldest"
    show.__doc__ = f"{text} {first} come first."
    return show


def read(
    target: Target, broker: Any, kind: str, task: str | None, limit: int | None
) -> Iterator[QueuedTask]:
    """Yield the messages of all queues.

    Args:
        target: the target.
        broker: its broker.
        kind: name of the method that yields them.
        task: only tasks of this name; None for all.
        limit: maximum number per queue; None for no limit.
    """
    require(broker, kind, f"doesn't know its {kind.replace('_', ' ')} messages")
    for queue in queues_of(target, broker):
        yield from getattr(broker, kind)(queue_name=queue, task_name=task, limit=limit)


def print_table(kind: str, rows: Sequence[QueuedTask], args: bool) -> None:
    """Print messages as a table."""
    columns = COLUMNS[kind]
    named = any(row.id for row in rows)
    headers = ["Queue", *(["ID"] if named else []), "Task ID", "Task", *columns]
    made = table(kind.replace("_", " ").capitalize(), *headers, *(["Arguments"] if args else []))
    for row in rows:
        values: list[object] = [row.queue_name, *([row.id] if named else [])]
        values += [row.task_id, name_of(row)]
        values += [getattr(row, attribute, None) for attribute in columns.values()]
        add_row(made, *values, *([call_arguments(row.args, row.kwargs)] if args else []))
    show_table(made)


def name_of(row: QueuedTask) -> Text:
    """Return the name of a task, or why it isn't known."""
    if row.problem is None:
        return cell(row.task_name)
    return cell(f"unreadable: {row.problem}", "red")


def message_as_json(row: QueuedTask, args: bool, *more: str) -> dict[str, Any]:
    """Return a message for JSON.

    Args:
        row: the message.
        args: whether to show its arguments and labels.
        more: further attributes.
    """
    names = "queue_name id task_id task_name since due deliveries owner problem"
    present = [name for name in ("reason", "error", *more) if hasattr(row, name)]
    shown = {name: plain(getattr(row, name)) for name in (*names.split(), *present)}
    if args:
        shown |= plain({"args": row.args, "kwargs": row.kwargs, "labels": row.labels})
    return shown


@on_broker
def cancel(target: Target, ids: TaskIds = None, yes: Yes = False) -> None:
    """Delete delayed messages by the IDs of their tasks.

    Exit with 1 if one isn't there.
    """
    if not ids:
        raise CommandError("It is unclear which task to cancel. Give its TASK_ID.")
    missing = 0
    with open_broker(target) as broker:
        require(broker, "cancel_delayed", "delays no messages")
        confirm(f"Cancel {plural(len(ids), 'delayed task')} of {described(broker)}?", yes)
        for task_id in ids:
            queues = changed_queues(target, broker)
            canceled = [broker.cancel_delayed(task_id, queue) for queue in queues]
            if any(canceled):
                answer(f"Canceled {task_id}.")
            else:
                missing += 1
                say(f"{task_id} isn't delayed: it is unknown, or in its queue by now.")
    if missing:
        raise typer.Exit(NO)
