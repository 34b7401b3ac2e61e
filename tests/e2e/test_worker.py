"""`taskiq worker` runs tasks of async and blocking clients, which read results and progress."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from taskiq import async_shared_broker

from taskiq_redis._core.keys import dead_letters_key
from tests.core.pickles import BOMBS
from tests.e2e.apps import tasks
from tests.e2e.clients import Client
from tests.e2e.conftest import (
    Clients,
    Start,
    mostly_on_one_server,
    mostly_streams,
    queue_is_drained,
    slow,
)
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import Topology, client_of
from tests.waiting import wait_until


@mostly_streams
@pytest.mark.parametrize("processes", [pytest.param(1, marks=slow), 4])
def test_each_message_runs_once(
    setting: Setting, worker: Start, clients: Clients, records: Records, processes: int
) -> None:
    early = [client.send(tasks.add, 0, number).task_id for number, client in enumerate(clients)]
    # Each process runs one task at a time, and prefetches none.
    program = worker(
        "--max-async-tasks=1",
        processes=processes,
        options={} if setting.mechanism == "list" else {"xread_count": 1},
    )
    meetings = [clients[number % 2].send(tasks.meet, processes) for number in range(processes)]
    kinds = [tasks.add, tasks.add_in_thread, "tests.e2e.apps.tasks:add"]
    later = [
        clients[number % 2].send(kinds[number % 3], 0, number).task_id for number in range(2, 60)
    ]
    for number, task_id in enumerate([*early, *later]):
        # Each client reads half of its own results, and half of the other one's.
        assert clients[number // 2 % 2].wait(task_id).return_value == number
    for number, sent in enumerate(meetings):
        clients[number % 2].wait(sent).raise_for_error()
    assert len(records.processes("meet")) == processes
    assert program.stop() == 0
    assert records.tally("add", "sum") == Counter(range(60))
    assert queue_is_drained(setting)


@pytest.mark.parametrize("mechanism", ["pubsub"])
@pytest.mark.parametrize("processes", [pytest.param(1, marks=slow), 4])
def test_published_message_runs_in_every_process(
    setting: Setting, worker: Start, clients: Clients, records: Records, processes: int
) -> None:
    program = worker(processes=processes)
    for number in range(20):
        clients[number % 2].send(tasks.add, number, 0)
    wait_until(lambda: records.count("add") >= 20 * processes)
    assert program.stop() == 0
    assert len(records.processes("add")) == processes
    assert records.tally("add", "sum") == Counter(dict.fromkeys(range(20), processes))


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", pytest.param("list", marks=slow)])
def test_shared_tasks_errors_and_types_work_from_both_clients(
    worker: Start, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker()
    monkeypatch.setattr(async_shared_broker, "_default_broker", clients[0].broker)
    sent = clients[0].run(tasks.shared.kiq(7))
    assert clients[1].wait(sent.task_id).return_value == 7
    for number, client in enumerate(clients):
        assert client.call(tasks.shared, number) == client.call(tasks.call_shared, number) == number
        result = client.wait(client.send(tasks.fail))
        assert isinstance(result.error, ValueError)
        assert result.error.args == ("as it should",)

        noon = datetime(2025, 1, 1, 12, tzinfo=timezone.utc)
        item = tasks.Item(name="a", added=noon)
        point = tasks.Point(x=1.5, y=2)
        updated = client.call(tasks.update, item, point, when=noon, by=timedelta(hours=1))
        assert updated == tasks.Item(name="a 1.5 2.0", added=noon + timedelta(hours=1))
        assert client.call(tasks.midpoint, [{"x": 1, "y": 0}, {"x": 3, "y": 0}]) == tasks.Point(
            2, 0
        )


def test_progress_is_visible_to_both_clients(
    topology: Topology, worker: Start, clients: Clients, records: Records
) -> None:
    worker()
    sent = clients[0].send(tasks.report, 2)
    for step in (1, 2):
        for client in clients:
            wait_until(partial(says, client, sent.task_id, "working", step))
        records.signal_file(f"seen {step}").touch()
    assert clients[1].wait(sent.task_id).return_value == "2 steps"


def says(client: Client, task_id: str, state: str, meta: int) -> bool:
    """Return whether a task has this progress."""
    progress = client.progress(task_id)
    return progress is not None and (progress.state, progress.meta) == (state, meta)


@mostly_on_one_server
@pytest.mark.parametrize("uvloop", [True, False])
def test_worker_runs_with_and_without_uvloop(worker: Start, clients: Clients, uvloop: bool) -> None:
    worker(uvloop=uvloop)
    used = {client.call(tasks.event_loop) for client in clients}
    assert used == {"uvloop" if uvloop else "asyncio.unix_events"}


#: what taskiq can't parse; a type of a label that doesn't exist is noticed after the message itself
UNPARSABLE = [
    b"",
    b"secret " * 500_000,
    b"[" * 300_000,
    b'{"task_id": "secret", "task_name": ["secret"], "labels": {}, "args": [], "kwargs": {}}',
    json.dumps(
        {"task_id": "a", "task_name": "b", "labels": {"c": "secret"}, "labels_types": {"c": 77}}
        | {"args": ["secret"], "kwargs": {}}
    ).encode(),
    *BOMBS.values(),
]


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", pytest.param("list", marks=slow)])
def test_message_that_can_not_be_parsed_is_kept_and_logged_in_one_line(
    topology: Topology, setting: Setting, worker: Start, clients: Clients
) -> None:
    client = clients[0]
    redis = client_of(topology)
    program = worker()
    sent: list[Any] = []
    for data in UNPARSABLE:
        if setting.mechanism == "list":
            redis.lpush(setting.name, data)
        else:
            redis.xadd(setting.name, {"data": data})
        sent.append(client.send(tasks.add, 0, len(sent)))
    assert [client.wait(each).return_value for each in sent] == list(range(len(UNPARSABLE)))
    wait_until(lambda: program.log.count("can't be parsed, so it is not run") == len(UNPARSABLE))
    letters = dead_letters_key(setting.name)
    wait_until(lambda: redis.xlen(letters) == len(UNPARSABLE))
    found = [fields for _, fields in redis.xrange(letters)]
    assert sorted(fields[b"data"] for fields in found) == sorted(UNPARSABLE)
    assert all(b"it can't be parsed (" in fields[b"dead-reason"] for fields in found)
    wait_until(lambda: queue_is_drained(setting))
    assert program.stop() == 0
    assert "secret" not in program.log
    assert len(program.log) < 1500 * len(UNPARSABLE)
