"""How a worker ends: tasks finish, waiting messages are kept, connections are closed."""

import os
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from tests.e2e.apps import tasks
from tests.e2e.conftest import (
    Clients,
    Start,
    mostly_on_one_server,
    mostly_streams,
    on_one_server,
    queue_is_drained,
    slow,
)
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import client_of
from tests.waiting import wait_until


@pytest.mark.parametrize("mechanism", ["stream", "list", "pubsub"])
def test_idle_worker_ends_at_once(setting: Setting, worker: Start) -> None:
    # Far longer than the time limit of this test.
    options = {"xread_block": 300_000} if setting.mechanism == "stream" else {}
    program = worker(options=options)
    wait_until(setting.connections)
    assert program.stop() == 0
    wait_until(lambda: not setting.connections())


@mostly_streams
def test_running_tasks_finish_before_the_worker_ends(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    program = worker(processes=2)
    kinds = [tasks.until_released, tasks.until_released_in_thread]
    sent = [clients[i % 2].send(kinds[i // 2 % 2], i) for i in range(8)]
    wait_until(lambda: records.count("started") == 8)
    program.send_signal(SIGTERM)
    program.says("Stopping prefetching messages...", 2)
    # The log line precedes the end of reading.
    wait_until(lambda: not setting.is_read())
    late = clients[0].send(tasks.add, 1, 2)
    assert records.count("ended") == 0
    records.signal_file("go").touch()
    assert program.wait() == 0
    for i, one in enumerate(sent):
        # All results are stored already.
        assert clients[i % 2].wait(one).return_value == i
    wait_until(lambda: not setting.connections())
    assert records.count("add") == 0
    if setting.mechanism == "stream":
        assert client_of(setting.topology).xpending(setting.name, "taskiq")["pending"] == 0
    worker()
    assert clients[0].wait(late).return_value == 3
    assert records.count("started") == 8
    wait_until(lambda: queue_is_drained(setting))


@pytest.mark.full
@on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_reload_of_all_processes_loses_nothing(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    options = {"xread_count": 1} if setting.mechanism == "stream" else {}
    program = worker("--max-async-tasks=1", processes=2, options=options)
    meetings = [clients[0].send(tasks.meet, 2) for _ in range(2)]
    for one in meetings:
        clients[0].wait(one)
    sent = [clients[0].send(tasks.until_released, number) for number in range(10)]
    wait_until(lambda: records.count("started") == 2)
    program.send_signal(SIGHUP)
    program.says("Stopping prefetching messages...")
    records.signal_file("go").touch()
    assert [clients[1].wait(one.task_id).return_value for one in sent] == list(range(10))
    program.says("Listening started", 4)
    assert records.tally("ended", "number") == dict.fromkeys(range(10), 1)
    wait_until(lambda: queue_is_drained(setting))


@on_one_server
def test_ctrl_c_stops_all_processes(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    program = worker(processes=2)
    sent = [clients[0].send(tasks.until_released, i) for i in range(4)]
    wait_until(lambda: records.count("started") == 4)
    # As a terminal does; taskiq also sends the signal to its processes.
    os.killpg(program.process.pid, SIGINT)
    program.says("Stopping prefetching messages...", 2)
    records.signal_file("go").touch()
    assert program.wait() == 0
    assert [clients[1].wait(one.task_id).return_value for one in sent] == [0, 1, 2, 3]
    assert queue_is_drained(setting)


@pytest.mark.full
@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_worker_stopped_under_load_loses_nothing(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    options = {"idle_timeout": 2000} if setting.mechanism == "stream" else {}
    early, late = (worker(processes=2, options=options) for _ in range(2))
    sent = []
    for number in range(300):
        sent.append(clients[number % 2].send(tasks.add, number, 0))
        if number in (100, 200):
            (early if number == 100 else late).send_signal(SIGTERM)
    assert early.wait() == late.wait() == 0
    worker(options=options)
    for number, one in enumerate(sent):
        assert clients[number % 2].wait(one).return_value == number
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("add", "sum") == dict.fromkeys(range(300), 1)


@pytest.mark.full
@pytest.mark.parametrize("end", ["stop", pytest.param("kill", marks=slow)])
def test_messages_that_a_busy_worker_did_not_start_run_elsewhere(
    setting: Setting, worker: Start, clients: Clients, records: Records, end: str
) -> None:
    options = {"idle_timeout": 2000}
    first = clients[0].send(tasks.until_released, 0)
    others = [clients[number % 2].send(tasks.add, number, 0) for number in range(20)]
    program = worker("--max-async-tasks=1", options=options)
    wait_until(lambda: records.count("started"))
    # The worker fetches no more than it can start.
    assert client_of(setting.topology).xpending(setting.name, "taskiq")["pending"] == 1
    if end == "stop":
        program.send_signal(SIGTERM)
        program.says("Stopping prefetching messages...")
        records.signal_file("go").touch()
        assert program.wait() == 0
    else:
        program.kill()
        records.signal_file("go").touch()
    assert records.count("add") < 20
    worker(options=options)
    for number, sent in enumerate(others):
        assert clients[number % 2].wait(sent).return_value == number
    assert clients[1].wait(first.task_id).return_value == 0
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("add", "sum") == dict.fromkeys(range(20), 1)
    # An interrupted task runs again.
    assert records.count("started") == (1 if end == "stop" else 2)


@pytest.mark.full
@on_one_server
def test_task_that_exceeds_wait_tasks_timeout_runs_again(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    options = {"idle_timeout": 2000}
    program = worker("--wait-tasks-timeout=0.5", options=options)
    sent = clients[0].send(tasks.until_released, 7)
    wait_until(lambda: records.count("started"))
    # taskiq abandons the running task.
    program.expected.add("was destroyed but it is pending")
    assert program.stop() == 0
    records.signal_file("go").touch()
    worker(options=options)
    assert clients[1].wait(sent.task_id).return_value == 7
    assert (records.count("started"), records.count("ended")) == (2, 1)
    wait_until(lambda: queue_is_drained(setting))
