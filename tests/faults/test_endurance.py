"""In the long run, nothing grows, and restarts lose nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.e2e.conftest import slow
from tests.faults.load import RATE, Deployment
from tests.servers import Topology, client_of

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

MB = 2**20
#: tasks per second of each of the two producers
MANY = 250


@pytest.fixture
def topology(servers: Any) -> Topology:
    """Return the servers of this test alone."""
    own: Topology = servers.topology
    return own


def sizes(deployment: Deployment) -> dict[str, int]:
    """Return the sizes of all that could grow."""
    client, queue_name = client_of(deployment.setting.topology), deployment.setting.name
    info = client.info()
    children = [
        child for program in deployment.workers for child in children_of(program.process.pid)
    ]
    return {
        "stream length": client.xlen(queue_name),
        "bytes in Redis": info["used_memory"],
        "bytes in workers": sum(resident(process) for process in children),
        "consumers": len(client.xinfo_consumers(queue_name, "taskiq")),
        "connections": info["connected_clients"],
    }


def children_of(process: int) -> list[int]:
    """Return the IDs of the child processes of a process."""
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


#: allowed growth after the warm-up: a fraction plus a number
GROWTH = {
    "stream length": (1.0, 500),
    "bytes in Redis": (0.1, MB),
    "bytes in workers": (0.05, 4 * MB),
    "consumers": (0, 0),
    "connections": (0.5, 20),
}


@pytest.mark.parametrize("servers", ["volatile"], indirect=True)
@pytest.mark.parametrize(
    ("warm_up", "seconds"), [(3, 6), pytest.param(15, 60, marks=slow)], ids=["short", "long"]
)
def test_memory_and_keys_do_not_grow(
    deployment: Deployment, warm_up: float, seconds: float, record_property: Measure
) -> None:
    # Results expire quickly, because their memory isn't tested.
    deployment.start_workers(2, slots=100, results={"result_px_time": 500})
    load = deployment.start_load(MANY)
    time.sleep(warm_up)
    samples: list[dict[str, int]] = []
    before, began = deployment.records.count("sent"), time.monotonic()
    while time.monotonic() - began < seconds:
        samples.append(sizes(deployment))
        time.sleep(0.2)
    rate = (deployment.records.count("sent") - before) / (time.monotonic() - began)
    load.stop()
    result = deployment.wait_until_done()
    third = len(samples) // 3
    first = {what: round(median(one[what] for one in samples[:third])) for what in GROWTH}
    last = {what: round(median(one[what] for one in samples[-third:])) for what in GROWTH}
    record_property("messages per second", f"{rate:.0f}; {result}")
    for what in GROWTH:
        record_property(what, f"{first[what]:,} to {last[what]:,}")
    assert (result.lost, result.twice) == (set(), set())
    grown = {
        what: (first[what], last[what])
        for what, (part, number) in GROWTH.items()
        if last[what] > first[what] * (1 + part) + number
    }
    assert not grown
    deployment.check_workers()


@pytest.mark.parametrize("servers", ["volatile"], indirect=True)
@pytest.mark.parametrize("mechanism", ["list", "stream"])
@pytest.mark.parametrize("restarts", [3, pytest.param(10, marks=slow)])
def test_clean_stops_lose_nothing(
    deployment: Deployment, restarts: int, record_property: Measure
) -> None:
    deployment.start_workers()
    load = deployment.start_load(RATE)
    for _ in range(restarts):
        deployment.start_workers()
        first = deployment.workers.pop(0)
        assert first.stop() == 0
        first.check_log()
    load.stop()
    result = deployment.wait_until_done()
    record_property("outcome", f"{restarts} restarts; {result}")
    assert (result.lost, result.twice) == (set(), set())
    if deployment.setting.mechanism == "stream":
        assert sizes(deployment)["consumers"] <= 2
    deployment.check_workers()
