"""What a program has to do to be measured: it serves one measurement after the other.

`compare.py` and `growth.py` start each subject in the environment that it needs, with where the
servers are, and ask it by lines of JSON. So what is compared takes turns, and imports are not
measured.
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

#: by kind (single, cluster, sentinel), what tells a constructor where Redis is
Servers = dict[str, list[Any]]
#: runs something as often as its first argument says, and returns more figures, if it has any
Measure = Callable[..., Awaitable[dict[str, Any] | None] | dict[str, Any] | None]
#: gets ready for that, with the same arguments
Prepare = Callable[..., Awaitable[None] | None]

#: tasks sent, or run, at the same time
TOGETHER = 100
#: threads that do so where nothing is asynchronous
THREADS = 8
#: s; a worker that takes longer won't end any more
PATIENCE = 120


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Subject:
    """One contestant: what it can do, by the name of the measurement."""

    def __init__(self) -> None:
        self.servers: Servers = json.loads(sys.argv[1])
        #: of the single server
        self.url: str = self.servers["single"][0]
        #: what is to be closed when it ends
        self.open = AsyncExitStack()
        self._measures: dict[str, tuple[Measure, Prepare | None]] = {}

    def can(self, name: str, measure: Measure, prepare: Prepare | None = None) -> None:
        """Add a measurement.

        Args:
            name: what it is asked for by.
            measure: what is measured.
            prepare: what comes before, and isn't measured.
        """
        self._measures[name] = (measure, prepare)

    async def serve(self) -> None:
        """Answer until there are no more questions."""
        self._tell(sorted(self._measures))
        while True:
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line:
                return
            asked = json.loads(line)
            self._tell(await self._answer(**asked))

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
    def _tell(what: Any) -> None:
        print(json.dumps(what), flush=True)


async def _done(what: Any) -> Any:
    return await what if isawaitable(what) else what


def run(make: Callable[[Subject], Any]) -> None:
    """Run a subject.

    Args:
        make: adds what it can do; a coroutine function, if that needs the event loop.
    """

    async def main() -> None:
        # What connects belongs to the loop that runs.
        subject = Subject()
        async with subject.open:
            await _done(make(subject))
            await subject.serve()

    asyncio.run(main())


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of some times, in seconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {"p50": ordered[last // 2], "p99": ordered[round(last * 0.99)]}


def by_threads(send: Callable[[int], None]) -> Callable[[int], None]:
    """Return what shares the runs of a function among threads that stay."""
    threads = ThreadPoolExecutor(THREADS)

    def send_together(number: int) -> None:
        for future in [threads.submit(send, number // THREADS) for _ in range(THREADS)]:
            future.result()

    return send_together


async def together(send: Callable[[], Awaitable[Any]], number: int) -> None:
    """Await something `number` times, a hundred at the same time."""
    for _ in range(number // TOGETHER):
        await asyncio.gather(*(send() for _ in range(TOGETHER)))


class Countdown:
    """Counts the tasks that a worker runs.

    Args:
        number: how many there are.
    """

    def __init__(self, number: int) -> None:
        self._number, self._ran = number, 0
        self._lock, self._all_ran = Lock(), Event()
        self._began = self._ended = time.perf_counter()

    def count(self) -> int:
        """Do what a task does, which is no more than this."""
        with self._lock:
            self._ran += 1
            self._ended = time.perf_counter()
            if self._ran == self._number:
                self._all_ran.set()
        return 1

    def wait(self) -> None:
        """Wait in another thread than those of the tasks."""
        self._all_ran.wait(PATIENCE)

    def figures(self) -> dict[str, float]:
        """Return how long it took until the last one: workers may end by waiting for more."""
        if self._ran != self._number:
            raise AssertionError(f"{self._ran} of {self._number} were run")
        return {"wall": self._ended - self._began}


def round_trips(servers: Servers) -> dict[str, str]:
    """Return the names of the measurements of round trips, and on what kind of servers each is."""
    return {"round_trip" if kind == "single" else f"round_trip_{kind}": kind for kind in servers}
