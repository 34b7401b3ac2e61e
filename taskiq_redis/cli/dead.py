"""The commands for dead letters: ``dead list|show|requeue|purge``."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from taskiq_redis import DeadLetter
from taskiq_redis.cli.messages import (
    lister,
    message_as_json,
    name_of,
)
from taskiq_redis.cli.options import AsJson, Results, ShowArgs, TaskName, Yes, on_broker
from taskiq_redis.cli.output import (
    NO,
    add_row,
    answer,
    as_json,
    call_arguments,
    clean,
    confirm,
    described,
    fail,
    listed,
    plural,
    progress_bar,
    show as show_table,
    table,
    watched,
)
from taskiq_redis.cli.targets import CommandError, Target, changed_queues, open_broker, require

#: number of dead letters per call
CHUNK = 100

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE:BROKER] [ID]...",
        help="IDs of the dead letters, as `dead list` shows them.",
        show_default=False,
    ),
]
Id = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE:BROKER] ID",
        help="ID of the dead letter, or of its task.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Dead letters: messages that aren't run any more.")
    text = "Messages that aren't run any more."
    group.command("list")(lister("dead_letters", text))
    for function in (show, requeue, purge):
        group.command()(function)
    app.add_typer(group, name="dead", no_args_is_help=True)


@on_broker
def show(target: Target, ids: Id = None, args: ShowArgs = False, json: AsJson = False) -> None:
    """Show a dead letter, with its error and traceback.

    Exit with 1 if there is none.
    """
    if not ids or len(ids) > 1:
        raise CommandError("Give the ID of one dead letter; `dead list` shows them.")
    with open_broker(target) as broker:
        require(broker, "dead_letters", "has no dead letters")
        letter = find(target, broker, ids[0])
    if letter is None:
        fail(f"There is no dead letter {ids[0]!r}.", NO)
    if json:
        typer.echo(as_json(message_as_json(letter, args, "consumer", "traceback")))
        return
    made = table("Dead letter", "Field", "Value")
    names = "queue_name id task_id since reason consumer deliveries error"
    for name in names.split():
        add_row(made, name.replace("_", " "), getattr(letter, name, None))
    add_row(made, "task", name_of(letter))
    if args:
        add_row(made, "arguments", call_arguments(letter.args, letter.kwargs))
        add_row(made, "labels", str(letter.labels))
    show_table(made)
    for line in (getattr(letter, "traceback", None) or "").splitlines():
        typer.echo(clean(line))


def find(target: Target, broker: Any, wanted: str) -> DeadLetter | None:
    """Return the dead letter with an ID, or of the task with that ID."""
    for queue in changed_queues(target, broker):
        for letter in broker.dead_letters(queue_name=queue, limit=None):
            if wanted in {letter.id, letter.task_id}:
                return letter  # type: ignore[no-any-return]
    return None


@on_broker
def requeue(
    target: Target,
    ids: Ids = None,
    task: TaskName = None,
    everything: All = False,
    yes: Yes = False,
    results: Results = None,
) -> None:
    """Send dead letters to their queue again: by ID, by --task, or --all.

    Their error results are deleted.
    """
    check_choice(ids, task, everything)
    with open_broker(replace(target, results=results)) as broker:
        require(broker, "requeue_dead_letters", "has no dead letters")
        if not ids:
            confirm(f"Requeue {chosen(task)} of {described(broker)}?", yes)
        number = 0
        for queue in changed_queues(target, broker):
            method = partial(broker.requeue_dead_letters, queue_name=queue)
            number += change(broker, queue, "Requeueing", method, ids, task)
    report(f"Requeued {plural(number, 'dead letter')}.", number, ids, task)


@on_broker
def purge(
    target: Target,
    ids: Ids = None,
    task: TaskName = None,
    everything: All = False,
    yes: Yes = False,
) -> None:
    """Delete dead letters: by ID, by --task, or --all."""
    check_choice(ids, task, everything)
    with open_broker(target) as broker:
        require(broker, "purge_dead_letters", "has no dead letters")
        confirm(f"Delete {listed(ids) if ids else chosen(task)} of {described(broker)}?", yes)
        number = 0
        for queue in changed_queues(target, broker):
            options = {"queue_name": queue, **({"all": True} if everything else {})}
            method = partial(broker.purge_dead_letters, **options)
            number += change(broker, queue, "Deleting", method, ids, task)
    report(f"Deleted {plural(number, 'dead letter')}.", number, ids, task)


def change(
    broker: Any,
    queue: str,
    doing: str,
    method: Callable[..., int],
    ids: list[str] | None,
    task: str | None,
) -> int:
    """Change dead letters of a queue, and return their number.

    Args:
        broker: the broker.
        queue: the queue.
        doing: what is done, for the progress bar.
        method: does it; gets the IDs, or none for all.
        ids: their IDs; None to choose them otherwise.
        task: name of their task; None for all.
    """
    if ids or task is None:
        return watched(doing, lambda: method(*(ids or ())), lambda: broker.stats(queue).dead or 0)
    found = [each.id for each in broker.dead_letters(queue_name=queue, task_name=task)]
    number = 0
    with progress_bar(doing, len(found)) as show:
        for first in range(0, len(found), CHUNK):
            number += method(*found[first : first + CHUNK])
            show(first + CHUNK)
    return number


def check_choice(ids: list[str] | None, task: str | None, everything: bool) -> None:
    """Refuse a command that doesn't choose dead letters in one of the three ways."""
    if sum([bool(ids), task is not None, everything]) != 1:
        raise CommandError("Give IDs, --task NAME or --all: one of the three.")


def chosen(task: str | None) -> str:
    """Return a description of dead letters that were not chosen by ID."""
    return "all dead letters" if task is None else f"all dead letters of the task {task!r}"


def report(text: str, number: int, ids: list[str] | None, task: str | None) -> None:
    """Print what was done; exit with 1 if something that was named wasn't there."""
    answer(text)
    if number < len(ids or ()) or (task is not None and not number):
        raise typer.Exit(NO)
