"""Count the commands per second that idle stream workers send to Redis, by number of workers.

    python benchmarks/idle_workers.py redis://localhost:6379 [seconds [number of workers ...]]

Use a server without other load. The counts come from INFO COMMANDSTATS, which includes commands run
by scripts; those are marked "in scripts".
"""

import asyncio
import sys
import time
import uuid
from collections import Counter

from redis.asyncio import Redis

from taskiq_redis import RedisStreamBroker

#: commands that clients send; scripts run all others
SENT = {"xreadgroup", "evalsha", "eval", "client|setinfo", "hello", "info", "ping"}


async def listen(broker: RedisStreamBroker) -> None:
    """Listen on a queue that stays empty."""
    async for _ in broker.listen():
        raise AssertionError


async def command_counts(client: Redis) -> Counter[str]:
    """Return the number of calls of each command."""
    stats = await client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()})


async def measure(url: str, number: int, seconds: float) -> Counter[str]:
    """Return the calls per second of each command while workers wait."""
    queue_name = f"benchmark:{uuid.uuid4()}"
    client = Redis.from_url(url)
    brokers = [RedisStreamBroker(url, queue_name=queue_name) for _ in range(number)]
    for broker in brokers:
        broker.is_worker_process = True
        await broker.startup()
    tasks = [asyncio.ensure_future(listen(broker)) for broker in brokers]
    while len(await client.xinfo_consumers(queue_name, "taskiq")) < number:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 + number * 0.05)  # until each worker knows the number of workers
    before, began = await command_counts(client), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = await command_counts(client), time.monotonic() - began
    await asyncio.gather(*(broker.shutdown() for broker in brokers))
    await asyncio.gather(*tasks)
    await client.delete(*await client.keys(f"*{queue_name}*"))
    await client.aclose()
    counted = after - before
    return Counter({name: calls / took for name, calls in counted.items()})


async def main(url: str, seconds: float, numbers: list[int]) -> None:
    """Print a table."""
    for number in numbers:
        counted = await measure(url, number, seconds)
        sent = sum(calls for name, calls in counted.items() if name in SENT - {"info"})
        print(f"{number} workers: {sent:.1f} commands per second")
        for name, calls in counted.most_common():
            by = "" if name in SENT else " (in scripts)"
            print(f"    {name}{by}: {calls:.2f}")


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1],
            float(sys.argv[2]) if sys.argv[2:] else 20.0,
            [int(number) for number in sys.argv[3:]] or [1, 10, 100],
        )
    )
