"""SAQ on Redis."""

import logging
from functools import partial
from typing import Any

from saq import Queue, Status, Worker
from subject import TOGETHER, Countdown, Subject, run, together


async def connect(subject: Subject, name: str) -> Queue:
    """Return a queue."""
    queue = Queue.from_url(subject.url, name=f"bench-{name}")
    subject.open.push_async_callback(queue.disconnect)
    await queue.connect()
    return queue


async def forget(queue: Queue, _: int) -> None:
    """Empty the queue."""
    parts = ("queued", "active", "incomplete", "sweep")
    await queue.redis.delete(*(queue.namespace(part) for part in parts))


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject, queue: Queue) -> None:
        self._send = partial(queue.enqueue, "no_operation")
        subject.can("kiq", self.kiq, partial(forget, queue))
        subject.can("kiq_together", partial(together, self._send), partial(forget, queue))

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._send()


class Work:
    """Run tasks that already wait."""

    def __init__(self, queue: Queue, **options: Any) -> None:
        self._queue, self._options = queue, options

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        await forget(self._queue, number)
        # Sweep now: a worker sweeps at its start, and would abort tasks that it just dequeued.
        await self._queue.sweep()
        await together(partial(self._queue.enqueue, "no_operation", **self._options), number)

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        tasks = Countdown(number)

        async def no_operation(_: Any) -> int:
            return tasks.count()

        worker: Worker[Any] = Worker(
            self._queue,
            [("no_operation", no_operation)],
            concurrency=TOGETHER,
            burst=True,
            dequeue_timeout=1,
        )
        await worker.start()
        return tasks.figures()


class Results:
    """Read a stored result by its task key."""

    def __init__(self, subject: Subject, queue: Queue) -> None:
        self._queue, self._key = queue, ""
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, number: int) -> None:
        """Store the result."""
        await forget(self._queue, number)
        job = await self._queue.enqueue("no_operation")
        assert job is not None
        await job.finish(Status.COMPLETE, result={"answer": 42})
        self._key = job.key

    async def measure(self, number: int) -> None:
        """Read the whole job, including its result."""
        for _ in range(number):
            await self._queue.job(self._key)


async def make(subject: Subject) -> None:
    """Add all measurements."""
    # A stopping worker warns that it cancels its own loops.
    logging.getLogger("saq").setLevel(logging.ERROR)
    Sender(subject, await connect(subject, "kiq"))
    # A negative `ttl` doesn't store the result.
    options: dict[str, dict[str, Any]] = {"work": {"ttl": -1}, "work_results": {}}
    for name, given in options.items():
        work = Work(await connect(subject, name), **given)
        subject.can(name, work.measure, work.prepare)
    Results(subject, await connect(subject, "get_result"))


if __name__ == "__main__":
    run(make)
