"""A purge of a queue that 1.2.4's workers share."""

import pytest

from taskiq_redis import to_sync
from tests._async.support import build
from tests.compat.peers import Launcher
from tests.servers import Topology, client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_purge_takes_nothing_from_1_2_4_worker(
    topology: Topology, name: str, launcher: Launcher
) -> None:
    client = client_of(topology)
    launcher.worker("old", "stream")
    broker = to_sync(build(topology, "stream", queue_name=name))

    def send(number: int, seconds: float) -> None:
        broker.kicker("work").kiq(number, seconds)

    def pending() -> int:
        return int(client.xinfo_groups(name)[0]["pending"])

    # It runs two tasks at a time, and fetches one more.
    for number in range(3):
        send(number, 1)
    wait_until(lambda: pending() == 3)
    for number in range(3, 6):
        send(number, 0)
    # On a slow machine, it has fetched some of these, too.
    purged = broker.purge_queue()
    send(6, 0)
    wait_until(lambda: (6, "old") in launcher.ran)
    wait_until(lambda: pending() == 0)
    kept = [*range(6 - purged), 6]
    assert launcher.ran == {(number, "old"): 1 for number in kept}
    assert purged <= 3
    broker.shutdown()
