"""A replica replaces a primary: work continues, and at most unreplicated writes are lost."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import slow
from tests.faults.load import Deployment
from tests.faults.nodes import fail_over
from tests.servers import Topology

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

#: s; writes of this time before the failover may not be replicated
UNREPLICATED = 1.0

#: how a primary is replaced: after a crash, after a shutdown, or by a manual failover
failovers = pytest.mark.parametrize(
    ("servers", "how"),
    [
        ("sentinel", "killed"),
        pytest.param("sentinel", "ended", marks=slow),
        pytest.param("sentinel", "manual", marks=slow),
        pytest.param("cluster", "killed", marks=slow),
        ("cluster", "manual"),
    ],
    indirect=["servers"],
)
#: these lose nothing, because the replica takes over only after it has caught up
LOSSLESS = {("sentinel", "ended"), ("cluster", "manual")}


@pytest.fixture
def topology(servers: Any) -> Topology:
    """Return the servers that this test breaks."""
    own: Topology = servers.topology
    return own


@failovers
def test_stream_workers_resume_after_a_failover(
    deployment: Deployment, how: str, record_property: Measure
) -> None:
    deployment.start_workers(2, options={"idle_timeout": 5_000})
    for number in range(10):
        deployment.send(number, 15.0)
    load = deployment.start_load()
    with fail_over(deployment.servers, deployment.setting.name, how) as change:
        took = deployment.seconds_until_next_start(change.promoted)
    # The former primary is a replica now.
    deployment.wait_for_more_tasks()
    load.stop()
    result = deployment.wait_until_done()
    record_property(
        "resumed after",
        f"{took:.2f} s; promoted after {change.promoted - change.began:.2f} s; {result}",
    )
    kind = deployment.setting.topology.kind
    from_then = change.began - UNREPLICATED
    if (kind, how) in LOSSLESS:
        assert (result.lost, result.twice) == (set(), set())
    assert all(from_then < result.sent[number] < change.ended for number in result.lost)
    # Only tasks with unreplicated acknowledgements run twice.
    assert all(from_then < result.ended[number] < change.ended for number in result.twice)
    deployment.check_workers(outages=3)


@failovers
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
@slow
def test_listeners_without_acknowledgements_resume_after_a_failover(
    deployment: Deployment, how: str, record_property: Measure
) -> None:
    deployment.start_workers()
    load = deployment.start_load()
    with fail_over(deployment.servers, deployment.setting.name, how) as change:
        took = deployment.seconds_until_next_start(change.promoted)
    deployment.seconds_until_next_start(time.time())
    deployment.wait_for_more_tasks()
    load.stop()
    result = deployment.wait_until_done()
    record_property(
        "resumed after",
        f"{took:.2f} s; promoted after {change.promoted - change.began:.2f} s; {result}",
    )
    deployment.check_workers(outages=3)
