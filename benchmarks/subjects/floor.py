"""The lower bound: taskiq's own work on a broker that does nothing, and one bare command."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from redis.asyncio import Redis
from subject import TOGETHER, Subject, run
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqResult
from taskiq.receiver import Receiver
from taskiq.serializers import PickleSerializer

KEY = "bench:floor"


class NullBroker(AsyncBroker):
    """A broker that keeps messages in memory, or drops them."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bytes] = []
        self.kept = b""

    async def kick(self, message: BrokerMessage) -> None:
        """Keep the last message."""
        self.kept = message.message

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield all waiting messages."""
        for data in self.waiting:
            yield AckableMessage(data=data, ack=self._acknowledge)
        await asyncio.Event().wait()

    async def _acknowledge(self) -> None:
        await asyncio.sleep(0)


async def no_operation() -> int:
    """Do nothing."""
    return 1


class Sender:
    """Send to a broker that does nothing, and add its message to a stream."""

    def __init__(self, subject: Subject, client: Any) -> None:
        self._client = client
        self._broker = NullBroker()
        self._task = self._broker.register_task(no_operation, task_name="no_operation")
        subject.can("kiq", self.kiq, self.forget)
        subject.can("kiq_together", self.kiq_together, self.forget)

    async def forget(self, _: int) -> None:
        """Empty the stream."""
        await self._client.delete(KEY)

    async def kiq(self, number: int) -> None:
        """Send one after the other."""
        for _ in range(number):
            await self._task.kiq()
            await self._client.xadd(KEY, {b"data": self._broker.kept})

    async def kiq_together(self, number: int) -> None:
        """Send a hundred concurrently each time."""
        for _ in range(number // TOGETHER):
            await asyncio.gather(*(self._task.kiq() for _ in range(TOGETHER)))
            pipeline = self._client.pipeline(transaction=False)
            for _ in range(TOGETHER):
                pipeline.xadd(KEY, {b"data": self._broker.kept})
            await pipeline.execute()


class Worker:
    """Run taskiq's receiver on messages from memory; store results a hundred at a time."""

    def __init__(self, subject: Subject, client: Any) -> None:
        self._client = client
        subject.can("work", self.work)
        subject.can("work_results", self.work_results)

    async def work(self, number: int) -> None:
        """Run tasks."""
        broker, done, finish = NullBroker(), 0, asyncio.Event()

        async def count_one() -> int:
            nonlocal done
            done += 1
            if done == number:
                finish.set()
            return 1

        await broker.register_task(count_one, task_name="no_operation").kiq()
        broker.waiting = [broker.kept] * number
        await Receiver(broker, max_async_tasks=100).listen(finish)
        if done != number:
            raise AssertionError(f"{done} of {number} tasks ran")

    async def work_results(self, number: int) -> None:
        """Run tasks, and store their results."""
        await self.work(number)
        for _ in range(number // TOGETHER):
            pipeline = self._client.pipeline(transaction=False)
            for index in range(TOGETHER):
                pipeline.set(f"{KEY}:{index}", dumped(1), ex=60)
            await pipeline.execute()


def dumped(value: Any) -> bytes:
    """Return the stored bytes of a result."""
    result = TaskiqResult[Any](is_err=False, return_value=value, execution_time=0.1)
    return PickleSerializer().dumpb(result.model_dump(mode="json"))


class Results:
    """Read a stored result."""

    def __init__(self, subject: Subject, client: Any) -> None:
        self._client = client
        self._serializer = PickleSerializer()
        subject.can("get_result", self.get_result, self.store)

    async def store(self, _: int) -> None:
        """Store the result."""
        await self._client.set(f"{KEY}:stored", dumped({"answer": 42}), ex=600)

    async def get_result(self, number: int) -> None:
        """Read the result."""
        for _ in range(number):
            raw = await self._client.get(f"{KEY}:stored")
            TaskiqResult[Any].model_validate(self._serializer.loadb(raw))


async def make(subject: Subject) -> None:
    """Add all measurements."""
    client = Redis.from_url(subject.url)
    for part in (Sender, Worker, Results):
        part(subject, client)


if __name__ == "__main__":
    run(make)
