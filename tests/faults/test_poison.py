"""Tasks that kill their workers, or are never acknowledged."""

import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest

from tests.e2e.conftest import Clients, Start, on_one_server, queue_is_drained, slow
from tests.e2e.programs import Program
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.apps import work
from tests.servers import client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

#: ms
LEASE = 2_000
#: s; only guards against hanging while five workers die one after the other
FIVE_DEATHS = 120


@pytest.fixture
def restarting_worker(worker: Start) -> Iterator[Callable[..., list[Program]]]:
    """Start a worker, and restart it whenever it dies."""
    stopping, programs = Event(), list[Program]()
    threads: list[Thread] = []

    def keep_alive(*arguments: str, **changes: Any) -> list[Program]:
        programs.append(worker(*arguments, **changes))

        def watch() -> None:
            while not stopping.wait(0.05):
                if programs[-1].process.poll() is not None:
                    programs.append(worker(*arguments, awaited=False, **changes))

        threads.append(Thread(target=watch, name="pytest-restarting-worker"))
        threads[-1].start()
        return programs

    yield keep_alive
    stopping.set()
    for thread in threads:
        thread.join()


@slow
@on_one_server
def test_only_the_task_that_kills_workers_becomes_a_dead_letter(
    setting: Setting,
    restarting_worker: Callable[..., list[Program]],
    clients: Clients,
    records: Records,
    record_property: Measure,
) -> None:
    # Each time, taskiq's child process dies, and taskiq restarts it.
    options = {"idle_timeout": LEASE}
    good = 200
    for number in range(good // 2):
        clients[0].send(work.work, number, 0.2)
    poison = clients[1].send(work.die, -1)
    for number in range(good // 2, good):
        clients[1].send(work.work, number, 0.2)
    began = time.monotonic()
    programs = restarting_worker(slots=100, options=options)
    for program in programs:
        program.expected.add("is dead. Scheduling reload")
    broker: Any = clients[1].broker
    letters = wait_until(lambda: list(broker.dead_letters()), timeout=FIVE_DEATHS)
    wait_until(
        lambda: set(range(good)) <= set(work.numbers_of(records, "ended")), timeout=FIVE_DEATHS
    )
    wait_until(lambda: queue_is_drained(setting))
    record_property("all done after", f"{time.monotonic() - began:.0f} s")
    record_property("runs of other tasks", len(records.of("started")))
    assert records.count("died") == 5
    (letter,) = letters
    assert poison.task_id.encode() in letter.data
    assert letter.deliveries == 5
    assert "5 workers received the task" in str(clients[0].wait(poison.task_id).error)
    assert len(list(broker.dead_letters())) == 1


@pytest.mark.parametrize("fault", ["middleware", "manual", "label"])
@on_one_server
def test_unackable_message_becomes_a_dead_letter(
    setting: Setting, worker: Start, clients: Clients, records: Records, fault: str
) -> None:
    faults: dict[str, dict[str, Any]] = {
        "middleware": {"break_middleware": True},
        "manual": {"ack_type": "manual"},
        "label": {"ack_type": "whenever"},
    }
    program = worker(
        options={"idle_timeout": 600, "max_deliveries": 3}, extras={"failing_middleware": True}
    )
    program.expected |= {"ack_type", "AcknowledgeType", "acknowledge type", "was never retrieved"}
    sent = clients[0].send(work.work, 1, labels=faults[fault])
    broker: Any = clients[1].broker
    (letter,) = wait_until(lambda: list(broker.dead_letters()), timeout=FIVE_DEATHS)
    assert sent.task_id.encode() in letter.data
    assert letter.deliveries == 3
    if fault == "manual":
        assert records.count("ended") == 3
    # Later messages are not affected.
    after = clients[1].send(work.work, 2)
    assert clients[0].wait(after.task_id).return_value == 2
    wait_until(lambda: queue_is_drained(setting))
    assert client_of(setting.topology).xlen(setting.name) == 0
