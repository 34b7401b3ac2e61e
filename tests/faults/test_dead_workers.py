"""Other workers run the tasks and prefetched messages of a worker that died, and nothing else twice."""

import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Clients, Start, mostly_on_one_server, queue_is_drained, slow
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.apps import work
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]


@mostly_on_one_server
@pytest.mark.parametrize("traffic", [True, False], ids=["traffic", "no-traffic"])
@pytest.mark.parametrize(
    "idle_timeout", [5_000, pytest.param(15_000, marks=slow)], ids=["5 s", "default"]
)
def test_tasks_of_a_killed_worker_run_elsewhere(
    setting: Setting,
    worker: Start,
    clients: Clients,
    records: Records,
    traffic: bool,
    idle_timeout: int,
    record_property: Measure,
) -> None:
    options = {"idle_timeout": idle_timeout}
    victim = worker("--max-prefetch=5", slots=5, options=options)
    for number in range(10):
        clients[number % 2].send(work.work, number, 60.0 if number < 5 else 0.0)
    wait_until(lambda: records.count("started") >= 5)
    successor = worker(options=options, slots=20)
    victim.kill()
    killed = time.monotonic()
    sent = 10

    def have_run_elsewhere() -> bool:
        nonlocal sent
        if traffic:
            clients[0].send(work.work, sent)
            sent += 1
        starts = records.tally("started", "number")
        return all(starts[number] == (2 if number < 5 else 1) for number in range(10))

    wait_until(have_run_elsewhere, interval=0.1)
    record_property("run elsewhere after", f"{time.monotonic() - killed:.1f} s")
    successor.kill()


@mostly_on_one_server
@pytest.mark.parametrize("kind", ["work", "block"])
def test_task_longer_than_the_lease_runs_once(
    setting: Setting, worker: Start, clients: Clients, records: Records, kind: str
) -> None:
    options = {"idle_timeout": 1_000}
    for _ in range(2):
        worker(options=options)
    sent = clients[0].send(getattr(work, kind), 1, 4.0)
    assert clients[1].wait(sent.task_id).return_value == 1
    wait_until(lambda: queue_is_drained(setting))
    assert records.count("started") == 1


@mostly_on_one_server
@pytest.mark.parametrize("live", [False, True], ids=["backlog", "live"])
@pytest.mark.parametrize("idle_timeout", [pytest.param(15_000, marks=slow), 3_000])
def test_workers_share_messages_fairly(
    setting: Setting,
    worker: Start,
    clients: Clients,
    records: Records,
    live: bool,
    idle_timeout: int,
    record_property: Measure,
) -> None:
    def send() -> list[str]:
        return [clients[i % 2].send(work.work, i, 1.0).task_id for i in range(20)]

    ids = [] if live else send()
    options = {"idle_timeout": idle_timeout}
    programs = [worker(slots=1, awaited=False, options=options) for _ in range(2)]
    for program in programs:
        program.says("Listening started")
    ids = ids or send()
    for task_id in ids:
        clients[1].wait(task_id)
    started, ended = records.of("started"), records.of("ended")
    # With a backlog, one worker may run some tasks before the other one starts.
    first = {
        process: min(line["at"] for line in started if line["process"] == process)
        for process in records.processes("started")
    }
    both = max(first.values())
    alone = sum(line["at"] < both for line in started) - 1 if not live else 0
    took = max(line["at"] for line in ended) - both
    shares = sorted(records.tally("started", "process").values())
    record_property("wall", f"{took:.1f} s, shares {shares}, {alone} before both had begun")
    assert records.tally("started", "number") == dict.fromkeys(range(20), 1)
    assert shares[1] - shares[0] <= 2 + alone
