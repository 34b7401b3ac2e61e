"""Error messages of `taskiq worker` and `taskiq scheduler` for wrong options."""

import dataclasses

import pytest

from tests.e2e.conftest import Start, on_one_server, slow
from tests.e2e.programs import Program, taskiq
from tests.e2e.setting import Setting
from tests.servers import Topology

pytestmark = pytest.mark.full

WORKER = taskiq("worker", "tests.e2e.apps.tasks:broker", "--workers=1")
SCHEDULER = taskiq("scheduler", "tests.e2e.apps.scheduled:scheduler")

WRONG_PASSWORD = "Check the username and the password"
UNKNOWN_MASTER = "was not found: no sentinel returned its address ("


def check_error_message(program: Program, text: str) -> None:
    """Kill a program, and check that its log has this text and no traceback from redis-py."""
    # taskiq may miss SIGTERM while it restarts a worker.
    program.kill()
    program.expected |= {text, "is dead. Scheduling reload"}
    assert text in program.log
    assert "site-packages/redis" not in program.log


# All mechanisms check the password when they connect, in the same way on each topology.
@pytest.mark.parametrize(
    "mechanism", ["stream", *(pytest.param(m, marks=slow) for m in ("list", "pubsub"))]
)
def test_worker_with_wrong_password_logs_the_remedy(
    setting: Setting, start: Start, mechanism: str
) -> None:
    wrong = {"username": "nobody", "password": "wrong"}
    program = start(WORKER, options=wrong)
    program.says(WRONG_PASSWORD)
    # taskiq restarts a failed worker.
    program.says("is dead. Scheduling reload")
    check_error_message(program, WRONG_PASSWORD)
    assert "Listening started" not in program.log


@on_one_server
def test_scheduler_with_wrong_password_logs_the_remedy(topology: Topology, start: Start) -> None:
    host, port = topology.nodes[0]
    wrong = dataclasses.replace(topology, url=f"redis://nobody:wrong@{host}:{port}")
    program = start(SCHEDULER, topology=wrong)
    assert program.wait() != 0
    check_error_message(program, WRONG_PASSWORD)


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_worker_with_unknown_master_logs_the_remedy(
    topology: Topology, setting: Setting, start: Start, mechanism: str
) -> None:
    program = start(WORKER, topology=dataclasses.replace(topology, master_name="other"))
    program.says(UNKNOWN_MASTER)
    check_error_message(program, UNKNOWN_MASTER)
    assert f"knows {topology.master_name!r}" in program.log
