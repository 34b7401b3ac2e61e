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
    """Sends tasks."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        app = make_app(subject.url, "bench:celery")
        self._task = app.task(no_operation, ignore_result=True)
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)

    def forget(self, _: int) -> None:
        """Begin with an empty queue."""
        self._client.delete("bench:celery")

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._task.delay()


class Work:
    """A worker of threads that runs tasks which wait already."""

    def __init__(self, url: str, queue_name: str, results: bool) -> None:
        self._client = Redis.from_url(url)
        self._queue_name = queue_name
        self._app = make_app(url, queue_name, results)
        self._tasks = Countdown(0)

        # A method won't do: Celery would ask for its `self`.
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
        """Run them, from the start of the worker to its end."""
        self._tasks = Countdown(number)
        # Threads, as others have, and not processes, which would be the default. What workers tell
        # each other is left out.
        options = {"pool": "threads", "concurrency": THREADS}
        with start_worker(self._app, perform_ping_check=False, **options):
            self._tasks.wait()
        return self._tasks.figures()


class Results:
    """Reads a result that is stored, by the ID of its task."""

    def __init__(self, subject: Subject) -> None:
        self._app = make_app(subject.url, "bench:celery:results", results=True)
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store one."""
        self._app.backend.store_result("stored", {"answer": 42}, "SUCCESS")

    def measure(self, number: int) -> None:
        """Read it."""
        for _ in range(number):
            # One that has been read keeps what it read.
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
