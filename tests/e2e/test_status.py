"""Clients see what has become of the tasks of a real worker, and follow their progress."""

from functools import partial
from typing import Any

from taskiq_redis import TaskState
from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from tests.e2e.apps import tasks
from tests.e2e.clients import Client
from tests.e2e.conftest import Clients, Start, mostly_on_one_server
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import Topology, client_of
from tests.waiting import wait_until

#: a task becomes a dead letter after one failed delivery, and if it raises
OPTIONS = {"track_tasks": True, "max_deliveries": 1, "keep_failed": True}


def fail_first_delivery(topology: Topology, name: str) -> None:
    """Let the first delivery of the messages of a queue fail, as if a worker had died."""
    redis = client_of(topology)
    redis.xgroup_create(name, "taskiq", id="0")
    ((_, entries),) = redis.xreadgroup("taskiq", "dead", {name: ">"})
    ids = [entry_id for entry_id, _ in entries]
    # Any worker may claim them at once.
    redis.xclaim(name, "taskiq", HANDED_BACK, 0, ids, idle=10_000_000, retrycount=1)


def are(clients: Clients, task_id: str, state: TaskState) -> bool:
    """Return whether a task is in this state for both clients."""
    return all(client.status(task_id).state is state for client in clients)


@mostly_on_one_server
def test_status_goes_through_all_states_and_progress_is_followed(
    topology: Topology, setting: Setting, worker: Start, connect: Any, records: Records
) -> None:
    setting.options.update(OPTIONS)
    clients: Clients = connect(setting.broker())
    dead = [client.send(tasks.add, 0, 1).task_id for client in clients]
    fail_first_delivery(topology, setting.name)
    delay = {"delay": "0.1", "_delayed": "True"}
    queued = [client.send(tasks.until_released, 0).task_id for client in clients]
    delayed = [client.send(tasks.until_released, 1, labels=delay).task_id for client in clients]
    for task_id in (*dead, *queued):
        assert are(clients, task_id, TaskState.QUEUED)
    for task_id in delayed:
        assert are(clients, task_id, TaskState.DELAYED)
    program = worker()
    for task_id in (*queued, *delayed):
        wait_until(partial(are, clients, task_id, TaskState.RUNNING))
        found = {client.status(task_id) for client in clients}
        assert {status.attempt for status in found} == {1}
        (consumer,) = {status.worker for status in found}
        assert consumer
    failed = [client.send(tasks.fail).task_id for client in clients]
    for task_id in (*dead, *failed):
        wait_until(partial(are, clients, task_id, TaskState.DEAD))
    records.signal_file("go").touch()
    for task_id in (*queued, *delayed):
        wait_until(partial(are, clients, task_id, TaskState.DONE))
    for client in clients:
        sent = client.send(tasks.report, 2)
        assert follow(client, sent.task_id, records) == [("working", 1), ("working", 2)]
        assert client.wait(sent.task_id).return_value == "2 steps"
        for step in (1, 2):
            records.signal_file(f"seen {step}").unlink()
    assert program.stop() == 0


def follow(client: Client, task_id: str, records: Records) -> list[tuple[str, int]]:
    """Return the progress of a task, which waits until each one was seen."""
    seen: list[tuple[str, int]] = []

    def see(progress: Any) -> None:
        seen.append((progress.state, progress.meta))
        records.signal_file(f"seen {progress.meta}").touch()

    client.follow(task_id, see)
    return seen
