"""Tasks in threads and in process pools, and limits on concurrency."""

from collections import Counter

import pytest

from tests.e2e.apps import pools, tasks
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import Topology, client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full


@mostly_on_one_server
@pytest.mark.parametrize(
    "pool",
    [
        ["--max-threadpool-threads=3"],
        ["--use-process-pool", "--max-process-pool-processes=3"],
    ],
    ids=["threads", "processes"],
)
def test_sync_tasks_run_in_thread_and_process_pools(
    topology: Topology, worker: Start, clients: Clients, records: Records, pool: list[str]
) -> None:
    worker(*pool, app="tests.e2e.apps.pools:broker")
    parent = clients[0].call(pools.parent)
    sent = [clients[number % 2].send(pools.meet, 3) for number in range(3)]
    threads = [clients[number % 2].wait(one).return_value for number, one in enumerate(sent)]
    assert len(set(map(tuple, threads))) == 3
    processes = {process for process, _ in threads}
    if "--use-process-pool" in pool:
        assert len(processes) == 3
        assert parent not in processes
    else:
        assert processes == {parent}
    for client in clients:
        assert client.call(pools.double, 2) == 4
        assert client.call(pools.relay, 3) == 6
        assert str(client.wait(client.send(pools.fail)).error) == "as it should"


@on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list"])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_max_async_tasks_limits_concurrency(
    setting: Setting, worker: Start, clients: Clients, records: Records, prefetch: int
) -> None:
    kinds = [tasks.until_released, tasks.until_released_in_thread]
    sent = [clients[number % 2].send(kinds[number % 2], number) for number in range(10)]
    worker("--max-async-tasks=2", f"--max-prefetch={prefetch}")
    wait_until(lambda: records.count("started") == 2)
    if setting.mechanism == "list":
        # Prefetched messages are no longer in the list.
        wait_until(lambda: client_of(setting.topology).llen(setting.name) == 8 - prefetch)
    records.signal_file("go").touch()
    for number, one in enumerate(sent):
        assert clients[number % 2].wait(one).return_value == number
    running, most = 0, 0
    for line in records:
        running += {"started": 1, "ended": -1}[line["what"]]
        most = max(most, running)
    assert (running, most) == (0, 2)


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_max_tasks_per_child_restarts_processes(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    # Messages prefetched by an ended process would wait for `idle_timeout`.
    options = {"xread_count": 1} if setting.mechanism == "stream" else {}
    program = worker("--max-tasks-per-child=3", processes=2, options=options)
    program.expected.add("is dead. Scheduling reload")
    sent = [clients[number % 2].send(tasks.add, number, 0) for number in range(9)]
    for number, one in enumerate(sent):
        assert clients[number % 2].wait(one).return_value == number
    assert records.tally("add", "sum") == dict.fromkeys(range(9), 1)
    each = Counter(line["process"] for line in records.of("add"))
    assert len(each) >= 3
    assert max(each.values()) <= 3
    # A process that is still starting would not end cleanly with the test.
    program.says("Listening started", 2 + list(each.values()).count(3))
