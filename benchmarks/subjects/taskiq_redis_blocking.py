"""taskiq-redis from blocking code: the twins, with an asyncio worker."""

import time
from typing import Any

from redis import Redis
from subject import TOGETHER, Subject, by_threads, percentiles, round_trips, run
from taskiq import TaskiqResult
from taskiq_redis_async import Worker, start_worker

from taskiq_redis import (
    SyncRedisAsyncClusterResultBackend,
    SyncRedisAsyncResultBackend,
    SyncRedisAsyncSentinelResultBackend,
    SyncRedisStreamBroker,
    SyncRedisStreamClusterBroker,
    SyncRedisStreamSentinelBroker,
)

#: s; expiry of results
KEPT = 60
#: the queues
SENT, ROUND_TRIPS = "bench:blocking", "bench:round_trip:blocking"
#: by kind of servers, the broker and the result backend
CLASSES: dict[str, Any] = {
    "single": (SyncRedisStreamBroker, SyncRedisAsyncResultBackend),
    "cluster": (SyncRedisStreamClusterBroker, SyncRedisAsyncClusterResultBackend),
    "sentinel": (SyncRedisStreamSentinelBroker, SyncRedisAsyncSentinelResultBackend),
}


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        broker = SyncRedisStreamBroker(subject.url, queue_name=SENT)
        self._task = broker.register_task(lambda: 1, task_name="no_operation")
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)
        subject.can("kiq_many", self.kiq_many, self.forget)

    def forget(self, _: int) -> None:
        """Empty the stream."""
        self._client.delete(SENT)

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._task.kiq()

    def kiq_many(self, number: int) -> None:
        """Send a hundred per call."""
        for _ in range(number // TOGETHER):
            self._task.kiq_many([self._task.call() for _ in range(TOGETHER)])


class Results:
    """Read a stored result."""

    def __init__(self, subject: Subject) -> None:
        self._backend = SyncRedisAsyncResultBackend[dict[str, int]](
            subject.url, result_ex_time=KEPT
        )
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store the result."""
        value = {"answer": 42}
        result = TaskiqResult(is_err=False, return_value=value, execution_time=0.1)
        self._backend.set_result("stored", result)

    def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            self._backend.get_result("stored")


class RoundTrips:
    """Measure from `kiq` to the result, with an idle worker in its own process."""

    def __init__(self, subject: Subject, name: str, kind: str) -> None:
        broker_class, backend_class = CLASSES[kind]
        where = subject.servers[kind]
        broker = broker_class(*where, queue_name=ROUND_TRIPS)
        broker = broker.with_result_backend(backend_class(*where, result_ex_time=KEPT))
        self._task = broker.register_task(lambda: 1, task_name="serve_one")
        self._servers, self._kind = subject.servers, kind
        self._worker: Worker | None = None
        subject.can(name, self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Start the worker, and wait for a first result."""
        if self._worker is None:
            self._worker = start_worker(self._servers, self._kind, ROUND_TRIPS)
        self._task.kiq().wait_result(timeout=20)

    def measure(self, number: int) -> dict[str, float]:
        """Send one after the other, and wait for each result."""
        took = []
        for _ in range(number):
            began = time.perf_counter()
            self._task.kiq().wait_result(timeout=20)
            took.append(time.perf_counter() - began)
        return percentiles(took)


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    Results(subject)
    for name, kind in round_trips(subject.servers).items():
        RoundTrips(subject, name, kind)


if __name__ == "__main__":
    run(make)
