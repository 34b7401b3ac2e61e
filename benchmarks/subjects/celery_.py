"""Celery on Redis lists."""

from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult
from redis import Redis
from subject import THREADS, Countdown, Subject, by_threads, run


def make_app(url: str, queue_name: str, results: bool = False) -> Celery:
    """Return an application."""
    app = Celery("bench", broker=url, backend=url if results else None)
    app.conf.task_default_queue = queue_name
    return app


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        app = make_app(subject.url, "bench:celery")
        self._task = app.task(no_operation, ignore_result=True)
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)

    def forget(self, _: int) -> None:
        """Empty the queue."""
        self._client.delete("bench:celery")

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._task.delay()


class Work:
    """Run tasks that already wait, on threads."""

    def __init__(self, url: str, queue_name: str, results: bool) -> None:
        self._client = Redis.from_url(url)
        self._queue_name = queue_name
        self._app = make_app(url, queue_name, results)
        self._tasks = Countdown(0)

        # Not a method: Celery would expect `self` as an argument.
        @self._app.task(name="no_operation", ignore_result=not results, shared=False)
        def count_one() -> int:
            return self._tasks.count()

        self._task = count_one

    def prepare(self, number: int) -> None:
        """Send tasks."""
        self._client.delete(self._queue_name)
        for _ in range(number):
            self._task.delay()

    def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        self._tasks = Countdown(number)
        # Threads, like the other subjects, instead of processes. No gossip between workers.
        options = {"pool": "threads", "concurrency": THREADS}
        with start_worker(self._app, perform_ping_check=False, **options):
            self._tasks.wait()
        return self._tasks.figures()


class Results:
    """Read a stored result by its task id."""

    def __init__(self, subject: Subject) -> None:
        self._app = make_app(subject.url, "bench:celery:results", results=True)
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store the result."""
        self._app.backend.store_result("stored", {"answer": 42}, "SUCCESS")

    def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            # A new object each time, because one caches what it read.
            AsyncResult("stored", app=self._app).get()


def no_operation() -> int:
    """Do nothing."""
    return 1


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    for name, results in (("work", False), ("work_results", True)):
        work = Work(subject.url, f"bench:celery:{name}", results)
        subject.can(name, work.measure, work.prepare)
    Results(subject)


if __name__ == "__main__":
    run(make)
