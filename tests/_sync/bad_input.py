# Generated from tests/_async/bad_input.py by scripts/unasync.py; edit that.

"""What tests of bad input share."""

from dataclasses import replace
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask

from tests._sync.support import message, result
from tests.servers import (
    HOST,
    KINDS,
    Topology,
)

QUEUES = ["list", "stream"]
BROKERS = [*QUEUES, "pubsub"]
SOURCES = ["keys", "indexed"]
MECHANISMS = [*BROKERS, "results", *SOURCES]
ON = {kind: pytest.mark.parametrize("topology", [kind], indirect=True) for kind in KINDS}
#: let sending fail soon if the server can't be reached
FAIL_SOON = {"kick_timeout": 0.2}
MEBIBYTE = 2**20


def at_port(topology: Topology, port: int, scheme: str = "redis") -> Topology:
    """Return a topology of the same kind at_port another port."""
    return replace(topology, url=f"{scheme}://{HOST}:{port}", sentinels=((HOST, port),))


def use(made: Any, mechanism: str) -> None:
    """Call a method that needs the server."""
    if mechanism in BROKERS:
        made.kick(message(b"a"))
    elif mechanism == "results":
        made.set_result("id", result(1))
    elif mechanism == "progress":
        made.set_progress("id", TaskProgress(state="x", meta=None))
    else:
        made.add_schedule(schedule())


def schedule(schedule_id: str = "id", **when: Any) -> ScheduledTask:
    """Return a schedule, a cron unless `when` says otherwise."""
    return ScheduledTask(
        task_name="task",
        labels={},
        args=[],
        kwargs={},
        schedule_id=schedule_id,
        **(when or {"cron": "* * * * *"}),
    )


def names_of(mechanism: str, name: str) -> dict[str, str]:
    """Return the option that determines the keys of an object."""
    if mechanism in BROKERS:
        return {"queue_name": name}
    return {"prefix_str": name} if mechanism == "results" else {"prefix": f"{{{name}}}"}
