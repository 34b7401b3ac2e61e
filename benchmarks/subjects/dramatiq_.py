"""dramatiq on Redis."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results as StoreResults
from dramatiq.results.backends import RedisBackend
from subject import THREADS, Countdown, Subject, by_threads, run

QUEUE = "bench"
#: ms; expiry of results
KEPT = 600_000


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._broker = RedisBroker(url=subject.url, namespace="bench:dramatiq")
        self._task = dramatiq.actor(no_operation, queue_name=QUEUE, broker=self._broker)
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)

    def forget(self, _: int) -> None:
        """Empty the queue."""
        self._broker.flush(QUEUE)

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._task.send()


class Work:
    """Run tasks that already wait, on threads."""

    def __init__(self, url: str, name: str, results: bool) -> None:
        self._url, self._namespace, self._results = url, f"bench:dramatiq:{name}", results
        self._tasks = Countdown(0)

    def _make_broker(self) -> RedisBroker:
        # A new broker for each worker, because workers add middlewares and never remove them.
        broker = RedisBroker(url=self._url, namespace=self._namespace)
        if self._results:
            backend = RedisBackend(url=self._url)
            broker.add_middleware(StoreResults(backend=backend, store_results=True))
        return broker

    def prepare(self, number: int) -> None:
        """Send tasks."""
        self._broker = self._make_broker()
        task = dramatiq.actor(
            self._run_one, actor_name="no_operation", queue_name=QUEUE, broker=self._broker
        )
        self._broker.flush(QUEUE)
        for _ in range(number):
            task.send()

    def _run_one(self) -> int | None:
        ran = self._tasks.count()
        # dramatiq warns about each result that isn't stored.
        return ran if self._results else None

    def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        self._tasks = Countdown(number)
        worker = dramatiq.Worker(self._broker, worker_threads=THREADS)
        worker.start()
        self._tasks.wait()
        worker.stop()
        self._broker.close()
        return self._tasks.figures()


class Results:
    """Read a stored result by its message."""

    def __init__(self, subject: Subject) -> None:
        self._backend = RedisBackend(url=subject.url)
        self._message = dramatiq.Message(QUEUE, "no_operation", args=(), kwargs={}, options={})
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store the result."""
        self._backend.store_result(self._message, {"answer": 42}, KEPT)

    def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            self._message.get_result(backend=self._backend)


def no_operation() -> int:
    """Do nothing."""
    return 1


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    for name, results in (("work", False), ("work_results", True)):
        work = Work(subject.url, name, results)
        subject.can(name, work.measure, work.prepare)
    Results(subject)


if __name__ == "__main__":
    run(make)
