"""RQ."""

from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from subject import Subject, by_threads, run


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._queue = Queue("bench", connection=Redis.from_url(subject.url))
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)

    def forget(self, _: int) -> None:
        """Empty the queue."""
        self._queue.empty()

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._queue.enqueue("operator.truth", 1)


class Work:
    """Run tasks that already wait."""

    def __init__(self, url: str, name: str, options: dict[str, Any]) -> None:
        self._queue = Queue(f"bench_{name}", connection=Redis.from_url(url))
        self._options = options

    def prepare(self, number: int) -> None:
        """Send tasks."""
        self._queue.empty()
        for _ in range(number):
            self._queue.enqueue("operator.truth", 1, **self._options)

    def measure(self, number: int) -> None:
        """Run the tasks, including start and stop of the worker."""
        # SimpleWorker runs tasks in this process; the default worker forks for each task.
        worker = SimpleWorker([self._queue], connection=self._queue.connection)
        # By default it logs several lines per task, unlike the others.
        worker.work(burst=True, logging_level="WARNING")
        worker.refresh()
        if worker.successful_job_count != number:
            raise AssertionError(f"{worker.successful_job_count} of {number} tasks ran")


class Results:
    """Read a stored result by its task id."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        self._queue = Queue("bench_results", connection=self._client)
        self._id = ""
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store the result."""
        self._id = self._queue.enqueue("builtins.dict", answer=42).id
        worker = SimpleWorker([self._queue], connection=self._client)
        worker.work(burst=True, logging_level="WARNING")

    def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            Job.fetch(self._id, connection=self._client).return_value()


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    options: dict[str, dict[str, Any]] = {"work": {"result_ttl": 0}, "work_results": {}}
    for name, given in options.items():
        work = Work(subject.url, name, given)
        subject.can(name, work.measure, work.prepare)
    Results(subject)


if __name__ == "__main__":
    run(make)
