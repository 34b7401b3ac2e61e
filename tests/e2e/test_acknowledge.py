"""When taskiq acknowledges a message, checked by the pending entries."""

import pytest

from tests.e2e.apps import acknowledge
from tests.e2e.clients import Client
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server, slow
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import client_of
from tests.waiting import wait_until

APP = "tests.e2e.apps.acknowledge:broker"
STEPS = ("fetched", "running", "executed", "saved")
#: number of pending messages at each step, while one task runs
PENDING = {
    "when_received": [1, 0, 0, 0],
    "when_executed": [1, 1, 0, 0],
    "when_saved": [1, 1, 1, 1],
    "manual": [1, 1, 1, 1],
}


def pending(setting: Setting) -> int:
    """Return the number of pending messages of the group."""
    count: int = client_of(setting.topology).xpending(setting.name, "taskiq")["pending"]
    return count


def seen(records: Records, task_id: str) -> list[int]:
    """Return the number of pending messages at each step."""
    return [line["pending"] for step in STEPS for line in records.of(step, task=task_id)]


def check(
    setting: Setting, client: Client, records: Records, task: str, ack_type: str, how: str
) -> None:
    sent = client.send(getattr(acknowledge, task), how)
    assert client.wait(sent).is_err == (how == "fail")
    wait_until(lambda: records.count("saved", task=sent.task_id))
    if ack_type == "manual":
        assert pending(setting) == 1
        assert seen(records, sent.task_id) == PENDING[ack_type]
        # Otherwise it would be counted along with the next one.
        (entry,) = client_of(setting.topology).xpending_range(setting.name, "taskiq", "-", "+", 10)
        client_of(setting.topology).xack(setting.name, "taskiq", entry["message_id"])
    else:
        wait_until(lambda: pending(setting) == 0)
        assert seen(records, sent.task_id) == PENDING[ack_type]


@mostly_on_one_server
@pytest.mark.parametrize("how", ["", pytest.param("fail", marks=slow)])
def test_ack_type_label_decides_when_to_acknowledge(
    setting: Setting, worker: Start, clients: Clients, records: Records, how: str
) -> None:
    worker(app=APP)
    for ack_type in PENDING:
        for client in clients:
            check(setting, client, records, ack_type, ack_type, how)
    # Without the label, the default applies.
    check(setting, clients[0], records, "plain", "when_saved", how)


@on_one_server
@pytest.mark.parametrize("ack_type", PENDING)
def test_ack_type_option_decides_when_to_acknowledge(
    setting: Setting, worker: Start, clients: Clients, records: Records, ack_type: str
) -> None:
    worker(f"--ack-type={ack_type}", app=APP)
    for client in clients:
        check(setting, client, records, "plain", ack_type, "")
    # The label takes precedence.
    check(setting, clients[0], records, "when_executed", "when_executed", "")


def test_task_can_acknowledge_its_own_message(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    worker(app=APP)
    for client in clients:
        for task in (acknowledge.manual, acknowledge.when_saved):
            sent = client.send(task, "acknowledge")
            client.wait(sent).raise_for_error()
            assert records.of("acknowledged", task=sent.task_id)[0]["pending"] == 0
            wait_until(lambda: records.count("saved", task=sent.task_id))  # noqa: B023
            assert seen(records, sent.task_id) == [1, 1, 0, 0]
