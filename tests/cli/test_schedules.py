"""Schedules are listed, shown, paused, deleted and moved."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from tests.cli.support import Commands, make_source
from tests.leaks import ARGUMENT
from tests.servers import Topology

FUTURE = datetime.now(timezone.utc) + timedelta(days=400)
single = pytest.mark.parametrize("topology", ["single"], indirect=True)


def schedule(schedule_id: str, task: str = "note", **when: Any) -> ScheduledTask:
    return ScheduledTask(
        task_name=task, labels={}, args=[ARGUMENT], kwargs={}, schedule_id=schedule_id, **when
    )


@pytest.fixture
def kind() -> str:
    """The kind of the source."""
    return "indexed"


@pytest.fixture
def source(topology: Topology, name: str, kind: str) -> Iterator[Any]:
    """A blocking source with three schedules."""
    with make_source(topology, kind, f"{{{name}}}") as made:
        made.add_schedule(schedule("cron", cron="0 3 * * *"))
        made.add_schedule(schedule("often", interval=90))
        made.add_schedule(schedule("once", "other", time=FUTURE))
        yield made


@pytest.fixture
def schedules(topology: Topology, name: str, kind: str) -> Commands:
    """Run commands for that source."""
    return Commands(topology, "--prefix", f"{{{name}}}", "--kind", kind)


def test_schedules_are_listed_shown_paused_and_deleted(source: Any, schedules: Commands) -> None:
    found = {each["schedule_id"]: each for each in schedules.lines("schedules", "list")}
    assert found.keys() == {"cron", "often", "once"}
    assert found["cron"]["cron"] == "0 3 * * *"
    assert found["often"]["interval"] == 90
    assert datetime.fromisoformat(found["once"]["next_run"]) - FUTURE < timedelta(seconds=1)
    assert "args" not in found["once"]
    output = schedules("schedules", "list")
    assert all(text in output for text in ("cron 0 3 * * *", "every 90 s", "other"))
    assert ARGUMENT not in output
    assert schedules("schedules", "pause", "cron") == "Paused cron.\n"
    assert schedules.json("schedules", "show", "cron")["next_run"] is None
    assert schedules("schedules", "resume", "cron") == "Resumed cron.\n"
    assert "was not paused" in schedules("schedules", "resume", "cron", code=1)
    assert "--yes" in schedules("schedules", "delete", "cron", code=2)
    assert "Deleted cron." in schedules("schedules", "delete", "cron", "missing", "--yes", code=1)
    assert "no schedule 'cron'" in schedules("schedules", "show", "cron", code=1)


@single
def test_lists_are_limited_and_show_arguments_if_wanted(source: Any, schedules: Commands) -> None:
    (found,) = schedules.lines("schedules", "list", "--task", "other", "--args")
    assert (found["schedule_id"], found["args"]) == ("once", [ARGUMENT])
    assert f"'{ARGUMENT}'" in schedules("schedules", "list", "--args")
    assert "more than 2" in schedules("schedules", "list", "--limit", "2")
    assert ARGUMENT in schedules("schedules", "show", "once", "--args")
    assert "schedules list" in schedules("schedules", "show", code=2)


@single
@pytest.mark.parametrize("kind", ["keys"])
def test_schedules_with_one_key_each_are_changed(source: Any, schedules: Commands) -> None:
    assert "cron 0 3 * * *" in schedules("schedules", "list")
    assert schedules("schedules", "pause", "cron") == "Paused cron.\n"
    assert "Deleted cron." in schedules("schedules", "delete", "cron", "--yes")


@pytest.mark.parametrize("kind", ["keys"])
def test_schedules_are_migrated(
    topology: Topology, name: str, source: Any, kind: str, monkeypatch: Any
) -> None:
    target = Commands(topology, "--prefix", f"{{{name}}}:new")
    words = ["schedules", "migrate", "--from-prefix", f"{{{name}}}"]
    assert "--yes" in target(*words, code=2)
    assert "3 schedules added, 3 left" in target(*words, "--yes", "--keep")
    assert "0 schedules added, 0 left" in target(*words, "--yes")
    assert len(target.lines("schedules", "list")) == 3


@single
def test_migration_needs_an_indexed_source_and_an_origin(
    topology: Topology, name: str, schedules: Commands
) -> None:
    assert "--from " in schedules("schedules", "migrate", code=2)
    target = Commands(topology, "--prefix", name, "--kind", "keys")
    words = ("schedules", "migrate", "--from-prefix", "x", "--yes")
    assert "isn't indexed" in target(*words, code=2)
