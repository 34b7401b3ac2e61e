"""The protocol of a subject: serve one measurement after the other.

`compare.py` and `growth.py` start each subject in its own environment, with the servers' addresses,
and send requests as lines of JSON. So subjects can take turns, and imports are not measured.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from inspect import isawaitable
from threading import Event, Lock
from typing import Any

#: by kind (single, cluster, sentinel), the first arguments of a constructor
Servers = dict[str, list[Any]]
#: runs an operation as often as its first argument says, and may return more figures
Measure = Callable[..., Awaitable[dict[str, Any] | None] | dict[str, Any] | None]
#: prepares a measurement, with the same arguments
Prepare = Callable[..., Awaitable[None] | None]

#: number of concurrent tasks
TOGETHER = 100
#: number of threads of blocking subjects
THREADS = 8
#: s; time for a worker to run all tasks
TIMEOUT = 120


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Subject:
    """The measurements of one library, by name."""

    def __init__(self) -> None:
        self.servers: Servers = json.loads(sys.argv[1])
        #: URL of the single server
        self.url: str = self.servers["single"][0]
        #: closed at the end
        self.open = AsyncExitStack()
        self._measures: dict[str, tuple[Measure, Prepare | None]] = {}

    def can(self, name: str, measure: Measure, prepare: Prepare | None = None) -> None:
        """Add a measurement.

        Args:
            name: its name in requests.
            measure: the measured function.
            prepare: called before it, not measured.
        """
        self._measures[name] = (measure, prepare)

    async def serve(self) -> None:
        """Answer requests until the input ends."""
        self._reply(sorted(self._measures))
        while True:
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line:
                return
            asked = json.loads(line)
            self._reply(await self._answer(**asked))

    async def _answer(self, name: str, arguments: list[int], step: str) -> dict[str, Any]:
        measure, prepare = self._measures[name]
        if step == "prepare":
            await _done(prepare and prepare(*arguments))
            return {}
        began, cpu = time.perf_counter(), cpu_seconds()
        more = await _done(measure(*arguments))
        figures = {"wall": time.perf_counter() - began, "cpu": cpu_seconds() - cpu}
        return {**figures, **(more or {})}

    @staticmethod
    def _reply(what: Any) -> None:
        print(json.dumps(what), flush=True)


async def _done(what: Any) -> Any:
    return await what if isawaitable(what) else what


def run(make: Callable[[Subject], Any]) -> None:
    """Run a subject.

    Args:
        make: adds the measurements; a coroutine function if it needs the event loop.
    """

    async def main() -> None:
        # Clients have to be created on the running loop.
        subject = Subject()
        async with subject.open:
            await _done(make(subject))
            await subject.serve()

    asyncio.run(main())


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile, in seconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {"p50": ordered[last // 2], "p99": ordered[round(last * 0.99)]}


def by_threads(send: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function that divides the runs among a pool of threads."""
    threads = ThreadPoolExecutor(THREADS)

    def send_together(number: int) -> None:
        for future in [threads.submit(send, number // THREADS) for _ in range(THREADS)]:
            future.result()

    return send_together


async def together(send: Callable[[], Awaitable[Any]], number: int) -> None:
    """Await `send()` `number` times, a hundred at a time."""
    for _ in range(number // TOGETHER):
        await asyncio.gather(*(send() for _ in range(TOGETHER)))


class Countdown:
    """Count the tasks that a worker runs.

    Args:
        number: number of tasks to wait for.
    """

    def __init__(self, number: int) -> None:
        self._number, self._ran = number, 0
        self._lock, self._all_ran = Lock(), Event()
        self._began = self._ended = time.perf_counter()

    def count(self) -> int:
        """Count a task. This is all that a task does."""
        with self._lock:
            self._ran += 1
            self._ended = time.perf_counter()
            if self._ran == self._number:
                self._all_ran.set()
        return 1

    def wait(self) -> None:
        """Wait until all tasks ran. Call this outside the threads that run tasks."""
        self._all_ran.wait(TIMEOUT)

    def figures(self) -> dict[str, float]:
        """Return the time until the last task, because workers may then wait for more."""
        if self._ran != self._number:
            raise AssertionError(f"{self._ran} of {self._number} tasks ran")
        return {"wall": self._ended - self._began}


def round_trips(servers: Servers) -> dict[str, str]:
    """Return the kind of servers by name of each round trip measurement."""
    return {"round_trip" if kind == "single" else f"round_trip_{kind}": kind for kind in servers}
