"""Docket (pydocket on PyPI)."""

from datetime import timedelta
from functools import partial
from typing import Any

from docket import Docket, Worker
from subject import TOGETHER, Countdown, Subject, run, together


async def no_operation() -> int:
    """Do nothing."""
    return 1


async def answer() -> dict[str, int]:
    """Return the result to read."""
    return {"answer": 42}


async def run_all(docket: Docket) -> None:
    """Run a worker until no task is left."""
    async with Worker(docket, concurrency=TOGETHER) as worker:
        await worker.run_until_finished()


class Sender:
    """Send tasks."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def forget(self, _: int) -> None:
        """Empty the queue."""
        await self._docket.clear()

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self.send()

    async def send(self) -> None:
        """Send a task."""
        await self._docket.add(no_operation)()


class Work:
    """Run tasks that already wait."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def prepare(self, number: int) -> None:
        """Send tasks."""
        sender = Sender(self._docket)
        await sender.forget(number)
        await together(sender.send, number)

    async def measure(self, number: int) -> dict[str, float]:
        """Run the tasks, including start and stop of the worker."""
        tasks = Countdown(number)

        async def count_one() -> int:
            return tasks.count()

        self._docket.register(count_one, ["no_operation"])
        await run_all(self._docket)
        return tasks.figures()


class Results:
    """Read a stored result by its task key."""

    def __init__(self, subject: Subject, docket: Docket) -> None:
        self._docket, self._key = docket, ""
        subject.can("get_result", self.measure, self.prepare)

    async def prepare(self, _: int) -> None:
        """Store the result."""
        self._key = (await self._docket.add(answer)()).key
        await run_all(self._docket)

    async def measure(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            execution = await self._docket.get_execution(self._key)
            assert execution is not None
            await execution.get_result()


async def make(subject: Subject) -> None:
    """Add all measurements."""

    async def connect(name: str, **options: Any) -> Docket:
        docket = Docket(f"bench-{name}", subject.url, **options)
        return await subject.open.enter_async_context(docket)

    sender = Sender(await connect("kiq"))
    subject.can("kiq", sender.kiq, sender.forget)
    subject.can("kiq_together", partial(together, sender.send), sender.forget)
    options: dict[str, dict[str, Any]] = {
        "work": {"execution_ttl": timedelta(0)},
        "work_results": {},
    }
    for name, given in options.items():
        work = Work(await connect(name, **given))
        subject.can(name, work.measure, work.prepare)
    Results(subject, await connect("get_result"))


if __name__ == "__main__":
    run(make)
