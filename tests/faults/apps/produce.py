"""Send numbered tasks at a steady rate, with asyncio or threads, until SIGTERM.

Each task is recorded as sent when `kiq` returns, and as given up when `kiq` raises.

Arguments: `async` or `sync`; tasks per second; the first number; the step between numbers.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from signal import SIGTERM, signal

from taskiq.exceptions import SendTaskError

from taskiq_redis import to_sync
from taskiq_redis.exceptions import ServerUnavailableError
from tests.e2e.recorder import record
from tests.faults.apps.work import broker, work

#: maximum number of concurrent blocking calls
THREADS = 32


class Pace:
    """The numbers to send, and the pause before each."""

    def __init__(self, rate: float, first: int, step: int) -> None:
        self._numbers = count(first, step)
        self._interval = 1 / rate
        self._begin = time.monotonic()

    def __iter__(self) -> Iterator[tuple[float, int]]:
        for sent, number in enumerate(self._numbers):
            yield max(0.0, self._begin + sent * self._interval - time.monotonic()), number


def record_given_up(number: int, error: SendTaskError) -> None:
    """Record that a task may not have been sent because Redis is away; raise other errors."""
    if not isinstance(error.__cause__, ServerUnavailableError):
        raise error
    record("given up", number=number)


async def send(number: int) -> None:
    """Send one task."""
    try:
        await work.kiq(number)
    except SendTaskError as error:
        record_given_up(number, error)
    else:
        record("sent", number=number)


async def send_all(pace: Pace) -> None:
    """Send as an asyncio server does, with an asyncio task for each call."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(SIGTERM, stopping.set)
    record("producing")
    tasks: set[asyncio.Task[None]] = set()
    for pause, number in pace:
        await asyncio.wait({asyncio.ensure_future(stopping.wait())}, timeout=pause)
        if stopping.is_set():
            break
        tasks.add(asyncio.ensure_future(send(number)))
        tasks = {task for task in tasks if not task.done() or task.result()}
    await asyncio.gather(*tasks)
    await broker.shutdown()


def send_all_in_threads(pace: Pace) -> None:
    """Send as a threaded server does; calls wait for a free thread."""
    twin, stopping = to_sync(broker), threading.Event()
    signal(SIGTERM, lambda *_: stopping.set())
    record("producing")
    free = threading.Semaphore(THREADS)

    def send_blocking(number: int) -> None:
        try:
            twin.kicker(work).kiq(number)
        except SendTaskError as error:
            record_given_up(number, error)
        else:
            record("sent", number=number)
        finally:
            free.release()

    with ThreadPoolExecutor(THREADS) as pool:
        futures = []
        for pause, number in pace:
            if stopping.wait(pause):
                break
            free.acquire()
            futures.append(pool.submit(send_blocking, number))
    for future in futures:
        future.result()
    twin.shutdown()


if __name__ == "__main__":
    mode, numbers = sys.argv[1], Pace(float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    if mode == "async":
        asyncio.run(send_all(numbers))
    else:
        send_all_in_threads(numbers)
