"""Redis is away or emptied while schedulers run: they go on, and send nothing twice or early."""

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from taskiq.formatters.json_formatter import JSONFormatter

from tests.e2e.conftest import slow
from tests.faults.nodes import freeze, restart
from tests.faults.schedulers import (
    IN_FLIGHT,
    Schedulers,
    avoid_end_of_minute,
    due,
    plan,
    task,
)
from tests.servers import THREAD_PREFIX, ServerProcess, Topology, client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

#: on all topologies, but in short runs on one, because others start slowly
on_own_servers = pytest.mark.parametrize(
    "servers",
    ["single", pytest.param("cluster", marks=slow), pytest.param("sentinel", marks=slow)],
    indirect=True,
)
#: logged by taskiq and asyncio if a task isn't sent
NOT_SENT = {"was never retrieved", "SendTaskError", "ServerUnavailableError"}


@pytest.fixture
def topology(servers: Any) -> Topology:
    """Return the servers that this test breaks."""
    own: Topology = servers.topology
    return own


def expect_unavailability(schedulers: Schedulers) -> None:
    """Let the logs of the schedulers report that Redis can't be reached."""
    for program in schedulers.programs:
        program.expected |= NOT_SENT


@on_own_servers
@pytest.mark.parametrize("take_away", [restart, freeze])
@pytest.mark.parametrize(
    ("seconds", "arguments"),
    [(15, ["--update-interval=2"]), pytest.param(60, [], marks=slow)],
    ids=["short", "long"],
)
@pytest.mark.parametrize(
    ("number", "schedulers"),
    [(1, "indexed"), pytest.param(2, "indexed", marks=slow), pytest.param(1, "keys", marks=slow)],
    indirect=["schedulers"],
)
def test_schedulers_survive_that_redis_is_away(
    schedulers: Schedulers,
    servers: Any,
    take_away: Callable[[Any, float], float],
    seconds: float,
    arguments: list[str],
    number: int,
    record_property: Measure,
) -> None:
    avoid_end_of_minute()
    # Before, during and after the outage, some at the very moment.
    schedules = plan(seconds + 15, one_offs=60)
    schedulers.add(*schedules)
    schedulers.run(number, *arguments)
    expect_unavailability(schedulers)
    began = time.time()
    schedulers.wait_for_more("interval-0", 2)
    back = take_away(servers, seconds)
    ended = schedulers.settle(schedules)
    schedulers.check_running()
    resumed = min(at for at in schedulers.times("interval-0") if at > back) - back
    # The server may have run a claim, whose reply was lost.
    outcome = schedulers.outcome(schedules, began, ended, gap=seconds + 40)
    record_property("resumed after", f"{resumed:.2f} s; {outcome}")
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.twice == []
    # Nothing is left that would be sent after a restart.
    wait_until(lambda: not any(name.startswith("once") for name in schedulers.left()))


@pytest.mark.parametrize("servers", ["single"], indirect=True)
@pytest.mark.parametrize(
    ("seconds", "schedulers"),
    [
        (12, "indexed"),
        pytest.param(60, "indexed", marks=slow),
        pytest.param(12, "keys", marks=slow),
    ],
    indirect=["schedulers"],
)
def test_one_offs_are_sent_when_the_redis_of_the_queue_is_back(
    schedulers: Schedulers,
    own_servers: Callable[[str], Any],
    seconds: float,
    record_property: Measure,
) -> None:
    queue: ServerProcess = own_servers("single")
    # An attempt to send ends before Redis is back, and taskiq offers the schedule again.
    schedulers.setting = dataclasses.replace(schedulers.setting, options={"kick_timeout": 2.0})
    schedules = [
        *(task(f"soon-{number}", after=2 + number / 10) for number in range(20)),
        *(task(f"away-{number}", after=7 + number / 5) for number in range(40)),
        task("interval-0", interval=3),
    ]
    schedulers.add(*schedules)
    schedulers.run(1, "--update-interval=5", queue=queue.url)
    expect_unavailability(schedulers)
    schedulers.wait_for(f"soon-{number}" for number in range(20))
    queue.stop()
    away = time.time()
    time.sleep(seconds)
    queue.start()
    ended = schedulers.settle(schedules)
    wait_until(lambda: not any(name.startswith(("soon", "away")) for name in schedulers.left()))
    schedulers.check_running()
    messages = client_of(queue.topology).lrange(schedulers.setting.name, 0, -1)
    sent = Counter(JSONFormatter().loads(data).labels["schedule_id"] for data in messages)
    assert sent.pop("interval-0") >= 1
    hit = sum(away <= due(each) <= away + seconds for each in schedules if each.time)
    record_property("due while away", f"{hit}, all sent {ended - away - seconds:.1f} s later")
    assert hit > 0
    assert sent.keys() == {each.schedule_id for each in schedules if each.time is not None}
    # `kiq()` that has given up may have sent its message, in a batch with those of others.
    twice = sent.total() - len(sent)
    record_property("sent twice after giving up", str(twice))
    assert twice <= IN_FLIGHT


@on_own_servers
@pytest.mark.parametrize("schedulers", ["indexed", pytest.param("keys", marks=slow)], indirect=True)
def test_scheduler_goes_on_after_flushall(schedulers: Schedulers, topology: Topology) -> None:
    def all_kinds(name: str, after: float) -> list[Any]:
        once = [task(f"{name}-{number}", after=after + number / 2) for number in range(8)]
        return [task("cron", cron="* * * * *"), task("interval-0", interval=1), *once]

    avoid_end_of_minute()
    schedulers.add(*all_kinds("once", 3.0))
    schedulers.run()
    schedulers.wait_for(["cron", "interval-0", "once-0"])
    client_of(topology).flushall()
    flushed = time.time()
    before = schedulers.firings()
    time.sleep(4)
    # What was deleted doesn't fire; one firing may have been on its way.
    after = schedulers.firings()
    for name, firings in after.items():
        new = [firing for firing in firings if firing.at > flushed + 0.5]
        assert new == [], (name, len(before[name]))
    schedulers.add(*all_kinds("later", 1.0), task("new", interval=2))
    added = time.time()
    wanted = ["interval-0", "new", *(f"later-{number}" for number in range(8))]
    wait_until(
        lambda: all(any(at > added - 0.1 for at in schedulers.times(name)) for name in wanted),
        what="firings after FLUSHALL",
        timeout=90,
        interval=0.2,
    )
    schedulers.wait_for_more("interval-0", 2)
    schedulers.check_running()
    for number in range(8):
        assert len(schedulers.times(f"later-{number}")) == 1


@on_own_servers
@pytest.mark.parametrize("schedulers", ["indexed", pytest.param("keys", marks=slow)], indirect=True)
def test_scheduler_goes_on_after_script_flush(schedulers: Schedulers, topology: Topology) -> None:
    avoid_end_of_minute()
    schedules = plan(12, one_offs=40)
    schedulers.add(*schedules)
    schedulers.run()
    began = time.time()
    stopping = threading.Event()
    client = client_of(topology)

    def flush() -> None:
        while not stopping.wait(0.3):
            client.script_flush()

    thread = threading.Thread(target=flush, name=f"{THREAD_PREFIX}-flushing")
    thread.start()
    try:
        schedulers.wait_for_more("interval-0", 2)
        more = [task(f"more-{number}", after=1 + number / 4) for number in range(8)]
        schedulers.add(*more)
        ended = schedulers.settle([*schedules, *more])
    finally:
        stopping.set()
        thread.join()
    schedulers.check_running()
    outcome = schedulers.outcome([*schedules, *more], began, ended, gap=10)
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.twice == []
