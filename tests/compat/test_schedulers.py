"""Schedulers of 1.2.4 and of this version follow each other on the schedules of either."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.formatters.json_formatter import JSONFormatter

from tests.compat.peers import Launcher, Peers, describe
from tests.servers import Topology, client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

#: 1.2.4 has an indexed source for a single server only
on_each_source = pytest.mark.parametrize(
    ("topology", "source"), [("single", "indexed"), ("single", "keys")], indirect=["topology"]
)


class Queue:
    """The list to which schedulers send the tasks of numbered schedules.

    Args:
        topology: the servers.
        name: name of the list.
    """

    def __init__(self, topology: Topology, name: str) -> None:
        self._read: Callable[[], list[bytes]] = lambda: client_of(topology).lrange(name, 0, -1)

    def sent(self) -> Counter[int]:
        """Return how often each schedule was sent, by number."""
        return Counter(JSONFormatter().loads(data).args[0] for data in self._read())

    def wait_for(self, numbers: Iterable[int], timeout: float = 90) -> None:
        """Wait until each of these schedules was sent."""
        wanted = set(numbers)
        try:
            wait_until(lambda: wanted <= self.sent().keys(), timeout=timeout)
        except TimeoutError:
            raise AssertionError(f"not sent: {wanted - self.sent().keys()}") from None


def ahead(seconds: float) -> dict[str, str]:
    """Return when a one-off is due, some seconds from now, as text."""
    return {"time": (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()}


def not_now() -> dict[str, str]:
    """Return a cron that isn't due during the test."""
    return {"cron": f"{(datetime.now(timezone.utc).minute + 30) % 60} * * * *"}


@pytest.fixture
def queue(topology: Topology, name: str) -> Queue:
    """Return the list to which schedulers send."""
    return Queue(topology, name)


@on_each_source
def test_one_offs_that_1_2_4_adds_to_a_running_scheduler_are_sent_once(
    topology: Topology, name: str, launcher: Launcher, peers: Peers, queue: Queue, source: str
) -> None:
    common = {"where": describe(topology), "mechanism": source, "name": name}
    peers["old"].call("add_schedule", **common, number=0, when=ahead(-60))
    peers["old"].call("add_schedule", **common, number=1, when=ahead(3))
    program = launcher.scheduler("async", source)
    queue.wait_for([0])
    for number, seconds in enumerate([-110, -60, 0, 0.5, 2, 5, 8], 2):
        peers["old"].call("add_schedule", **common, number=number, when=ahead(seconds))
    # Replaced by 1.2.4, which leaves the ID in the list of the former minute.
    peers["old"].call("add_schedule", **common, number=20, when=ahead(600))
    peers["old"].call("add_schedule", **common, number=20, when=ahead(1))
    peers["old"].call("add_schedule", **common, number=21, when=ahead(4))
    peers["old"].call("add_schedule", **common, number=21, when=ahead(600))
    wanted = [*range(9), 20]
    queue.wait_for(wanted)
    time.sleep(3)
    assert queue.sent() == dict.fromkeys(wanted, 1)
    # Overdue for so long, it is found by the next scheduler at the latest.
    peers["old"].call("add_schedule", **common, number=30, when=ahead(-3600))
    program.kill()
    launcher.scheduler("async", source)
    queue.wait_for([30])
    time.sleep(2)
    assert queue.sent() == dict.fromkeys([*wanted, 30], 1)


@on_each_source
@pytest.mark.parametrize("writer", ["async", "sync"])
def test_scheduler_of_1_2_4_sends_what_this_version_has_left(
    topology: Topology,
    name: str,
    launcher: Launcher,
    peers: Peers,
    queue: Queue,
    source: str,
    writer: str,
) -> None:
    common = {"where": describe(topology), "mechanism": source, "name": name}

    def add(number: int, when: dict[str, Any]) -> None:
        peers[writer].call("add_schedule", **common, number=number, when=when)

    def delete(*numbers: int) -> None:
        ids = [str(number) for number in numbers]
        peers[writer].call("delete_schedules", **common, form="default", schedule_ids=ids)

    every_minute = {"cron": "* * * * *"}
    # While no scheduler is running.
    add(0, every_minute)
    add(1, {"interval": 2})
    add(2, {"interval": 3600})
    add(10, ahead(0))
    add(11, ahead(600))
    add(12, ahead(600))
    delete(12)
    # Replaced by another kind or time.
    add(20, every_minute)
    add(20, ahead(600))
    add(21, {"interval": 1})
    add(21, not_now())
    add(22, ahead(600))
    add(22, {"interval": 3600})
    add(23, every_minute)
    delete(23)
    add(23, ahead(600))
    ours = launcher.scheduler("async", source)
    queue.wait_for([0, 1, 2, 10, 22])
    # While it is running; some of them fire.
    add(30, ahead(0.5))
    add(31, every_minute)
    add(32, {"interval": 2})
    queue.wait_for([30, 31, 32])
    delete(31, 32)
    add(33, ahead(1))
    queue.wait_for([33])
    add(33, ahead(600))
    # A firing is recorded after it was sent.
    time.sleep(1)
    ours.kill()
    # After it has ended.
    add(40, every_minute)
    add(41, {"interval": 2})
    for number in (11, 20, 23, 33):
        add(number, ahead(2))
    add(42, ahead(4))
    add(43, ahead(3))
    delete(43)
    check_sent_by_old(launcher, queue, source)


def check_sent_by_old(launcher: Launcher, queue: Queue, source: str) -> None:
    """Start a scheduler of 1.2.4, and check what it sends."""
    before = queue.sent()
    launcher.scheduler("old", source)
    sent_by_old = [0, 1, 2, 11, 20, 22, 23, 33, 40, 41, 42]
    wait_until(lambda: set(sent_by_old) <= (queue.sent() - before).keys(), timeout=90)
    time.sleep(3)
    later = queue.sent() - before
    # Neither what was sent or deleted, nor what was replaced.
    assert later.keys() == set(sent_by_old)
    for number in (11, 20, 23, 33, 42):
        assert later[number] == 1
    # Crons fire once a minute.
    for number in (0, 40):
        assert later[number] <= 3
    for number in (1, 41):
        assert later[number] >= 2
