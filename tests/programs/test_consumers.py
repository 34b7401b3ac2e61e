"""Programs that take tasks off the queue themselves, and how they end."""

import signal
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from taskiq_redis import to_sync
from tests._async.support import build
from tests._sync.support import redis_of
from tests.programs.conftest import World
from tests.servers import KINDS

pytestmark = pytest.mark.full

MECHANISMS = ["stream", "list"]
#: what a stream hands to the next consumer soon, if the one before left it behind
QUICKLY = {"stream": {"idle_timeout": 1000, "xread_count": 1}, "list": {}}


def send(world: World, mechanism: str, count: int) -> Counter[str]:
    """Send tasks as another program would."""
    broker: Any = to_sync(build(world.topology, mechanism, queue_name=world.name))
    with broker:
        for number in range(count):
            broker.kicker("record").kiq(f"task {number}")
    return Counter(f"task {number}" for number in range(count))


def nothing_left(world: World, mechanism: str) -> bool:
    """Tell whether no task is in the queue, or in somebody's hands."""
    client = redis_of(world.topology)
    if mechanism == "list":
        return not client.exists(world.name)
    (group,) = client.xinfo_groups(world.name)
    return bool(group["pending"] == 0)


#: how a consumer is made to end, and by which signal
ENDS = {"shutdown": signal.SIGTERM, "exit": signal.SIGTERM, "interrupt": signal.SIGINT}


def each_end() -> Iterator[Any]:
    """Yield every combination; what differs by the topology is mostly the end by `shutdown`."""
    for combination in product(KINDS, MECHANISMS, ENDS):
        rare = combination[0] != "single" and combination[2] != "shutdown"
        yield pytest.param(*combination, marks=[pytest.mark.slow] if rare else [])


def mostly_streams() -> Iterator[Any]:
    """Yield every combination; lists are left to long runs where they are not on one server."""
    for kind, mechanism in product(KINDS, MECHANISMS):
        rare = kind != "single" and mechanism == "list"
        yield pytest.param(kind, mechanism, marks=[pytest.mark.slow] if rare else [])


@pytest.mark.parametrize(("topology", "mechanism", "end"), list(each_end()), indirect=["topology"])
def test_a_consumer_that_waits_for_tasks_can_be_stopped(
    world: World, mechanism: str, end: str
) -> None:
    sent = send(world, mechanism, 20)
    consumer = world.script("consumer", end, "0", mechanism=mechanism)
    world.has_run(sent)
    output = consumer.stop(ENDS[end])
    assert ("done" in output) == (end != "exit")
    assert ("interrupted" in output) == (end == "interrupt")
    assert nothing_left(world, mechanism)
    world.no_connections()


@pytest.mark.parametrize(("topology", "mechanism"), list(mostly_streams()), indirect=["topology"])
def test_consumers_that_are_stopped_in_the_middle_lose_and_double_nothing(
    world: World, mechanism: str
) -> None:
    sent = send(world, mechanism, 30)
    for _ in range(2):
        consumer = world.script(
            "consumer", "shutdown", "0.02", mechanism=mechanism, **QUICKLY[mechanism]
        )
        consumer.says("took", times=5)
        consumer.stop()
    consumer = world.script("consumer", "shutdown", "0", mechanism=mechanism, **QUICKLY[mechanism])
    world.has_run(sent)
    consumer.stop()
    assert nothing_left(world, mechanism)


@pytest.mark.parametrize(("topology", "mechanism"), list(mostly_streams()), indirect=["topology"])
def test_a_consumer_that_forks_for_each_task(world: World, mechanism: str) -> None:
    sent = send(world, mechanism, 4)
    consumer = world.script("forking_consumer", mechanism=mechanism)
    world.has_run(sent + Counter(f"from {what}" for what in sent))
    assert "done" in consumer.stop()
    assert nothing_left(world, mechanism)
    world.no_connections()


@pytest.mark.parametrize("end", ["shutdown", "task 19"])
@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_a_consumer_of_streams_on_several_nodes(world: World, end: str) -> None:
    sent = send(world, "stream", 20)
    others = {f"{world.name}:{number}": ">" for number in range(3)}
    consumer = world.script("consumer", end, "0", additional_streams=others)
    world.has_run(sent)
    assert "did not end" not in (consumer.stop() if end == "shutdown" else consumer.ends())
    assert nothing_left(world, "stream")
    world.no_connections()
