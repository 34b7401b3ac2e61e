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
from tests.faults.schedulers import Stage, avoid_end_of_minute, due, plan, task
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


def expect_unavailability(stage: Stage) -> None:
    """Let the logs of the schedulers report that Redis can't be reached."""
    for program in stage.schedulers:
        program.expected |= NOT_SENT


@on_own_servers
@pytest.mark.parametrize("take_away", [restart, freeze])
@pytest.mark.parametrize(
    ("seconds", "arguments"),
    [(15, ["--update-interval=2"]), pytest.param(60, [], marks=slow)],
    ids=["short", "long"],
)
@pytest.mark.parametrize(
    ("number", "stage"),
    [(1, "indexed"), pytest.param(2, "indexed", marks=slow), pytest.param(1, "keys", marks=slow)],
    indirect=["stage"],
)
def test_schedulers_survive_that_redis_is_away(
    stage: Stage,
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
    stage.add(*schedules)
    stage.run(number, *arguments)
    expect_unavailability(stage)
    began = time.time()
    stage.wait_for_more("interval-0", 2)
    back = take_away(servers, seconds)
    ended = stage.settle(schedules)
    stage.check_running()
    resumed = min(at for at in stage.times("interval-0") if at > back) - back
    # The server may have run a claim, whose reply was lost.
    outcome = stage.outcome(schedules, began, ended, gap=seconds + 40)
    record_property("resumed after", f"{resumed:.2f} s; {outcome}")
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.twice == []
    # Nothing is left that would be sent after a restart.
    wait_until(lambda: not any(name.startswith("once") for name in stage.left()))


@pytest.mark.parametrize("servers", ["single"], indirect=True)
@pytest.mark.parametrize(
    ("seconds", "stage"),
    [
        (12, "indexed"),
        pytest.param(60, "indexed", marks=slow),
        pytest.param(12, "keys", marks=slow),
    ],
    indirect=["stage"],
)
def test_one_offs_are_sent_when_the_redis_of_the_queue_is_back(
    stage: Stage, own_servers: Callable[[str], Any], seconds: float, record_property: Measure
) -> None:
    queue: ServerProcess = own_servers("single")
    # An attempt to send ends before Redis is back, and taskiq offers the schedule again.
    stage.setting = dataclasses.replace(stage.setting, options={"kick_timeout": 2.0})
    schedules = [
        *(task(f"soon-{number}", after=2 + number / 10) for number in range(20)),
        *(task(f"away-{number}", after=7 + number / 5) for number in range(40)),
        task("interval-0", interval=3),
    ]
    stage.add(*schedules)
    stage.run(1, "--update-interval=5", queue=queue.url)
    expect_unavailability(stage)
    stage.wait_for(f"soon-{number}" for number in range(20))
    queue.stop()
    away = time.time()
    time.sleep(seconds)
    queue.start()
    ended = stage.settle(schedules)
    wait_until(lambda: not any(name.startswith(("soon", "away")) for name in stage.left()))
    stage.check_running()
    messages = client_of(queue.topology).lrange(stage.setting.name, 0, -1)
    sent = Counter(JSONFormatter().loads(data).labels["schedule_id"] for data in messages)
    assert sent.pop("interval-0") >= 1
    hit = sum(away <= due(each) <= away + seconds for each in schedules if each.time)
    record_property("due while away", f"{hit}, all sent {ended - away - seconds:.1f} s later")
    assert hit > 0
    assert sent == {each.schedule_id: 1 for each in schedules if each.time is not None}


@on_own_servers
@pytest.mark.parametrize("stage", ["indexed", pytest.param("keys", marks=slow)], indirect=True)
def test_scheduler_goes_on_after_flushall(stage: Stage, topology: Topology) -> None:
    def schedules(after: float) -> list[Any]:
        once = [task(f"once-{number}", after=after + number / 2) for number in range(8)]
        return [task("cron", cron="* * * * *"), task("interval-0", interval=1), *once]

    avoid_end_of_minute()
    stage.add(*schedules(3.0))
    stage.run()
    stage.wait_for(["cron", "interval-0", "once-0"])
    client_of(topology).flushall()
    flushed = time.time()
    before = stage.firings()
    time.sleep(4)
    # What was deleted doesn't fire; one firing may have been on its way.
    after = stage.firings()
    for name, firings in after.items():
        new = [firing for firing in firings if firing.at > flushed + 0.5]
        assert new == [], (name, len(before[name]))
    # The same IDs, too.
    stage.add(*schedules(1.0), task("new", interval=2))
    added = time.time()
    wanted = ["interval-0", "new", *(f"once-{number}" for number in range(8))]
    wait_until(
        lambda: all(any(at > added - 0.1 for at in stage.times(name)) for name in wanted),
        what="firings after FLUSHALL",
        timeout=90,
        interval=0.2,
    )
    stage.wait_for_more("interval-0", 2)
    stage.check_running()
    for number in range(8):
        assert len([at for at in stage.times(f"once-{number}") if at > flushed + 0.5]) == 1


@on_own_servers
@pytest.mark.parametrize("stage", ["indexed", pytest.param("keys", marks=slow)], indirect=True)
def test_scheduler_goes_on_after_script_flush(stage: Stage, topology: Topology) -> None:
    avoid_end_of_minute()
    schedules = plan(12, one_offs=40)
    stage.add(*schedules)
    stage.run()
    began = time.time()
    stopping = threading.Event()
    client = client_of(topology)

    def flush() -> None:
        while not stopping.wait(0.3):
            client.script_flush()

    thread = threading.Thread(target=flush, name=f"{THREAD_PREFIX}-flushing")
    thread.start()
    try:
        stage.wait_for_more("interval-0", 2)
        more = [task(f"more-{number}", after=1 + number / 4) for number in range(8)]
        stage.add(*more)
        ended = stage.settle([*schedules, *more])
    finally:
        stopping.set()
        thread.join()
    stage.check_running()
    outcome = stage.outcome([*schedules, *more], began, ended, gap=10)
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.twice == []
