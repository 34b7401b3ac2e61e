"""streaQ."""

from functools import partial
from typing import Any

from streaq import Worker
from subject import TOGETHER, Countdown, Subject, run, together


async def no_operation() -> int:
    """Do nothing."""
    return 1


def make_worker(url: str, name: str) -> Worker[Any]:
    """Return a worker, which also sends tasks."""
    return Worker(url, queue_name=f"bench-{name}", concurrency=TOGETHER)


class Sender:
    """Send tasks."""

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker, self._task = worker, worker.task(no_operation)

    async def forget(self, _: int) -> None:
        """Empty the queue."""
        streams = [self._worker.stream_key + each for each in self._worker.priorities]
        await self._worker.redis.delete(streams)

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self.send()

    async def send(self) -> None:
        """Send a task."""
        await self._task.enqueue()


class Work:
    """Run tasks that already wait."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        self._make_worker, self._options = partial(make_worker, url, name), options

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        async with self._make_worker() as worker:
            sender = Sender(worker)
            await sender.forget(number)
            await together(sender.send, number)

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        tasks = Countdown(number)
        worker = self._make_worker()

        @worker.task(name="no_operation", **self._options)
        async def count_one() -> int:
            return tasks.count()

        worker.burst = True
        await worker.run_async()
        return tasks.figures()


async def make(subject: Subject) -> None:
    """Add all measurements."""
    worker = make_worker(subject.url, "kiq")
    sender = Sender(await subject.open.enter_async_context(worker))
    subject.can("kiq", sender.kiq, sender.forget)
    subject.can("kiq_together", partial(together, sender.send), sender.forget)
    options: dict[str, dict[str, Any]] = {"work": {"ttl": 0}, "work_results": {}}
    for name, given in options.items():
        work = Work(subject.url, name, **given)
        subject.can(name, work.measure, work.prepare)
    # No get_result: streaQ reads results through a subscription, which takes 0.1 s to end.


if __name__ == "__main__":
    run(make)
