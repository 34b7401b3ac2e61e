"""Measurements of taskiq-redis with a server that is far away, for this version and 1.2.4."""

import asyncio
import datetime as dt
import time
from typing import Any

from redis.asyncio import Redis
from subject import TOGETHER, Subject, run
from taskiq import AsyncBroker, ScheduledTask, TaskiqResult
from taskiq.receiver import Receiver
from taskiq_redis_async import KEPT, make_broker

from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend

#: the queue, and the prefix of schedules
QUEUE, SCHEDULES = "bench:distance", "bench:distance:schedules"
#: s; delay of delayed tasks: they are due when the worker starts
DELAY = 0.001


async def no_operation() -> None:
    """Do nothing."""


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject) -> None:
        self._near = Redis.from_url(subject.servers["near"][0])
        # A task of 1.2.4 has fewer methods.
        self._task: Any = make_broker(subject.servers, QUEUE, results=False).register_task(
            no_operation, task_name="no_operation"
        )
        subject.can("kiq", self.kiq, self.prepare)
        subject.can("kiq_together", self.kiq_together, self.prepare)
        if hasattr(self._task, "kiq_many"):
            subject.can("kiq_many", self.kiq_many, self.prepare)

    async def prepare(self, _: int) -> None:
        """Empty the queue, and connect."""
        await self._near.delete(QUEUE)
        await self.kiq_together(TOGETHER)

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._task.kiq()

    async def kiq_together(self, number: int) -> None:
        """Send from a hundred producers."""
        await from_hundred(self._task.kiq, number)

    async def kiq_many(self, number: int) -> None:
        """Send with one call."""
        await self._task.kiq_many([self._task.call() for _ in range(number)])


class Work:
    """Run tasks that already wait.

    Args:
        subject: the subject.
        name: name of the measurement.
        results: whether results are stored.
        labels: labels of the tasks.
    """

    def __init__(self, subject: Subject, name: str, *, results: bool, **labels: Any) -> None:
        self._servers = subject.servers
        self._near = Redis.from_url(subject.servers["near"][0])
        self._results, self._labels = results, labels
        subject.can(name, self.measure, self.prepare)

    async def prepare(self, number: int) -> None:
        """Send tasks from nearby."""
        for key in await self._near.keys(f"*{QUEUE}*"):
            await self._near.delete(key)
        servers = {**self._servers, "single": self._servers["near"]}
        broker = make_broker(servers, QUEUE, results=False)
        await broker.startup()
        task = broker.register_task(no_operation, task_name="no_operation")
        await from_hundred(task.kicker().with_labels(**self._labels).kiq, number)
        await broker.shutdown()

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, and return the time from the first one to the last one."""
        broker: AsyncBroker = make_broker(self._servers, QUEUE, results=self._results)
        broker.is_worker_process = True
        finish, starts = asyncio.Event(), list[float]()

        async def note() -> None:
            starts.append(time.perf_counter())
            if len(starts) == number:
                finish.set()

        broker.register_task(note, task_name="no_operation")
        await Receiver(broker, max_async_tasks=100).listen(finish)
        await broker.shutdown()
        pending = (await self._near.xpending(QUEUE, "taskiq"))["pending"]
        if len(starts) != number or pending:
            raise AssertionError(f"{len(starts)} of {number} tasks ran, {pending} are pending")
        return {"wall": starts[-1] - starts[0]}


class Results:
    """Store, read and await results."""

    def __init__(self, subject: Subject) -> None:
        self._backend = RedisAsyncResultBackend(subject.url, result_ex_time=KEPT)
        self._near = Redis.from_url(subject.servers["near"][0])
        self._result = TaskiqResult(is_err=False, return_value=1, execution_time=0.1)
        subject.can("set_result", self.set_result, self.connect)
        subject.can("get_result", self.get_result, self.connect)

    async def connect(self, _: int) -> None:
        """Store a result."""
        await self.set_result(TOGETHER)

    async def set_result(self, number: int) -> None:
        """Store results, a hundred at a time."""
        await from_hundred(lambda: self._backend.set_result("stored", self._result), number)

    async def get_result(self, number: int) -> None:
        """Read a result, a hundred times at a time."""
        await from_hundred(lambda: self._backend.get_result("stored"), number)


class Schedules:
    """Add schedules, and read them as the scheduler does."""

    def __init__(self, subject: Subject) -> None:
        self._source = ListRedisScheduleSource(subject.url, prefix=SCHEDULES)
        self._near = Redis.from_url(subject.servers["near"][0])
        subject.can("add_schedule", self.add, self.clear)
        subject.can("poll", self.poll, self.fill)

    async def clear(self, _: int) -> None:
        """Delete all schedules, and connect."""
        for key in await self._near.keys(f"*{SCHEDULES}*"):
            await self._near.delete(key)
        await self.add(1)

    async def fill(self, _: int) -> None:
        """Store a hundred schedules."""
        await self.clear(0)
        await self.add(TOGETHER)

    async def add(self, number: int) -> None:
        """Add one-offs, a hundred at a time."""
        due = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)

        async def add() -> None:
            schedule = ScheduledTask(
                task_name="no_operation", labels={}, args=[], kwargs={}, time=due
            )
            await self._source.add_schedule(schedule)

        await from_hundred(add, number)

    async def poll(self, number: int) -> None:
        """Read what is due."""
        for _ in range(number):
            await self._source.get_schedules()


async def from_hundred(call: Any, number: int) -> None:
    """Await `call()` `number` times, from a hundred tasks."""

    async def repeat(times: int) -> None:
        for _ in range(times):
            await call()

    times, more = divmod(number, TOGETHER)
    await asyncio.gather(*(repeat(times + (index < more)) for index in range(TOGETHER)))


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)
    Work(subject, "work", results=False)
    Work(subject, "work_results", results=True)
    Work(subject, "work_delayed", results=False, delay=DELAY)
    Results(subject)
    Schedules(subject)


if __name__ == "__main__":
    run(make)
