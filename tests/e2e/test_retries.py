"""taskiq's retry middlewares on our brokers, and with our schedule sources."""

import itertools
import operator
from typing import Any

import pytest

from tests._aio import collect
from tests.e2e.apps import retries
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.waiting import wait_until

pytestmark = pytest.mark.full

APP = "tests.e2e.apps.retries"


def check_retries(clients: Clients, records: Records) -> set[str]:
    """Send tasks that fail, check the number of runs of each, and return those that fail for good."""
    sent = {
        task: [client.send(task, *args) for client in clients]
        for task, args in (
            (retries.fail_at_first, (2,)),
            (retries.fail_always, ()),
            (retries.fail_once_for_all, ()),
            (retries.fail_otherwise, ()),
        )
    }
    runs = {retries.fail_at_first: 3, retries.fail_always: 3}
    for task, tasks in sent.items():
        for client, one in zip(clients, tasks, strict=True):
            result = client.wait(one)
            assert result.is_err == (task is not retries.fail_at_first)
            assert records.count("run", task=one.task_id) == runs.get(task, 1)
            assert result.return_value in (None, 3)
    for one in sent[retries.fail_at_first]:
        last = records.of("run", task=one.task_id)[-1]
        assert last["args"] == [2]
        assert int(last["labels"]["_retries"]) == 2
    sent.pop(retries.fail_at_first)
    return {one.task_id for tasks in sent.values() for one in tasks}


def check_dead_letters(clients: Clients, records: Records, failed: set[str]) -> None:
    """Check that these tasks, and no others, are dead letters, and send one again."""
    client, twin = clients
    broker = client.broker
    # A result is stored before the message is acknowledged.
    wait_until(lambda: len(list(twin.broker.dead_letters())) >= len(failed))
    letters = client.run(collect(broker.dead_letters()))
    assert letters == list(twin.broker.dead_letters())
    tasks = [broker.formatter.loads(letter.data) for letter in letters]
    assert sorted(task.task_id for task in tasks) == sorted(failed)
    assert {letter.error for letter in letters} == {"ValueError: as it should"}
    assert all("in fail_" in letter.traceback for letter in letters)
    name = retries.fail_once_for_all.task_name
    chosen = [task.task_id for task in tasks if task.task_name == name]
    assert twin.broker.requeue_dead_letters(task_name=name) == len(chosen) == 2
    for task_id in chosen:
        assert client.wait(task_id).is_err
        assert records.count("run", task=task_id) == 2
    wait_until(lambda: len(list(twin.broker.dead_letters())) == len(failed))


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list", "pubsub"])
@pytest.mark.parametrize("kind", ["simple", "smart"])
def test_failed_tasks_are_retried_by_middlewares(
    setting: Setting, worker: Start, clients: Clients, records: Records, kind: str
) -> None:
    # taskiq's default is 5 s.
    delay = {"default_delay": 0.2} if kind == "smart" else {}
    keep = setting.mechanism != "pubsub"
    options = {"keep_failed": True} if keep else {}
    worker(app=f"{APP}:broker", extras={"kind": kind, **delay}, options=options)
    failed = check_retries(clients, records)
    if keep:
        check_dead_letters(clients, records, failed)


@mostly_on_one_server
@pytest.mark.parametrize("source", ["keys", "indexed"])
def test_failed_tasks_are_retried_through_a_schedule_source(
    setting: Setting,
    worker: Start,
    scheduler: Start,
    clients: Clients,
    records: Records,
    source: str,
) -> None:
    options = {"kind": "smart", "source": source, "default_delay": 1}
    worker(app=f"{APP}:broker", extras=options, options={"keep_failed": True})
    scheduler(app=f"{APP}:scheduler", extras=options)
    check_dead_letters(clients, records, check_retries(clients, records))
    assert clients[0].schedules(setting.source(source)) == []


@on_one_server
@pytest.mark.parametrize(
    ("mechanism", "source"), [("stream", "indexed"), ("stream", None), ("list", None)]
)
def test_retries_wait_for_their_delay(
    worker: Start, scheduler: Start, clients: Clients, records: Records, source: str | None
) -> None:
    options: dict[str, Any] = {"kind": "smart", "default_delay": 1}
    options |= {"use_jitter": True, "use_delay_exponent": True}
    if source is not None:
        options["source"] = source
        scheduler(app=f"{APP}:scheduler", extras=options)
    worker(app=f"{APP}:broker", extras=options)
    for task, delays in ((retries.fail_with_delay, [2]), (retries.fail_at_first, [1, 2])):
        sent = [client.send(task, *([2] if len(delays) == 2 else [])) for client in clients]
        for client, one in zip(clients, sent, strict=True):
            client.wait(one).raise_for_error()
            times = [run["at"] for run in records.of("run", task=one.task_id)]
            waited = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert len(waited) == len(delays)
            assert all(map(operator.ge, waited, delays))
    # A declared delay applies to retries only.
    assert clients[0].call(retries.succeed) == "at once"
