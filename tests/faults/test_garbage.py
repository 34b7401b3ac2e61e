"""Workers survive damaged streams: deleted, of another type, or with entries that are no tasks."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Clients, Start, mostly_on_one_server, queue_is_drained
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.apps import work
from tests.servers import client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full


def delete(client: Any, stream: str) -> None:
    client.delete(stream)


def destroy_group(client: Any, stream: str) -> None:
    client.xgroup_destroy(stream, "taskiq")


def wrong_type(client: Any, stream: str) -> None:
    client.delete(stream)
    client.set(stream, "a string")
    time.sleep(2)
    client.delete(stream)


def no_data(client: Any, stream: str) -> None:
    client.xadd(stream, {"something": "else"})


def garbage(client: Any, stream: str) -> None:
    client.xadd(stream, {"data": b"\x80\x04\xff\x00 no json"})
    client.xadd(stream, {"data": b""})
    client.xadd(stream, {"data": b"[1, 2]"})
    client.xadd(stream, {b"\xff\xfe": b"\x00"})


def huge(client: Any, stream: str) -> None:
    client.xadd(stream, {"data": b"x" * 20_000_000})


@mostly_on_one_server
@pytest.mark.parametrize(
    "fault", [delete, destroy_group, wrong_type, no_data, garbage, huge], ids=lambda f: f.__name__
)
def test_worker_survives_broken_streams_and_invalid_messages(
    setting: Setting,
    worker: Start,
    clients: Clients,
    records: Records,
    fault: Callable[[Any, str], None],
) -> None:
    program = worker(options={"idle_timeout": 2_000})
    # taskiq logs messages that it can't parse.
    program.expected |= {"Error", "Invalid", "invalid"}
    if fault is wrong_type:
        # The running task can't be acknowledged then.
        program.expected.add("was never retrieved")
    clients[0].wait(clients[0].send(work.work, 1).task_id)
    clients[0].send(work.work, 2, 1.0)
    wait_until(lambda: records.count("started") == 2)
    fault(client_of(setting.topology), setting.name)
    sent = clients[1].send(work.work, 3)
    assert clients[0].wait(sent.task_id).return_value == 3
    wait_until(lambda: records.count("ended") == 3)
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("started", "number") == {1: 1, 2: 1, 3: 1}
    assert program.process.poll() is None
    assert program.log.count("Worker process") <= 1


@mostly_on_one_server
@pytest.mark.parametrize("fault", ["XDEL", "XTRIM"])
def test_remaining_messages_of_a_dead_worker_are_recovered(
    setting: Setting, worker: Start, clients: Clients, records: Records, fault: str
) -> None:
    options = {"idle_timeout": 2_000}
    victim = worker(options=options)
    for number in range(6):
        clients[0].send(work.work, number, 60.0)
    wait_until(lambda: records.count("started") == 6)
    client = client_of(setting.topology)
    first, second, *_ = (entry_id for entry_id, _ in client.xrange(setting.name))
    if fault == "XDEL":
        client.xdel(setting.name, first, second)
    else:
        client.xtrim(setting.name, maxlen=4, approximate=False)
    deleted = sorted(work.numbers_of(records, "started"))[:2]
    victim.kill()
    successor = worker(options=options)
    wait_until(lambda: records.count("started") == 10)
    tally = records.tally("started", "number")
    assert {number: tally[number] for number in deleted} == dict.fromkeys(deleted, 1)
    assert sum(tally.values()) == 10
    pending = client.xpending(setting.name, "taskiq")["pending"]
    assert pending == 4
    successor.kill()
