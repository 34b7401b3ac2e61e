"""`status` tells where a task is."""

from typing import Any

import pytest

from tests.cli.support import Commands, make_broker, send
from tests.servers import Topology

pytestmark = pytest.mark.parametrize("topology", ["single"], indirect=True)


def test_status_tells_where_a_task_is(topology: Topology, name: str, command: Commands) -> None:
    assert command("status", "missing", code=1) == "UNKNOWN\n"
    broker = make_broker(topology, "stream", name, track_tasks=True)
    send(broker, "a")
    send(broker, "b", delay=1000)
    broker.shutdown()
    assert command("status", "a").startswith("QUEUED")
    assert command("status", "b").startswith("DELAYED (due ")
    found: Any = command.json("status", "a")
    assert (found["task_id"], found["state"]) == ("a", "QUEUED")
    assert command.json("status", "missing", code=1)["state"] == "UNKNOWN"
    assert "one task" in command("status", code=2)
