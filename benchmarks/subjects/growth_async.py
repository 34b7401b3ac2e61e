"""Growth measurements of taskiq-redis, for this version and 1.2.4."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from subject import Subject, cpu_seconds, run
from taskiq import AsyncBroker
from taskiq.receiver import Receiver
from taskiq_redis_async import make_broker

#: the queue, and a list that stops the workers when all tasks are done
QUEUE, OVER = "bench:growth", "bench:growth:over"
#: messages copied per script; more would block the server for long
STEP = 10_000
COPY = """
for _ = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[2])
end
"""


async def no_operation(index: int, payload: str) -> None:
    """Do nothing."""


class Sender:
    """Send tasks to a queue in which others already wait."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        self._broker = make_broker(subject.servers, QUEUE, results=False)
        self._task = self._broker.register_task(no_operation, task_name="no_operation")
        subject.can("kiq", self.measure, self.prepare)

    async def prepare(self, _number: int, _producers: int, size: int, waiting: int) -> None:
        """Fill the queue with this many waiting tasks."""
        await self._client.delete(QUEUE)
        # 1.2.4 runs only messages that are sent after its group was created.
        await self._broker.startup()
        if waiting:
            await self._task.kiq(0, "x" * size)
            await self._copy(waiting - 1)

    async def _copy(self, number: int) -> None:
        first: Any = await self._client.xrange(QUEUE, count=1)
        data = first[0][1][b"data"]
        for done in range(0, number, STEP):
            copies = min(STEP, number - done)
            await self._client.eval(COPY, 1, QUEUE, copies, data)

    async def measure(self, number: int, producers: int, size: int, _waiting: int) -> None:
        """Send from several producers, each of which sends one after the other."""
        payload = "x" * size

        async def send(first: int) -> None:
            for index in range(first, number, producers):
                await self._task.kiq(index, payload)

        await asyncio.gather(*map(send, range(producers)))


class Work:
    """One of the workers of the queue."""

    def __init__(self, subject: Subject) -> None:
        self._servers = subject.servers
        # BLPOP blocks until all tasks are done.
        self._client = Redis.from_url(subject.url, socket_timeout=None)
        self._broker: AsyncBroker | None = None
        subject.can("work", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Create the broker and its consumer group."""
        await self._client.delete(OVER)
        self._broker = make_broker(self._servers, QUEUE, results=False)
        self._broker.is_worker_process = True
        await self._broker.startup()

    async def measure(self, most: int) -> dict[str, Any]:
        """Run this many tasks; 0 runs tasks until an element is pushed to the list OVER."""
        assert self._broker is not None
        finish, ran = asyncio.Event(), list[int]()

        async def note(index: int, payload: str) -> None:  # noqa: ARG001 - the signature of the sent task
            ran.append(index)
            if len(ran) == most:
                finish.set()

        self._broker.register_task(note, task_name="no_operation")
        stop_request = asyncio.ensure_future(self._client.blpop([OVER]))
        stop_request.add_done_callback(lambda _: finish.set())
        began = cpu_seconds()
        await Receiver(self._broker, max_async_tasks=100, run_startup=False).listen(finish)
        figures = {"cpu": cpu_seconds() - began, "ran": ran}
        stop_request.cancel()
        await self._broker.shutdown()
        return figures


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    Work(subject)


if __name__ == "__main__":
    run(make)
