"""taskiq-redis, this one or 1.2.4: the same program for both, as users have it."""

import asyncio
import os
import sys
import time

from redis.asyncio import Redis
from subject import TOGETHER, Subject, percentiles, run
from taskiq import TaskiqResult
from taskiq.receiver import Receiver

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

#: s; how long results are kept
KEPT = 60
#: the queues; workers of both versions would share one
SENT, ROUND_TRIPS = "bench:kiq", f"bench:round_trip:{os.getpid()}"


def make_broker(url: str, queue_name: str, results: bool) -> RedisStreamBroker:
    """Return a broker."""
    broker = RedisStreamBroker(url, queue_name=queue_name)
    if results:
        broker = broker.with_result_backend(RedisAsyncResultBackend(url, result_ex_time=KEPT))
    return broker


class Sender:
    """Sends tasks."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        broker = make_broker(subject.url, SENT, results=False)
        self._task = broker.register_task(serve_one, task_name="no_operation")
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", self.kiq_together, self.forget)
        if hasattr(self._task, "kiq_many"):
            subject.can("kiq_many", self.kiq_many, self.forget)

    async def forget(self, _: int) -> None:
        """Begin with an empty stream."""
        await self._client.delete(SENT)

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._task.kiq()

    async def kiq_together(self, number: int) -> None:
        """Send some at the same time."""
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(self._task.kiq() for _ in range(TOGETHER)))

    async def kiq_many(self, number: int) -> None:
        """Send a hundred each time."""
        for _ in range(number // TOGETHER):
            await self._task.kiq_many([self._task.call() for _ in range(TOGETHER)])


class Work:
    """A worker that runs tasks which wait already."""

    def __init__(self, url: str, queue_name: str, results: bool) -> None:
        self._client = Redis.from_url(url)
        self._url, self._queue_name, self._results = url, queue_name, results

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        await self._client.delete(self._queue_name)
        broker = make_broker(self._url, self._queue_name, self._results)
        await broker.startup()
        task = broker.register_task(lambda: 1, task_name="no_operation")
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(task.kiq() for _ in range(TOGETHER)))
        await broker.shutdown()

    async def measure(self, number: int) -> dict[str, float]:
        """Run them, from the start of the worker to its end."""
        broker = make_broker(self._url, self._queue_name, self._results)
        broker.is_worker_process = True
        finish, done = asyncio.Event(), 0

        async def no_operation() -> int:
            nonlocal done
            done += 1
            if done == number:
                finish.set()
            return 1

        broker.register_task(no_operation, task_name="no_operation")
        await Receiver(broker, max_async_tasks=100).listen(finish)
        await broker.shutdown()
        left = await self._client.xpending(self._queue_name, "taskiq")
        if done != number or left["pending"]:
            raise AssertionError(f"{done} of {number} were run, {left['pending']} are pending")
        kept = await self._client.memory_usage(self._queue_name)
        return {"kept": (kept or 0) / number}


class Results:
    """Reads results that are stored."""

    def __init__(self, subject: Subject) -> None:
        self._backend = RedisAsyncResultBackend(subject.url, result_ex_time=KEPT)
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Store one."""
        result = TaskiqResult(is_err=False, return_value={"answer": 42}, execution_time=0.1)
        await self._backend.set_result("stored", result)

    async def measure(self, number: int) -> None:
        """Read it."""
        for _ in range(number):
            await self._backend.get_result("stored")


class RoundTrips:
    """From `kiq` to the result, with an idle worker in a process of its own."""

    def __init__(self, subject: Subject) -> None:
        self._url = subject.url
        self._broker = make_broker(subject.url, ROUND_TRIPS, results=True)
        self._task = self._broker.register_task(serve_one, task_name="serve_one")
        self._worker: asyncio.subprocess.Process | None = None
        subject.can("round_trip", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Start the worker, and wait until it works."""
        if self._worker is None:
            command = [sys.executable, __file__, self._url, "worker", ROUND_TRIPS]
            pipe = asyncio.subprocess.PIPE
            self._worker = await asyncio.create_subprocess_exec(*command, stdin=pipe)
            await self._broker.startup()
        await (await self._task.kiq()).wait_result(timeout=20)

    async def measure(self, number: int) -> dict[str, float]:
        """Send one after the other, and wait for each."""
        took = []
        for _ in range(number):
            began = time.perf_counter()
            await (await self._task.kiq()).wait_result(timeout=20)
            took.append(time.perf_counter() - began)
        return percentiles(took)


async def serve_one() -> int:
    """Do nothing."""
    return 1


async def serve(url: str, queue_name: str) -> None:
    """Be a worker, until the subject has ended."""
    broker = make_broker(url, queue_name, results=True)
    broker.is_worker_process = True
    broker.register_task(serve_one, task_name="serve_one")
    finish = asyncio.Event()
    listening = asyncio.ensure_future(Receiver(broker, max_async_tasks=100).listen(finish))
    await asyncio.to_thread(sys.stdin.read)
    finish.set()
    await listening
    await broker.shutdown()


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    for name, results in (("work", False), ("work_results", True)):
        work = Work(subject.url, f"bench:{name}", results)
        subject.can(name, work.measure, work.prepare)
    Results(subject)
    RoundTrips(subject)


if __name__ == "__main__":
    if sys.argv[2:3] == ["worker"]:
        asyncio.run(serve(sys.argv[1], sys.argv[3]))
    else:
        run(make)
