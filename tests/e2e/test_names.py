"""Names of tasks, and how workers find them: modules, discovery, scripts."""

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server, queue_is_drained
from tests.e2e.setting import Setting
from tests.waiting import wait_until

#: a user's project, which imports from its own folder
PROJECT = Path(__file__).parent / "project"


@on_one_server
@pytest.mark.parametrize(
    "arguments",
    [
        ["shop.broker:broker", "--fs-discover"],
        ["shop.broker:make_broker", "shop.tasks"],
        ["shop.tasks:broker"],
    ],
    ids=["discovery", "factory", "module"],
)
def test_async_and_blocking_tasks_in_one_module_are_found(
    setting: Setting, worker: Start, clients: Clients, arguments: list[str]
) -> None:
    app, *others = arguments
    program = worker(*others, app=app, folder=PROJECT, options={"unknown_task_timeout": 0})
    names = {
        "shop.tasks:from_async": "from_async",
        "shop.tasks:from_blocking": "from_blocking",
        "shop.tasks:async_from_blocking": "async_from_blocking",
        "a name with spaces, ünïcode: and/slashes": "with_name",
        "shared": "from_shared",
    }
    # A client that sends a task by name has to pass its labels.
    labels = {"priority": 3}
    for number, client in enumerate(clients):
        for name, function in names.items():
            more = " 3" if function == "with_name" else ""
            assert client.call(name, number, labels=labels) == f"{function} {number}{more}"
        client.send("shop.tasks:unknown", number)
    program.says('task "shop.tasks:unknown" is not found')
    wait_until(lambda: queue_is_drained(setting))


@mostly_on_one_server
def test_script_sends_tasks_that_it_declares_itself(worker: Start, start: Start) -> None:
    worker(app="scripts.send:broker", folder=PROJECT)
    program = start([sys.executable, "scripts/send.py"], folder=PROJECT)
    assert program.wait() == 0
    assert json.loads(program.log) == [
        "scripts.send:from_async",
        "from_async 1",
        "scripts.send:from_blocking",
        "from_blocking 2",
        "from_async 3",
    ]
