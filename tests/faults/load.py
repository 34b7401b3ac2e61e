"""Load on servers under faults, and its outcome."""

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
#: s; guards against workers that don't reconnect by themselves; most take less than one
RESUMED = 30.0
#: first number of tasks that the test itself sends, above those of producers
OWN_NUMBERS = 10_000_000
#: process ID in records of the test itself
TEST = 0

#: warnings and errors in taskiq's log
WARNINGS = re.compile(r"^.*\[(?:WARNING|ERROR|CRITICAL) *\].*$", re.MULTILINE)
#: log lines of a worker, once per connection and outage
INTERRUPTED = re.compile(r"(Listening to|Renewing leases on) .* was interrupted")
RESUMED_LINE = re.compile(r"(Listening to|Renewing leases on) .* resumed after")


@dataclass
class Outcome:
    """The outcome of the tasks, by their numbers."""

    #: when each `kiq` returned
    sent: dict[int, float] = field(default_factory=dict)
    #: tasks whose `kiq` raised
    given_up: set[int] = field(default_factory=set)
    #: times at which each started
    starts: dict[int, list[float]] = field(default_factory=dict)
    #: time at which each ended first
    ended: dict[int, float] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Add a record."""
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
        """Return tasks that were sent and never ended."""
        return self.sent.keys() - self.ended.keys()

    @property
    def twice(self) -> set[int]:
        """Return tasks that started more than once."""
        return {number for number, times in self.starts.items() if len(times) > 1}

    def __str__(self) -> str:
        return (
            f"{len(self.sent)} sent, {len(self.given_up)} given up, {len(self.lost)} lost, "
            f"{len(self.twice)} run twice"
        )


class Load:
    """An async and a blocking producer program that send numbered tasks continuously.

    Args:
        start: function that starts a program.
        records: records of the programs.
        rate: tasks per second of each producer.
    """

    def __init__(self, start: Start, records: Records, rate: float = RATE) -> None:
        module = "tests.faults.apps.produce"
        self._programs = [
            start([sys.executable, "-m", module, twin, str(rate), str(first), "2"])
            for first, twin in enumerate(("async", "sync"))
        ]
        try:
            # Don't count tasks that the test itself has sent.
            wait_until(lambda: len(records.processes("sent") - {TEST}) == len(self._programs))
        except TimeoutError as error:
            logs = [program.log for program in self._programs]
            raise AssertionError(
                "\n".join(["the producers send nothing:", *logs, *map(str, records)])
            ) from error

    def stop(self) -> None:
        """Stop the producers, which finish their calls first."""
        for program in self._programs:
            program.send_signal(program.stop_signal)
        for program in self._programs:
            assert program.wait() == 0, program.log


@dataclass
class Deployment:
    """Servers that a test breaks, with workers and producers."""

    servers: Any
    setting: Setting
    records: Records
    clients: Clients
    _worker: Start
    _start: Start
    workers: list[Program] = field(default_factory=list)

    def start_workers(self, number: int = 1, slots: int = 30, **changes: Any) -> None:
        """Start workers, and wait until they listen."""
        programs = [self._worker(slots=slots, awaited=False, **changes) for _ in range(number)]
        self.workers += programs
        for program in programs:
            program.says("Listening started")
        if self.setting.mechanism == "pubsub":
            wait_until(lambda: subscribers(self.setting) == len(self.workers))

    def start_load(self, rate: float = RATE) -> Load:
        """Start producers."""
        return Load(self._start, self.records, rate)

    def send(self, number: int, seconds: float = 0.0) -> None:
        """Send a task from the test with one of the clients, and record it as producers do."""
        self.clients[number % 2].send(work.work, OWN_NUMBERS + number, seconds)
        line = {"what": "sent", "at": time.time(), "process": TEST, "number": OWN_NUMBERS + number}
        with self.records.path.open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    def outcome(self) -> Outcome:
        """Return the outcome of the tasks so far."""
        outcome = Outcome()
        for line in self.records:
            outcome.add(line)
        return outcome

    def seconds_until_next_start(self, after: float) -> float:
        """Wait for a task that starts later than `after`, a Unix time; return the seconds in between."""

        def first() -> float | None:
            starts = (line["at"] for line in self.records.of("started"))
            return min((at for at in starts if at > after), default=None)

        return wait_until(first, timeout=RESUMED, what="a task after the fault") - after

    def wait_for_more_tasks(self) -> None:
        """Wait until many more tasks have started."""
        before = self.records.count("started")
        wait_until(lambda: self.records.count("started") > before + 2 * RATE)

    def wait_until_done(self) -> Outcome:
        """Wait until all tasks have ended and are acknowledged, and return the outcome."""
        if self.setting.mechanism != "pubsub":
            wait_until(lambda: queue_is_drained(self.setting))
        # Acknowledged tasks have ended; on lists and pub/sub, the last ones may still run.
        wait_until(lambda: self.outcome().starts.keys() == self.outcome().ended.keys())
        return self.outcome()

    def stop(self) -> None:
        """Stop all workers at the same time."""
        running = [program for program in self.workers if program.process.poll() is None]
        for program in running:
            program.send_signal(program.stop_signal)
        for program in running:
            assert program.wait() == 0, program.log

    def check_workers(self, outages: int = 1, others: Sequence[str] = ()) -> None:
        """Fail if a worker has died, or has logged more than the start and end of outages.

        Args:
            outages: maximum number of interruptions of each connection.
            others: parts of other permitted log lines.
        """
        for program in self.workers:
            # The end of an outage is logged only after the next attempt.
            with suppress(TimeoutError):
                wait_until(partial(log_is_clean, program, outages, others))
            assert program.process.poll() is None
            program.check_log()
            found = unexpected_lines(program.log, outages, others)
            assert not found, "\n".join([*found, program.log])


def log_is_clean(program: Program, outages: int, others: Sequence[str]) -> bool:
    """Return whether a worker's log has no unexpected lines."""
    return not unexpected_lines(program.log, outages, others)


def unexpected_lines(log: str, outages: int, others: Sequence[str]) -> list[str]:
    """Return the warnings of a worker other than the start and end of each outage."""
    lines = WARNINGS.findall(log)
    began = Counter(match[1] for line in lines if (match := INTERRUPTED.search(line)))
    ended = Counter(match[1] for line in lines if (match := RESUMED_LINE.search(line)))
    found = [
        line
        for line in lines
        if not INTERRUPTED.search(line)
        and not RESUMED_LINE.search(line)
        and not any(text in line for text in others)
    ]
    found += [
        f"{what}: interrupted {times} times" for what, times in began.items() if times > outages
    ]
    found += [f"{what}: no end of an outage" for what in began if began[what] != ended[what]]
    return found
