"""Workers stop one after the other under load."""

import time
from collections.abc import Callable

import pytest

from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, queue_is_drained
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.apps import work
from tests.servers import client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]


def consumers(setting: Setting) -> set[str]:
    """Return the consumers of the group, except the one that owns messages that were handed back."""
    names = client_of(setting.topology).xinfo_consumers(setting.name, "taskiq")
    return {consumer["name"].decode() for consumer in names} - {HANDED_BACK}


@mostly_on_one_server
def test_prefetched_messages_of_a_stopped_worker_run_elsewhere_before_it_ends(
    setting: Setting,
    worker: Start,
    clients: Clients,
    records: Records,
    record_property: Measure,
) -> None:
    stopping = worker(slots=2)
    for number in range(12):
        clients[number % 2].send(work.work, number, 1.5)
    wait_until(lambda: records.count("started") >= 2)
    stopping.send_signal(stopping.stop_signal)
    stopping.says("Stopping prefetching messages...")
    stopped = time.monotonic()
    worker(slots=20)
    wait_until(lambda: len(set(work.numbers_of(records, "started"))) == 12)
    took = time.monotonic() - stopped
    record_property("all started after", f"{took:.1f} s")
    assert stopping.wait() == 0
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("started", "number") == dict.fromkeys(range(12), 1)
    assert len(consumers(setting)) == 1


@mostly_on_one_server
def test_rolling_restarts_lose_nothing(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    programs = [worker(slots=5), worker(slots=5)]
    sent = 0
    for _ in range(10):
        oldest = programs.pop(0)
        oldest.says("Listening started")
        oldest.send_signal(oldest.stop_signal)
        programs.append(worker(slots=5, awaited=False))
        while oldest.process.poll() is None:
            for _ in range(5):
                clients[sent % 2].send(work.work, sent, 0.05)
                sent += 1
            time.sleep(0.02)
        assert oldest.wait() == 0
    for program in programs:
        program.says("Listening started")
    wait_until(lambda: len(set(work.numbers_of(records, "ended"))) == sent)
    wait_until(lambda: queue_is_drained(setting))
    assert records.tally("started", "number") == dict.fromkeys(range(sent), 1)
    assert len(consumers(setting)) == 2
    for program in programs:
        assert program.stop() == 0
    assert consumers(setting) == set()
