# Generated from tests/_async/test_crashes.py by scripts/unasync.py; edit that.

"""A producer or a worker crashes after any of its commands: no half-done work remains."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.keys import delayed_key
from taskiq_redis._sync.brokers import leases
from taskiq_redis.exceptions import TaskIQRedisError
from tests._sync.support import Listener, build, data_of, message, opened, redis_of
from tests._threads import Running, together, wait_until
from tests.faults.crash import Processes
from tests.servers import Topology, keys_of

pytestmark = [
    pytest.mark.full,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]

#: ms
LEASE = 600
Measure = Callable[[str, object], None]


class CrashScenario:
    """A producer and workers on a separate queue, one of which crashes.

    Args:
        processes: the proxies to Redis that crash a client after some commands.
        topology: for the healthy clients, which connect directly.
        queue_name: the name of the queue.
    """

    def __init__(self, processes: Processes, topology: Topology, queue_name: str) -> None:
        self.processes = processes
        self.topology = topology
        self.queue_name = queue_name
        self.options: dict[str, Any] = {"queue_name": queue_name, "idle_timeout": LEASE}
        #: messages that were sent, and messages whose send failed with an unknown outcome
        self.sent: list[bytes] = []
        self.maybe_sent: list[bytes] = []
        #: messages that the crashed worker has processed
        self.done: list[bytes] = []

    def send(self, commands: int | None) -> list[str]:
        """Send messages until the producer crashes, and return the commands that it sent."""
        way, behind_proxy = self.processes.way(commands)
        options = {**self.options, "kick_timeout": 0.3}
        with opened(behind_proxy, "stream", **options) as broker:
            for number in range(3):
                for labels in ({}, {"delay": 0.01}):
                    data = f"{number} {labels}".encode()
                    try:
                        broker.kick(message(data, **labels))
                        self.sent.append(data)
                    except TaskIQRedisError:
                        self.maybe_sent.append(data)
        return way.names

    def work(self, commands: int | None) -> list[str]:
        """Process messages until the worker crashes, and return the commands that it sent."""
        way, behind_proxy = self.processes.way(commands)
        broker = build(behind_proxy, "stream", **self.options)
        # A crashed worker gives up soon; the healthy one on a busy machine must not.
        broker._acknowledger._retry_timeout = 0.2
        running = Running(partial(self._run_messages, broker))
        with running:
            wait_until(partial(self._is_over, way.over.is_set))
            if commands is not None:
                self.processes.cut(way)
            broker.shutdown()
        broker.shutdown()
        return way.names

    def _run_messages(self, broker: Any) -> None:
        for received in broker.listen():
            self.done.append(data_of(received, acknowledge=False))
            with suppress(TaskIQRedisError):
                data_of(received)

    def _is_over(self, cut: Callable[[], bool]) -> bool:
        pending = redis_of(self.topology).xlen(self.queue_name)
        return cut() or not pending

    def finish(self) -> None:
        """Let a healthy worker process the rest, and check that no keys stay behind."""
        client = redis_of(self.topology)
        with Listener(build(self.topology, "stream", **self.options)) as healthy:
            healthy.broker.kick(message(b"last"))
            self.sent.append(b"last")
            wait_until(partial(self._has_all, healthy))
        assert client.xpending(self.queue_name, "taskiq")["pending"] == 0
        run = {*self.done, *healthy.got}
        assert set(self.sent) <= run <= {*self.sent, *self.maybe_sent}
        assert len(healthy.got) == len(set(healthy.got))
        left = keys_of(self.topology, f"*{self.queue_name}*")
        assert {key for key in left if client.ttl(key) == -1} <= {self.queue_name}

    def _has_all(self, healthy: Any) -> bool:
        client = redis_of(self.topology)
        # Acknowledged messages are deleted.
        left = client.zcard(delayed_key(self.queue_name)) + client.xlen(self.queue_name)
        return set(self.sent) <= {*self.done, *healthy.got} and not left


def crash_of_producer(processes: Processes, topology: Topology, name: str, n: int) -> None:
    scenario = CrashScenario(processes, topology, f"{name}-p{n}-")
    scenario.send(n)
    scenario.finish()


def crash_of_worker(processes: Processes, topology: Topology, name: str, n: int) -> None:
    scenario = CrashScenario(processes, topology, f"{name}-w{n}-")
    scenario.send(None)
    scenario.work(n)
    scenario.finish()


@pytest.mark.parametrize("crash", [crash_of_producer, crash_of_worker])
def test_crash_after_any_command_leaves_nothing_half_done(
    topology: Topology,
    name: str,
    crash: Any,
    record_property: Measure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "RETRY_TIMEOUT", 0.2)
    with Processes(topology).running() as processes:
        scenario = CrashScenario(processes, topology, f"{name}-p0-")
        sent = scenario.send(None)
        worked = scenario.work(None)
        needed = sent if crash is crash_of_producer else worked
        record_property("commands", " ".join(needed))
        crashes = [
            partial(crash, processes, topology, name, number + 1) for number in range(len(needed))
        ]
        for first in range(0, len(crashes), 10):
            together(*crashes[first : first + 10])
