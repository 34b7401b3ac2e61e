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
    """Begin with an empty queue."""
    parts = ("queued", "active", "incomplete", "sweep")
    await queue.redis.delete(*(queue.namespace(part) for part in parts))


class Sender:
    """Sends tasks."""

    def __init__(self, subject: Subject, queue: Queue) -> None:
        self._send = partial(queue.enqueue, "no_operation")
        subject.can("kiq", self.kiq, partial(forget, queue))
        subject.can("kiq_together", partial(together, self._send), partial(forget, queue))

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._send()


class Work:
    """A worker that runs tasks which wait already."""

    def __init__(self, queue: Queue, **options: Any) -> None:
        self._queue, self._options = queue, options

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        await forget(self._queue, number)
        # The worker would begin with it, and abort tasks that are just being taken.
        await self._queue.sweep()
        await together(partial(self._queue.enqueue, "no_operation", **self._options), number)

    async def measure(self, number: int) -> dict[str, float]:
        """Run them, from the start of the worker to its end."""
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
    """Reads a result that is stored, by the key of its task."""

    def __init__(self, subject: Subject, queue: Queue) -> None:
        self._queue, self._key = queue, ""
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, number: int) -> None:
        """Store one."""
        await forget(self._queue, number)
        job = await self._queue.enqueue("no_operation")
        assert job is not None
        await job.finish(Status.COMPLETE, result={"answer": 42})
        self._key = job.key

    async def measure(self, number: int) -> None:
        """Read it, with all that is known of the task."""
        for _ in range(number):
            await self._queue.job(self._key)


async def make(subject: Subject) -> None:
    """Add all measurements."""
    # Each worker that ends warns that its own loops have to be cancelled.
    logging.getLogger("saq").setLevel(logging.ERROR)
    Sender(subject, await connect(subject, "kiq"))
    # A negative time is how a task says that its result need not be stored.
    options: dict[str, dict[str, Any]] = {"work": {"ttl": -1}, "work_results": {}}
    for name, given in options.items():
        work = Work(await connect(subject, name), **given)
        subject.can(name, work.measure, work.prepare)
    Results(subject, await connect(subject, "get_result"))


if __name__ == "__main__":
    run(make)
