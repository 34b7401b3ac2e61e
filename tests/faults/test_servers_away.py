"""Redis is unavailable for a while: no worker dies, no message is lost or runs twice."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import slow
from tests.faults.load import Deployment, Outcome
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
    deployment: Deployment, seconds: float, record_property: Measure
) -> None:
    deployment.start_workers()
    deployment.send(0)
    deployment.wait_until_done()
    back = restart(deployment.servers, seconds)
    for number in (1, 2):
        deployment.send(number)
    took = deployment.seconds_until_next_start(back)
    result = deployment.wait_until_done()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    deployment.check_workers()


@for_some_time
@on_own_servers
@leases
def test_busy_worker_survives_a_restart_without_loss(
    deployment: Deployment, seconds: float, options: dict[str, Any], record_property: Measure
) -> None:
    deployment.start_workers(2, options=options)
    load = deployment.start_load()
    back = restart(deployment.servers, seconds)
    took = deployment.seconds_until_next_start(back)
    load.stop()
    result = deployment.wait_until_done()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    deployment.check_workers()


@for_some_time
@on_own_servers
def test_running_tasks_survive_a_restart(
    deployment: Deployment, seconds: float, record_property: Measure
) -> None:
    deployment.start_workers(2, options=SHORT_LEASE)
    for number in range(20):
        # Some end while Redis is away, and some later.
        deployment.send(number, seconds / 2 if number % 2 else seconds + 4)
    wait_until(lambda: deployment.records.count("started") == 20)
    restart(deployment.servers, seconds)
    away = deployment.records.count("ended")
    result = deployment.wait_until_done()
    record_property("ended before Redis was back", f"{away}; {result}")
    assert (result.lost, result.twice) == (set(), set())
    assert len(result.ended) == 20
    deployment.check_workers()


@for_some_time
@on_own_servers
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_listeners_without_acknowledgements_survive_a_restart(
    deployment: Deployment, seconds: float, record_property: Measure
) -> None:
    deployment.start_workers()
    load = deployment.start_load()
    back = restart(deployment.servers, seconds)
    took = deployment.seconds_until_next_start(back)
    load.stop()
    result = deployment.wait_until_done()
    record_property("resumed after", f"{took:.2f} s; {result}")
    check_losses(deployment, result, cuts=1)
    deployment.check_workers()


@pytest.mark.parametrize("seconds", [3, pytest.param(10, marks=slow)])
@on_own_servers
@leases
def test_frozen_server_causes_no_loss_or_duplicates(
    deployment: Deployment, seconds: float, options: dict[str, Any], record_property: Measure
) -> None:
    deployment.start_workers(2, options=options)
    for number in range(10):
        deployment.send(number, seconds + 4)
    load = deployment.start_load()
    back = freeze(deployment.servers, seconds)
    took = deployment.seconds_until_next_start(back)
    load.stop()
    result = deployment.wait_until_done()
    record_property("resumed after", f"{took:.2f} s; {result}")
    assert (result.lost, result.twice) == (set(), set())
    deployment.check_workers()


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=slow)])
@on_own_servers
def test_cut_connections_cause_no_loss_or_duplicates(
    deployment: Deployment, seconds: float, record_property: Measure
) -> None:
    deployment.start_workers(2, options=SHORT_LEASE)
    load = deployment.start_load()
    with cutting(deployment.servers) as cut:
        time.sleep(seconds)
    load.stop()
    began = time.monotonic()
    result = deployment.wait_until_done()
    record_property(
        "connections cut",
        f"{sum(cut)} in {len(cut)} rounds; {result}; all done {time.monotonic() - began:.1f} s later",
    )
    # Acknowledgements are retried until they succeed, so none is lost.
    assert (result.lost, result.twice) == (set(), set())
    deployment.check_workers(outages=2 * len(cut))


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=slow)])
@on_own_servers
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_listeners_without_acknowledgements_survive_cut_connections(
    deployment: Deployment, seconds: float, record_property: Measure
) -> None:
    deployment.start_workers()
    load = deployment.start_load()
    with cutting(deployment.servers) as cut:
        time.sleep(seconds)
    deployment.seconds_until_next_start(time.time())
    load.stop()
    result = deployment.wait_until_done()
    record_property("connections cut", f"{sum(cut)} in {len(cut)} rounds; {result}")
    check_losses(deployment, result, cuts=len(cut))
    deployment.check_workers(outages=2 * len(cut))


def check_losses(deployment: Deployment, result: Outcome, cuts: int) -> None:
    """Fail if more than one message per cut was lost, or any task ran twice."""
    assert result.twice == set()
    if deployment.setting.mechanism == "list":
        assert len(result.lost) <= cuts
