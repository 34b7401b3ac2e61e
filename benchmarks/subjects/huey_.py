"""huey on Redis lists."""

from huey import RedisHuey
from subject import THREADS, Countdown, Subject, by_threads, run


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._huey = RedisHuey("bench", url=subject.url, results=False)
        self._task = self._huey.task()(no_operation)
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", by_threads(self.kiq), self.forget)

    def forget(self, _: int) -> None:
        """Empty the queue."""
        self._huey.flush()

    def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            self._task()


class Work:
    """Run tasks that already wait, on threads."""

    def __init__(self, url: str, name: str, results: bool) -> None:
        self._huey = RedisHuey(name, url=url, results=results)
        self._task = self._huey.task(name="no_operation")(self._run_one)
        self._tasks = Countdown(0)

    def _run_one(self) -> int:
        return self._tasks.count()

    def prepare(self, number: int) -> None:
        """Send tasks."""
        self._huey.flush()
        for _ in range(number):
            self._task()

    def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        self._tasks = Countdown(number)
        consumer = self._huey.create_consumer(workers=THREADS, worker_type="thread")
        consumer.start()
        self._tasks.wait()
        consumer.stop(graceful=True)
        return self._tasks.figures()


class Results:
    """Read a stored result by its task id."""

    def __init__(self, subject: Subject) -> None:
        self._huey = RedisHuey("bench_results", url=subject.url)
        subject.can("get_result", self.measure, self.prepare)

    def prepare(self, _: int) -> None:
        """Store the result."""
        self._huey.put_result("stored", {"answer": 42})

    def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            # Without `preserve`, reading deletes the result.
            self._huey.result("stored", preserve=True)


def no_operation() -> int:
    """Do nothing."""
    return 1


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    for name, results in (("work", False), ("work_results", True)):
        work = Work(subject.url, f"bench_{name}", results)
        subject.can(name, work.measure, work.prepare)
    Results(subject)


if __name__ == "__main__":
    run(make)
