"""Redis is unavailable for a while: no worker dies, no message is lost or runs twice."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import slow
from tests.faults.load import RESUMED, Outcome, Scene
from tests.faults.nodes import cutting, freeze, restart
from tests.servers import Topology
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

for_some_time = pytest.mark.parametrize("seconds", [3, pytest.param(12, marks=slow)])
#: on all topologies, but in short runs on one, because others start slowly
on_own_servers = pytest.mark.parametrize(
    "servers",
    ["single", pytest.param("cluster", marks=slow), pytest.param("sentinel", marks=slow)],
    indirect=True,
)
#: a lease shorter than most outages here, as if the workers had died
SHORT_LEASE = {"idle_timeout": 3_000}
leases = pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=slow, id="default"), pytest.param(SHORT_LEASE, id="short-lease")],
)


@pytest.fixture
def topology(servers: Any) -> Topology:
    """Return the servers that this test breaks."""
    own: Topology = servers.topology
    return own


@for_some_time
@on_own_servers
def test_idle_worker_survives_a_restart(
    scene: Scene, seconds: float, record_property: Measure
) -> None:
    scene.work()
    scene.send(0)
    scene.settled()
    back = restart(scene.servers, seconds)
    for number in (1, 2):
        scene.send(number)
    took = scene.resumed(back)
    result = scene.settled()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    scene.check_workers()
    assert took <= RESUMED


@for_some_time
@on_own_servers
@leases
def test_busy_worker_survives_a_restart_without_loss(
    scene: Scene, seconds: float, options: dict[str, Any], record_property: Measure
) -> None:
    scene.work(2, options=options)
    load = scene.load()
    back = restart(scene.servers, seconds)
    took = scene.resumed(back)
    load.stop()
    result = scene.settled()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    scene.check_workers()
    assert took <= RESUMED


@for_some_time
@on_own_servers
def test_running_tasks_survive_a_restart(
    scene: Scene, seconds: float, record_property: Measure
) -> None:
    scene.work(2, options=SHORT_LEASE)
    for number in range(20):
        # Some end while Redis is away, and some later.
        scene.send(number, seconds / 2 if number % 2 else seconds + 4)
    wait_until(lambda: scene.records.count("started") == 20)
    restart(scene.servers, seconds)
    away = scene.records.count("ended")
    result = scene.settled()
    record_property("ended before Redis was back", f"{away}; {result}")
    assert (result.lost, result.twice) == (set(), set())
    assert len(result.ended) == 20
    scene.check_workers()


@for_some_time
@on_own_servers
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_listeners_without_acknowledgements_survive_a_restart(
    scene: Scene, seconds: float, record_property: Measure
) -> None:
    scene.work()
    load = scene.load()
    back = restart(scene.servers, seconds)
    took = scene.resumed(back)
    load.stop()
    result = scene.settled()
    record_property("resumed after", f"{took:.2f} s; {result}")
    check_losses(scene, result, cuts=1)
    scene.check_workers()
    assert took <= RESUMED


@pytest.mark.parametrize("seconds", [3, pytest.param(10, marks=slow)])
@on_own_servers
@leases
def test_frozen_server_causes_no_loss_or_duplicates(
    scene: Scene, seconds: float, options: dict[str, Any], record_property: Measure
) -> None:
    scene.work(2, options=options)
    for number in range(10):
        scene.send(number, seconds + 4)
    load = scene.load()
    back = freeze(scene.servers, seconds)
    took = scene.resumed(back)
    load.stop()
    result = scene.settled()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    scene.check_workers()
    assert took <= RESUMED


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=slow)])
@on_own_servers
def test_cut_connections_cause_no_loss_or_duplicates(
    scene: Scene, seconds: float, record_property: Measure
) -> None:
    scene.work(2, options=SHORT_LEASE)
    load = scene.load()
    with cutting(scene.servers) as cut:
        time.sleep(seconds)
    load.stop()
    began = time.monotonic()
    result = scene.settled()
    record_property(
        "connections cut",
        f"{sum(cut)} in {len(cut)} blows; {result}; all done {time.monotonic() - began:.1f} s later",
    )
    # Acknowledgements are retried until they succeed, so none is lost.
    assert (result.lost, result.twice) == (set(), set())
    scene.check_workers(outages=2 * len(cut))


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=slow)])
@on_own_servers
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_listeners_without_acknowledgements_survive_cut_connections(
    scene: Scene, seconds: float, record_property: Measure
) -> None:
    scene.work()
    load = scene.load()
    with cutting(scene.servers) as cut:
        time.sleep(seconds)
    took = scene.resumed(time.time())
    load.stop()
    result = scene.settled()
    record_property("connections cut", f"{sum(cut)} in {len(cut)} blows; {result}")
    check_losses(scene, result, cuts=len(cut))
    scene.check_workers(outages=2 * len(cut))
    assert took <= RESUMED


def check_losses(scene: Scene, result: Outcome, cuts: int) -> None:
    """Fail if more than one message per cut was lost, or any task ran twice."""
    assert result.twice == set()
    if scene.setting.mechanism == "list":
        assert len(result.lost) <= cuts
