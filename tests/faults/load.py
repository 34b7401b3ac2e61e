"""Load on servers that are about to fail, and what became of it."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.e2e.conftest import Clients, Start, queue_is_drained, subscribers
from tests.e2e.programs import Program
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.faults.apps import work
from tests.waiting import wait_until

#: kicks per second of each of the two producers
RATE = 60
#: s; how soon a worker is at work when Redis is there again
RESUMED = 3.0
#: numbers of tasks that the test itself sends, apart from those of producers
OWN_NUMBERS = 10_000_000
#: the process that is noted for the test itself
TEST = 0

#: lines of taskiq's log that are worth a look
WARNINGS = re.compile(r"^.*\[(?:WARNING|ERROR|CRITICAL) *\].*$", re.MULTILINE)
#: what a worker says of each of its connections once per outage
INTERRUPTED = re.compile(r"(Listening to|Renewing leases on) .* was interrupted")
RESUMED_LINE = re.compile(r"(Listening to|Renewing leases on) .* resumed after")


@dataclass
class Outcome:
    """What became of the tasks, by their numbers."""

    #: when each `kiq` returned
    sent: dict[int, float] = field(default_factory=dict)
    #: those whose `kiq` has raised
    given_up: set[int] = field(default_factory=set)
    #: when each was started
    starts: dict[int, list[float]] = field(default_factory=dict)
    #: when each came to its end for the first time
    ended: dict[int, float] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Take note of a record."""
        number, at = line.get("number", -1), line["at"]
        if line["what"] == "sent":
            self.sent[number] = at
        elif line["what"] == "given up":
            self.given_up.add(number)
        elif line["what"] == "started":
            self.starts.setdefault(number, []).append(at)
        elif line["what"] == "ended":
            self.ended.setdefault(number, at)

    @property
    def lost(self) -> set[int]:
        """Tasks that were sent and never came to their end."""
        return self.sent.keys() - self.ended.keys()

    @property
    def twice(self) -> set[int]:
        """Tasks that were started more than once."""
        return {number for number, times in self.starts.items() if len(times) > 1}

    def __str__(self) -> str:
        return (
            f"{len(self.sent)} sent, {len(self.given_up)} given up, {len(self.lost)} lost, "
            f"{len(self.twice)} run twice"
        )


class Load:
    """Producers of both worlds, each a program, that send numbered tasks all the time.

    Args:
        start: starts a program.
        records: where they record what they have sent.
        rate: tasks per second of each.
    """

    def __init__(self, start: Start, records: Records, rate: float = RATE) -> None:
        module = "tests.faults.apps.produce"
        self._programs = [
            start([sys.executable, "-m", module, world, str(rate), str(first), "2"])
            for first, world in enumerate(("async", "sync"))
        ]
        try:
            # Besides what the test itself has sent.
            wait_until(lambda: len(records.processes("sent") - {TEST}) == len(self._programs))
        except TimeoutError as error:
            logs = [program.log for program in self._programs]
            raise AssertionError(
                "\n".join(["they send nothing:", *logs, *map(str, records)])
            ) from error

    def stop(self) -> None:
        """Let them send what they have begun to send, and end."""
        for program in self._programs:
            program.send_signal(program.stop_signal)
        for program in self._programs:
            assert program.wait() == 0, program.log


@dataclass
class Scene:
    """Servers that a test breaks, and all that goes on there meanwhile."""

    servers: Any
    setting: Setting
    records: Records
    clients: Clients
    _worker: Start
    _start: Start
    workers: list[Program] = field(default_factory=list)

    def work(self, number: int = 1, slots: int = 30, **changes: Any) -> None:
        """Start workers, and wait until they listen."""
        programs = [self._worker(slots=slots, awaited=False, **changes) for _ in range(number)]
        self.workers += programs
        for program in programs:
            program.says("Listening started")
        if self.setting.mechanism == "pubsub":
            wait_until(lambda: subscribers(self.setting) == len(self.workers))

    def load(self, rate: float = RATE) -> Load:
        """Start producers."""
        return Load(self._start, self.records, rate)

    def send(self, number: int, seconds: float = 0.0) -> None:
        """Send a task from the test, of one of the worlds, and record it as producers do."""
        self.clients[number % 2].send(work.work, OWN_NUMBERS + number, seconds)
        line = {"what": "sent", "at": time.time(), "process": TEST, "number": OWN_NUMBERS + number}
        with self.records.path.open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    def outcome(self) -> Outcome:
        """Read what has become of the tasks so far."""
        made = Outcome()
        for line in self.records:
            made.add(line)
        return made

    def resumed(self, after: float) -> float:
        """Wait until a task is started after a moment, and return the seconds that it took."""

        def first() -> float | None:
            starts = (line["at"] for line in self.records.of("started"))
            return min((at for at in starts if at > after), default=None)

        return wait_until(first) - after

    def wait_for_more_tasks(self) -> None:
        """Wait until many more tasks are started."""
        before = self.records.count("started")
        wait_until(lambda: self.records.count("started") > before + 2 * RATE)

    def settled(self) -> Outcome:
        """Wait until everything is done and acknowledged, and return what became of it."""
        if self.setting.mechanism != "pubsub":
            wait_until(lambda: queue_is_drained(self.setting))
        # What is acknowledged has ended; elsewhere, the last ones may still run.
        wait_until(lambda: self.outcome().starts.keys() == self.outcome().ended.keys())
        return self.outcome()

    def stop(self) -> None:
        """End the workers, all at the same time."""
        running = [program for program in self.workers if program.process.poll() is None]
        for program in running:
            program.send_signal(program.stop_signal)
        for program in running:
            assert program.wait() == 0, program.log

    def check_workers(self, outages: int = 1, others: Sequence[str] = ()) -> None:
        """Fail if a worker has died, or has said more than when an outage begins and ends.

        Args:
            outages: how often each of its connections may have been interrupted.
            others: what it may say besides.
        """
        for program in self.workers:
            # What waits for the next try says only then that an outage is over.
            with suppress(TimeoutError):
                wait_until(partial(has_no_complaints, program, outages, others))
            assert program.process.poll() is None
            program.check_log()
            told = complaints(program.log, outages, others)
            assert not told, "\n".join([*told, program.log])


def has_no_complaints(program: Program, outages: int, others: Sequence[str]) -> bool:
    """Tell whether a worker has nothing to complain about."""
    return not complaints(program.log, outages, others)


def complaints(log: str, outages: int, others: Sequence[str]) -> list[str]:
    """Return what a worker has said beyond the beginning and the end of each outage."""
    lines = WARNINGS.findall(log)
    began = Counter(found[1] for line in lines if (found := INTERRUPTED.search(line)))
    ended = Counter(found[1] for line in lines if (found := RESUMED_LINE.search(line)))
    told = [
        line
        for line in lines
        if not INTERRUPTED.search(line)
        and not RESUMED_LINE.search(line)
        and not any(text in line for text in others)
    ]
    told += [
        f"{what}: interrupted {times} times" for what, times in began.items() if times > outages
    ]
    told += [f"{what}: no end of an outage" for what in began if began[what] != ended[what]]
    return told
