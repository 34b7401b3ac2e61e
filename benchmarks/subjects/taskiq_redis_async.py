"""taskiq-redis, this version or 1.2.4: the same program for both."""

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

from redis.asyncio import Redis
from subject import TOGETHER, Servers, Subject, percentiles, round_trips, run
from taskiq import AsyncBroker, TaskiqResult
from taskiq.receiver import Receiver

from taskiq_redis import (
    RedisAsyncClusterResultBackend,
    RedisAsyncResultBackend,
    RedisAsyncSentinelResultBackend,
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
)

Worker = subprocess.Popen[bytes]

#: s; expiry of results
KEPT = 60
#: the queues; workers of both versions run at once, and must not share one
SENT, ROUND_TRIPS = "bench:kiq", f"bench:round_trip:{os.getpid()}"
#: ms; the 10 s that 1.2.4 uses elsewhere exceed redis-py 8's socket timeout
BLOCK = 2000
#: by kind of servers, the broker and the result backend
CLASSES: dict[str, Any] = {
    "single": (RedisStreamBroker, RedisAsyncResultBackend),
    "cluster": (RedisStreamClusterBroker, RedisAsyncClusterResultBackend),
    "sentinel": (RedisStreamSentinelBroker, RedisAsyncSentinelResultBackend),
}


def make_broker(
    servers: Servers, queue_name: str, *, results: bool, kind: str = "single", **options: Any
) -> AsyncBroker:
    """Return a broker."""
    broker_class, backend_class = CLASSES[kind]
    broker: AsyncBroker = broker_class(
        *servers[kind], queue_name=queue_name, xread_block=BLOCK, **options
    )
    if results:
        backend = backend_class(*servers[kind], result_ex_time=KEPT)
        broker = broker.with_result_backend(backend)
    return broker


class Sender:
    """Sends tasks."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        broker = make_broker(subject.servers, SENT, results=False)
        # A task of 1.2.4 has fewer methods.
        self._task: Any = broker.register_task(serve_one, task_name="no_operation")
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", self.kiq_together, self.forget)
        if hasattr(self._task, "kiq_many"):
            subject.can("kiq_many", self.kiq_many, self.forget)
        if hasattr(broker, "track_tasks"):
            broker = make_broker(subject.servers, SENT, results=False, track_tasks=True)
            self._tracked: Any = broker.register_task(serve_one, task_name="no_operation")
            subject.can("kiq_tracked", self.kiq_tracked, self.forget)
            subject.can("kiq_together_tracked", self.kiq_together_tracked, self.forget)

    async def forget(self, _: int) -> None:
        """Empty the stream, and forget its tasks."""
        await self._client.delete(SENT, f"{{{SENT}}}:tasks")

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._task.kiq()

    async def kiq_together(self, number: int) -> None:
        """Send a hundred concurrently each time."""
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(self._task.kiq() for _ in range(TOGETHER)))

    async def kiq_tracked(self, number: int) -> None:
        """Send one after the other, and record each task."""
        for _ in range(number):
            await self._tracked.kiq()

    async def kiq_together_tracked(self, number: int) -> None:
        """Send a hundred concurrently each time, and record each task."""
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(self._tracked.kiq() for _ in range(TOGETHER)))

    async def kiq_many(self, number: int) -> None:
        """Send a hundred per call."""
        for _ in range(number // TOGETHER):
            await self._task.kiq_many([self._task.call() for _ in range(TOGETHER)])


class Work:
    """Run tasks that already wait."""

    def __init__(self, subject: Subject, name: str, *, results: bool) -> None:
        self._client = Redis.from_url(subject.url)
        self._servers, self._queue_name = subject.servers, f"bench:{name}:queue"
        self._results = results
        subject.can(name, self.measure, self.prepare)

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        for key in await self._keys():
            await self._client.delete(key)
        broker = self._broker()
        await broker.startup()
        task = broker.register_task(lambda: 1, task_name="no_operation")
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(task.kiq() for _ in range(TOGETHER)))
        await broker.shutdown()

    def _broker(self) -> AsyncBroker:
        return make_broker(self._servers, self._queue_name, results=self._results)

    async def _keys(self) -> list[Any]:
        """Return the queue and its other keys, without results."""
        return await self._client.keys(f"*{self._queue_name}*")

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        broker = self._broker()
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
            raise AssertionError(f"{done} of {number} tasks ran, {left['pending']} are pending")
        return {"kept": await self._bytes_kept() / number}

    async def _bytes_kept(self) -> int:
        sizes = [await self._client.memory_usage(key, samples=0) for key in await self._keys()]
        return sum(size or 0 for size in sizes)


class Results:
    """Read a stored result."""

    def __init__(self, subject: Subject) -> None:
        self._backend = RedisAsyncResultBackend(subject.url, result_ex_time=KEPT)
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Store the result."""
        result = TaskiqResult(is_err=False, return_value={"answer": 42}, execution_time=0.1)
        await self._backend.set_result("stored", result)

    async def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            await self._backend.get_result("stored")


class RoundTrips:
    """Measure from `kiq` to the result, with an idle worker in its own process."""

    def __init__(self, subject: Subject, name: str, kind: str) -> None:
        self._broker = make_broker(subject.servers, ROUND_TRIPS, results=True, kind=kind)
        self._task = self._broker.register_task(serve_one, task_name="serve_one")
        self._servers, self._kind = subject.servers, kind
        self._worker: Worker | None = None
        subject.can(name, self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Start the worker, and wait for a first result."""
        if self._worker is None:
            self._worker = start_worker(self._servers, self._kind, ROUND_TRIPS)
            await self._broker.startup()
        await (await self._task.kiq()).wait_result(timeout=20)

    async def measure(self, number: int) -> dict[str, float]:
        """Send one after the other, and wait for each result."""
        took = []
        for _ in range(number):
            began = time.perf_counter()
            await (await self._task.kiq()).wait_result(timeout=20)
            took.append(time.perf_counter() - began)
        return percentiles(took)


async def serve_one() -> int:
    """Do nothing."""
    return 1


def start_worker(servers: Servers, kind: str, queue_name: str) -> Worker:
    """Start a worker that ends with this process."""
    command = [sys.executable, __file__, json.dumps(servers), "worker", kind, queue_name]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


async def serve(servers: Servers, kind: str, queue_name: str) -> None:
    """Run a worker until standard input closes."""
    broker = make_broker(servers, queue_name, results=True, kind=kind)
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
    Work(subject, "work", results=False)
    Work(subject, "work_results", results=True)
    Results(subject)
    for name, kind in round_trips(subject.servers).items():
        RoundTrips(subject, name, kind)


if __name__ == "__main__":
    if sys.argv[2:3] == ["worker"]:
        asyncio.run(serve(json.loads(sys.argv[1]), *sys.argv[3:]))
    else:
        run(make)
