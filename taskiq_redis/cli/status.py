"""The command ``status``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from taskiq_redis.cli.options import AsJson, Results, on_broker
from taskiq_redis.cli.output import NO, answer, as_json, plain
from taskiq_redis.cli.targets import CommandError, Target, open_broker, queues_of, require

#: state of an unknown task
UNKNOWN_STATE = "UNKNOWN"

TaskIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODULE:BROKER] TASK_ID", help="ID of the task.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(show_status)


@on_broker
def show_status(
    target: Target, ids: TaskIds = None, results: Results = None, json: AsJson = False
) -> None:
    """Show where a task is; exit with 1 if it is unknown."""
    if not ids or len(ids) > 1:
        raise CommandError("Give the ID of one task.")
    target = replace(target, results=results, tracks=target.mechanism != "pubsub")
    with open_broker(target) as broker:
        require(broker, "status", "knows nothing of single tasks")
        found = read_status(broker, ids[0], queues_of(target, broker))
    if json:
        typer.echo(as_json({"task_id": ids[0], **plain(found)}))
    else:
        details = {
            name.replace("_", " "): value
            for name, value in plain(found).items()
            if value is not None and name != "state"
        }
        more = ", ".join(f"{name} {value}" for name, value in details.items())
        answer(f"{found.state.value}{f' ({more})' if more else ''}")
    if found.state.value == UNKNOWN_STATE:
        raise typer.Exit(NO)


def read_status(broker: Any, task_id: str, queues: Sequence[str]) -> Any:
    """Return where a task is: in the first of the queues that knows it."""
    found: Any = None
    for queue in queues:
        found = broker.status(task_id, queue)
        if found.state.value != UNKNOWN_STATE:
            break
    return found
