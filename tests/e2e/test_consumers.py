"""Programs that consume messages with `listen`, and how they end."""

import signal
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from taskiq_redis import to_sync
from tests.e2e.blocking_programs import BlockingPrograms
from tests.e2e.conftest import mostly_streams, queue_is_drained
from tests.servers import KINDS, client_of
from tests.waiting import wait_until

MECHANISMS = ["stream", "list"]
#: options by which a stream redelivers unacknowledged messages soon
SHORT_LEASE = {"stream": {"idle_timeout": 1000, "xread_count": 1}, "list": {}}


def send(programs: BlockingPrograms, count: int) -> Counter[str]:
    """Send tasks as another program would."""
    broker: Any = to_sync(programs.setting.broker())
    with broker:
        for number in range(count):
            broker.kicker("record").kiq(f"task {number}")
    return Counter(f"task {number}" for number in range(count))


#: ways to end a consumer, and the signal for each
ENDS = {"shutdown": signal.SIGTERM, "exit": signal.SIGTERM, "interrupt": signal.SIGINT}


def each_end() -> Iterator[Any]:
    """Yield all combinations; the topology matters mostly for the end by `shutdown`."""
    for combination in product(KINDS, MECHANISMS, ENDS):
        rare = combination[0] != "single" and combination[2] != "shutdown"
        yield pytest.param(*combination, marks=[pytest.mark.slow] if rare else [])


@pytest.mark.full
@pytest.mark.parametrize(("topology", "mechanism", "end"), list(each_end()), indirect=["topology"])
def test_idle_consumer_can_be_stopped(programs: BlockingPrograms, mechanism: str, end: str) -> None:
    sent = send(programs, 20)
    consumer = programs.script("consumer", end, "0")
    programs.wait_for_runs(sent)
    output = consumer.signal_and_wait(ENDS[end])
    assert ("done" in output) == (end != "exit")
    assert ("interrupted" in output) == (end == "interrupt")
    assert queue_is_drained(programs.setting)
    programs.wait_for_no_connections()


@pytest.mark.full
@mostly_streams
def test_busy_consumers_can_be_stopped_without_loss_or_duplicates(
    programs: BlockingPrograms, mechanism: str
) -> None:
    sent = send(programs, 30)
    for _ in range(2):
        consumer = programs.script("consumer", "stop", "0.02", options=SHORT_LEASE[mechanism])
        consumer.says("took", 5)
        consumer.signal_and_wait(signal.SIGTERM)
    consumer = programs.script("consumer", "stop", "0", options=SHORT_LEASE[mechanism])
    programs.wait_for_runs(sent)
    consumer.signal_and_wait(signal.SIGTERM)
    assert queue_is_drained(programs.setting)


@pytest.mark.full
@mostly_streams
@pytest.mark.parametrize("script", ["consumer", "async_consumer"])
def test_consumer_stopped_by_a_signal_returns_prefetched_messages(
    programs: BlockingPrograms, mechanism: str, script: str
) -> None:
    sent = send(programs, 1000)
    # With the default lease, messages that were not returned would stay away for minutes.
    consumer = programs.script(script, "stop", "0.002")
    consumer.says("took", 100)
    if mechanism == "stream":
        client, name = client_of(programs.setting.topology), programs.setting.name
        wait_until(lambda: client.xpending(name, "taskiq")["pending"] > 1)
    assert "done" in consumer.signal_and_wait(signal.SIGTERM)
    programs.wait_for_no_connections()
    assert 100 <= programs.runs().total() < sent.total()
    consumer = programs.script(script, "stop", "0")
    programs.wait_for_runs(sent)
    assert queue_is_drained(programs.setting)
    # It waits for more messages now.
    assert "done" in consumer.signal_and_wait(signal.SIGTERM)
    programs.wait_for_no_connections()


@pytest.mark.full
@mostly_streams
def test_consumer_may_fork_for_each_task(programs: BlockingPrograms, mechanism: str) -> None:
    sent = send(programs, 4)
    consumer = programs.script("forking_consumer")
    programs.wait_for_runs(sent + Counter(f"from {what}" for what in sent))
    assert "done" in consumer.signal_and_wait(signal.SIGTERM)
    assert queue_is_drained(programs.setting)
    programs.wait_for_no_connections()


@pytest.mark.full
@pytest.mark.parametrize("end", ["shutdown", "task 19"])
@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_consumer_of_streams_on_several_nodes_can_be_stopped(
    programs: BlockingPrograms, end: str
) -> None:
    sent = send(programs, 20)
    others = {f"{programs.setting.name}:{number}": ">" for number in range(3)}
    consumer = programs.script("consumer", end, "0", options={"additional_streams": others})
    programs.wait_for_runs(sent)
    assert "did not end" not in (
        consumer.signal_and_wait(signal.SIGTERM) if end == "shutdown" else consumer.wait_for_exit()
    )
    assert queue_is_drained(programs.setting)
    programs.wait_for_no_connections()
