"""The commands ``pause``, ``resume``, ``purge`` and ``trim``."""

from typing import Annotated

import typer

from taskiq_redis.cli.options import Yes, on_broker
from taskiq_redis.cli.output import (
    answer,
    confirm,
    described,
    listed,
    plural,
    progress_bar,
    watched,
)
from taskiq_redis.cli.targets import CommandError, Target, changed_queues, open_broker, require

Waiting = Annotated[bool, typer.Option(help="Delete those that workers can fetch.")]
Delayed = Annotated[bool, typer.Option(help="Delete those that wait for their time.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (pause, resume, purge, trim):
        app.command()(function)


@on_broker
def pause(target: Target) -> None:
    """Let workers fetch nothing from a queue until `resume`.

    Running tasks finish.
    """
    with open_broker(target) as broker:
        require(broker, "pause", "can't be paused")
        for queue in changed_queues(target, broker):
            broker.pause(queue)
            answer(f"Paused {queue!r}.")


@on_broker
def resume(target: Target) -> None:
    """Let workers fetch from a queue again."""
    with open_broker(target) as broker:
        require(broker, "resume", "can't be paused")
        for queue in changed_queues(target, broker):
            was_paused = broker.resume(queue)
            answer(f"Resumed {queue!r}." if was_paused else f"{queue!r} was not paused.")


@on_broker
def purge(
    target: Target, waiting: Waiting = True, delayed: Delayed = True, yes: Yes = False
) -> None:
    """Delete the messages of a queue that no worker holds."""
    if not waiting and not delayed:
        raise CommandError("--no-waiting and --no-delayed leave nothing to delete.")
    kinds = " and ".join([*["waiting"] * waiting, *["delayed"] * delayed])
    with open_broker(target) as broker:
        require(broker, "purge_queue", "keeps no messages")
        queues = changed_queues(target, broker)
        confirm(f"Delete all {kinds} messages of {listed(queues)}, {described(broker)}?", yes)
        for queue in queues:

            def left(queue: str = queue) -> int:
                stats = broker.stats(queue)
                return waiting * (stats.waiting or 0) + delayed * (stats.delayed or 0)

            def work(queue: str = queue) -> int:
                return int(broker.purge_queue(queue, waiting=waiting, delayed=delayed))

            number = watched(f"Purging {queue}", work, left)
            answer(f"Deleted {plural(number, 'message')} of {queue!r}.")


@on_broker
def trim(target: Target, yes: Yes = False) -> None:
    """Delete what all groups of a stream have acknowledged.

    `delete_acked=False` and taskiq-redis 1.2.4 leave them behind.
    """
    if len(target.queues) > 1:
        raise CommandError("Trim one --queue at a time.")
    with open_broker(target) as broker:
        require(broker, "trim", "needs no trimming")
        if target.queues and target.queues[0] != broker.queue_name:
            raise CommandError("--queue names another queue than the broker's. Use --url.")
        confirm(f"Delete the acknowledged entries of {described(broker)}?", yes)
        with progress_bar("Trimming", None) as show:
            number = broker.trim(lambda _, deleted: show(deleted))
    answer(f"Deleted {plural(number, 'entry', 'entries')}.")
