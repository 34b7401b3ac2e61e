"""The ACL rules of `operator` in docs/migration.md suffice for the commands."""

from typing import Any

import pytest

from tests._async.support import on_all_nodes
from tests.cli.support import Commands, add_dead_letters, make_broker, make_source, send, working
from tests.compat.test_acl import create_user, own_rules, refused
from tests.leaks import PASSWORD
from tests.servers import Topology

pytestmark = [
    pytest.mark.full,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


@pytest.fixture
def operator(topology: Topology, name: str) -> Any:
    """Create a user with the rules of operators, and return how to run commands as this user."""
    rules = own_rules("operator", name)
    on_all_nodes(topology, lambda node: create_user(node, name, rules))
    quoted = PASSWORD.replace("@", "%40").replace(":", "%3A")

    def run(*options: str) -> Commands:
        commands = Commands(topology, *options)
        commands._options = [
            each.replace("redis://", f"redis://{name}:{quoted}@") for each in commands._options
        ]
        return commands

    yield run
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


def test_operator_may_run_all_commands(
    topology: Topology, broker: Any, name: str, operator: Any
) -> None:
    send(broker, "a", "b")
    send(broker, "c", delay=1000)
    tracking = make_broker(topology, "stream", name, track_tasks=True)
    send(tracking, "f", delay=1000)
    tracking.shutdown()
    add_dead_letters(broker, topology, "d", "e")
    command = operator("--queue", name)
    with working(broker, 1):
        for words in (
            ["info"],
            ["status", "f", "--results", name],
            ["workers"],
            ["waiting", "list"],
            ["running", "list"],
            ["delayed", "list"],
            ["dead", "list"],
            ["dead", "show", "d"],
            ["dead", "requeue", "--task", "note", "--yes", "--results", name],
            ["dead", "purge", "--all", "--yes"],
            ["delayed", "cancel", "c", "--yes"],
            ["pause"],
            ["resume"],
            ["ping"],
            ["ping", "--any"],
            ["purge", "--yes"],
        ):
            command(*words)
    command("trim", "--yes")
    command("status", "d", "--results", name, code=1)
    assert refused(topology, name) == set()


def test_operator_may_manage_schedules(topology: Topology, name: str, operator: Any) -> None:
    from tests.cli.test_schedules import schedule

    command = operator("--prefix", f"{{{name}}}")
    with make_source(topology, "indexed", f"{{{name}}}") as source:
        source.add_schedule(schedule("a", interval=5))
        for words in (["list"], ["show", "a"], ["pause", "a"], ["resume", "a"], ["schedulers"]):
            command("schedules", *words)
        command("schedules", "delete", "a", "--yes")
        command("ping", "--scheduler", code=1)
    assert refused(topology, name) == set()
