"""Random sequences of events lose no message, and never give one to two workers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from taskiq_redis import SyncRedisStreamBroker
from taskiq_redis._core.keys import dead_letters_key, delayed_key, workers_key
from tests._sync.support import message
from tests.servers import ServerProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.full

#: ms; longer than a test, so that leases end only by `_end_leases`
LEASE = 600_000
MAX_DELIVERIES = 3
POISON = b"poison"


@dataclass(eq=False)
class Worker:
    """A worker that the test controls step by step."""

    broker: Any
    reader: Any
    #: messages that it works on, by their data
    running: dict[bytes, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, url: str, queue_name: str) -> "Worker":
        broker = SyncRedisStreamBroker(
            url,
            queue_name=queue_name,
            xread_block=1,
            idle_timeout=LEASE,
            max_deliveries=MAX_DELIVERIES,
        )
        worker = cls(broker, broker._open_reader())
        keeper = worker.reader._source._keeper
        # After its first step, the thread doesn't renew leases that the test ends.
        wait_until(lambda: keeper._next_sweep > time.monotonic() + 1)
        return worker

    @property
    def name(self) -> str:
        """The name of its consumer."""
        name: str = self.broker.consumer_name
        return name

    def allow_scan(self) -> None:
        """Let the next fetch scan for messages of other consumers."""
        source = self.reader._source
        for renewal in source._keeper._renewals.values():
            renewal._trusted_from = 0.0
        source._claimer._next_scan = 0.0

    def fetch(self) -> list[bytes]:
        """Fetch once, and start to work on the messages."""
        self.allow_scan()
        messages = self.reader.fetch()
        for received in messages:
            self.running[received.data] = received
        return [received.data for received in messages]

    def renew(self) -> None:
        """Renew the leases, as the thread does."""
        keeper = self.reader._source._keeper
        keeper._step(self.broker._connection)

    def held(self) -> set[bytes]:
        """Return the data of leased messages."""
        keeper = self.reader._source._keeper
        return {entry.fields["data"] for entry in keeper._table._leased.values()}

    def fail(self, data: bytes) -> None:
        """Let the receiver of a message fail, and hand the message back."""
        del self.running[data]
        keeper = self.reader._source._keeper
        entries = keeper._table._leased.values()
        (entry,) = (entry for entry in entries if entry.fields["data"] == data)
        keeper.receiver_done(entry, failed=True)
        self.renew()

    def end(self) -> None:
        """Stop the thread, and close the connections."""
        self.reader.close()
        self.broker.shutdown()


class Interleavings(RuleBasedStateMachine):
    """A state machine of workers and messages."""

    url = ""
    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.client = Redis.from_url(self.url)
        self.queue = f"q{next(_numbers)}"
        self.sender = SyncRedisStreamBroker(self.url, queue_name=self.queue)
        self.sent: set[bytes] = set()
        self.done: set[bytes] = set()
        self.alive: list[Worker] = []
        self.crashed: list[Worker] = []
        #: workers whose leases ended while they were suspended
        self.frozen: set[Worker] = set()

    @initialize(target=workers)
    def start_two(self) -> Any:
        return multiple(self.start(), self.start())

    @rule(target=workers)
    def start(self) -> Any:
        if len(self.alive) >= 4:
            return multiple()
        worker = Worker.start(self.url, self.queue)
        self.alive.append(worker)
        return worker

    @rule(poisonous=st.integers(0, 5).map(lambda number: number == 0))
    def send(self, poisonous: bool) -> None:
        data = (POISON if poisonous else b"good") + b" %d" % len(self.sent)
        self.sender.kick(message(data))
        self.sent.add(data)

    @rule(worker=workers)
    def fetch(self, worker: Worker) -> None:
        if worker not in self.alive or worker in self.frozen:
            return
        for data in worker.fetch():
            self._check_owner(worker, data)
            if data.startswith(POISON):
                self._crash(worker)
                return

    def _check_owner(self, worker: Worker, data: bytes) -> None:
        assert data in self.sent
        assert data not in self.done, "an acknowledged message was delivered again"
        for other in self.alive:
            if other is not worker and other not in self.frozen:
                assert data not in other.running, "two workers have the message"

    @rule(worker=workers, last=st.booleans())
    def acknowledge(self, worker: Worker, last: bool) -> None:
        if worker in self.alive and worker not in self.frozen and worker.running:
            data = list(worker.running)[-1 if last else 0]
            worker.running.pop(data).ack()
            self.done.add(data)

    @rule(worker=workers)
    def fail(self, worker: Worker) -> None:
        """Let the receiver of a message fail without acknowledging it."""
        if worker in self.alive and worker not in self.frozen and worker.running:
            worker.fail(list(worker.running)[-1])

    @rule(worker=workers)
    def renew(self, worker: Worker) -> None:
        if worker in self.alive and worker not in self.frozen:
            worker.renew()
            assert set(worker.running) <= worker.held() | self.done

    @rule(worker=workers)
    def freeze(self, worker: Worker) -> None:
        if worker in self.alive:
            self.frozen.add(worker)
            self._end_leases(worker)

    @rule(worker=workers)
    def unfreeze(self, worker: Worker) -> None:
        """Let a worker find out which leases it lost, and continue with the rest."""
        if worker in self.alive and worker in self.frozen:
            self.frozen.remove(worker)
            worker.renew()
            held = worker.held()
            worker.running = {data: kept for data, kept in worker.running.items() if data in held}

    @rule(worker=consumes(workers))
    def crash(self, worker: Worker) -> None:
        if worker in self.alive:
            self._crash(worker)

    def _crash(self, worker: Worker) -> None:
        self.alive.remove(worker)
        self.frozen.discard(worker)
        self.crashed.append(worker)
        self._end_leases(worker)

    @rule(worker=consumes(workers))
    def stop(self, worker: Worker) -> None:
        """Stop cleanly, after the running tasks."""
        if worker in self.alive and worker not in self.frozen:
            self.alive.remove(worker)
            for data, received in worker.running.items():
                received.ack()
                self.done.add(data)
            worker.end()

    def _end_leases(self, worker: Worker) -> None:
        rows = self.client.xpending_range(
            self.queue, "taskiq", "-", "+", 1000, consumername=worker.name
        )
        ids: Any = [row["message_id"] for row in rows]
        if ids:
            self.client.xclaim(
                self.queue, "taskiq", worker.name, 0, ids, idle=2 * LEASE, justid=True
            )

    def teardown(self) -> None:
        try:
            for worker in tuple(self.frozen):
                self.unfreeze(worker)
            for worker in tuple(self.alive):
                self._crash(worker)
            self._finish()
        finally:
            for worker in (*self.alive, *self.crashed):
                worker.end()
            self.sender.shutdown()
            other_keys = [delayed_key(self.queue), workers_key(self.queue, "taskiq")]
            self.client.delete(self.queue, dead_letters_key(self.queue), *other_keys)
            self.client.close()

    def _finish(self) -> None:
        """Run one worker after another until the queue is empty."""
        bound = 4 * (MAX_DELIVERIES + 1) * (len(self.sent) + 1)
        for _ in range(bound):
            if not self.client.xlen(self.queue):
                break
            if not self.alive:
                self.alive.append(Worker.start(self.url, self.queue))
            (worker,) = self.alive
            self.fetch(worker)
            while worker in self.alive and worker.running:
                self.acknowledge(worker, last=False)
        dead: set[Any] = {letter.data for letter in self.sender.dead_letters()}
        assert self.client.xlen(self.queue) == 0, "the queue isn't empty"
        assert not self.alive or self.client.xpending(self.queue, "taskiq")["pending"] == 0
        assert self.done | dead == self.sent, "messages were lost"
        assert {data for data in dead if data.startswith(POISON)} == {
            data for data in self.sent if data.startswith(POISON)
        } - self.done


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


_numbers = _count()


@pytest.mark.parametrize(
    ("examples", "part"),
    # In parts, so that none exceeds the time limit of a test.
    [(10, 0), *(pytest.param(25, part, marks=pytest.mark.slow) for part in range(1, 21))],
)
def test_random_events_lose_and_repeat_no_messages(examples: int, part: int) -> None:
    with ServerProcess() as server:
        machine = type("Machine", (Interleavings,), {"url": server.url})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                print_blob=False,
                phases=[Phase.generate],
            ),
        )
