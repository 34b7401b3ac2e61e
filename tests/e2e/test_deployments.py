"""Workers of two versions share a queue, and workers are stopped before their tasks are done."""

from signal import SIGTERM
from typing import Any

import pytest

from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from taskiq_redis.exceptions import UndeclaredTaskError
from tests._aio import collect
from tests.e2e.apps import deployment, tasks
from tests.e2e.conftest import (
    Clients,
    Start,
    on_one_server,
    queue_is_drained,
    slow,
)
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import KINDS, client_of
from tests.waiting import wait_until

APP = "tests.e2e.apps.deployment:broker"
NEW = {"version": "new"}
#: streams on all topologies; lists only in longer runs
both_queues = pytest.mark.parametrize(
    ("topology", "mechanism"),
    [
        *((kind, "stream") for kind in KINDS),
        pytest.param("single", "list", marks=pytest.mark.full),
        *(pytest.param(kind, "list", marks=slow) for kind in KINDS if kind != "single"),
    ],
    indirect=["topology"],
)


@both_queues
def test_task_that_an_old_worker_does_not_know_runs_in_a_new_one(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    old = worker(app=APP)
    sent = [client.send("added", number) for number, client in enumerate(clients)]
    old.says("The task 'added' is not declared in this worker")
    # Meanwhile, it runs what it knows.
    assert clients[1].call(deployment.kept, 7) == 7
    worker(app=APP, extras=NEW)
    assert [clients[0].wait(one.task_id).return_value for one in sent] == [0, 1]
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("added", "number") == {0: 1, 1: 1}
    # Not one for each message and try.
    assert old.log.count("is not declared in this worker") == 1
    assert old.log.count("is not found") == 1


@both_queues
def test_task_that_no_worker_knows_becomes_a_dead_letter_with_an_error_result(
    setting: Setting, worker: Start, clients: Clients
) -> None:
    worker("--ack-type=when_received", app=APP, options={"unknown_task_timeout": 0.5})
    async_client, sync_client = clients
    sent = async_client.send("added", 1)
    result = sync_client.wait(sent.task_id)
    assert isinstance(result.error, UndeclaredTaskError)
    assert (result.error.task_name, result.error.timeout) == ("added", 0.5)

    def letters() -> Any:
        return async_client.run(collect(async_client.broker.dead_letters()))

    (letter,) = wait_until(letters)
    assert letter.reason == "no worker knew the task 'added' for 0.5 s"
    assert letter.deliveries == 0
    wait_until(lambda: queue_is_drained(setting))


@pytest.mark.full
def test_stops_that_cut_a_task_short_do_not_count_as_failed_deliveries(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    options = {"max_deliveries": 2, "idle_timeout": 300_000}
    sent = clients[0].send(deployment.long)
    for stops in range(2):
        program = worker("--wait-tasks-timeout=0.01", app=APP, options=options)
        wait_until(lambda: records.count("started") == stops + 1)  # noqa: B023 - called at once
        # taskiq abandons the running task.
        program.expected.add("was destroyed but it is pending")
        assert program.stop() == 0
        (entry,) = client_of(setting.topology).xpending_range(setting.name, "taskiq", "-", "+", 9)
        assert (entry["consumer"], entry["times_delivered"]) == (HANDED_BACK.encode(), 0)
        assert "stops before 1 tasks are done, such as the task 'long'" in program.log
    records.signal_file("go").touch()
    worker(app=APP, options=options)
    assert clients[1].wait(sent.task_id).return_value == "done"
    assert records.count("started") == 3
    wait_until(lambda: queue_is_drained(setting))


@pytest.mark.full
@on_one_server
def test_task_that_ends_in_its_thread_while_the_worker_stops_runs_once(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    program = worker("--wait-tasks-timeout=0.01")
    sent = clients[0].send(tasks.until_released_in_thread, 7)
    wait_until(lambda: records.count("started"))
    program.send_signal(SIGTERM)
    # Now, taskiq waits for its threads.
    program.says("The runner is stopped")
    records.signal_file("go").touch()
    assert program.wait() == 0
    assert clients[1].wait(sent.task_id).return_value == 7
    assert queue_is_drained(setting)
