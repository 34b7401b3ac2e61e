"""arq."""

from functools import partial
from typing import Any

from arq import ArqRedis, Worker, create_pool, func
from arq.connections import RedisSettings
from arq.jobs import Job
from subject import TOGETHER, Countdown, Subject, run, together

#: the queues
SENT, STORED = "bench:arq", "bench:arq:results"


async def run_all(url: str, queue_name: str, task: Any, **options: Any) -> None:
    """Run a worker until no task is left."""
    worker = Worker(
        [func(task, name="no_operation")],
        queue_name=queue_name,
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=TOGETHER,
        burst=True,
        handle_signals=False,
        **options,
    )
    await worker.async_run()
    await worker.close()


class Sender:
    """Send tasks."""

    def __init__(self, subject: Subject, pool: ArqRedis) -> None:
        self._pool = pool
        self._send = partial(pool.enqueue_job, "no_operation", _queue_name=SENT)
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", partial(together, self._send), self.forget)

    async def forget(self, _: int) -> None:
        """Empty the queue."""
        await self._pool.delete(SENT)

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._send()


class Work:
    """Run tasks that already wait."""

    def __init__(self, url: str, queue_name: str, pool: ArqRedis, **options: Any) -> None:
        self._pool, self._run_all = pool, partial(run_all, url, queue_name, **options)
        self._queue_name = queue_name

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        await self._pool.delete(self._queue_name)
        send = partial(self._pool.enqueue_job, "no_operation", _queue_name=self._queue_name)
        await together(send, number)

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        tasks = Countdown(number)

        async def no_operation(_: Any) -> int:
            return tasks.count()

        await self._run_all(no_operation)
        return tasks.figures()


class Results:
    """Read a stored result by its task id."""

    def __init__(self, subject: Subject, pool: ArqRedis) -> None:
        self._url, self._pool, self._id = subject.url, pool, ""
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Store the result."""

        async def answer(_: Any) -> dict[str, int]:
            return {"answer": 42}

        job = await self._pool.enqueue_job("no_operation", _queue_name=STORED)
        assert job is not None
        self._id = job.job_id
        await run_all(self._url, STORED, answer)

    async def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            await Job(self._id, self._pool).result()


async def make(subject: Subject) -> None:
    """Add all measurements."""
    pool = await create_pool(RedisSettings.from_dsn(subject.url))
    subject.open.push_async_callback(pool.aclose)
    Sender(subject, pool)
    options = {"work": {"keep_result": 0}, "work_results": {}}
    for name, given in options.items():
        work = Work(subject.url, f"bench:arq:{name}", pool, **given)
        subject.can(name, work.measure, work.prepare)
    Results(subject, pool)


if __name__ == "__main__":
    run(make)
