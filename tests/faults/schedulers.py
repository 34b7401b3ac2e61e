"""Schedulers under faults, and what they have sent, as counted outside Redis."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.serializers import PickleSerializer

from tests.e2e.conftest import Start
from tests.e2e.programs import Program, taskiq
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import client_of
from tests.waiting import wait_until

#: s; the interval of interval schedules
INTERVAL = 3
#: s; how much shorter than its interval a period may be: the scheduler ticks once a second
TOLERANCE = 0.6
#: s; how long before and after a fault the process may have sent without confirming it
AROUND_FAULT = 2.0
#: maximum number of schedules between claim and confirmation, per scheduler
IN_FLIGHT = 50
#: number of schedules that are added at once
TOGETHER = 50


@dataclass(frozen=True)
class Firing:
    """One firing of a schedule.

    Args:
        at: Unix time.
        process: process ID of the scheduler.
    """

    at: float
    process: int


@dataclass(frozen=True)
class Fault:
    """The time at which a scheduler was killed, paused or resumed."""

    at: float
    process: int

    def may_repeat(self, firing: Firing) -> bool:
        """Return whether the scheduler may have sent this without confirming it."""
        return firing.process == self.process and abs(firing.at - self.at) <= AROUND_FAULT


@dataclass
class Outcome:
    """What was wrong with the firings of a run."""

    #: one-offs that were not sent, and minutes and periods without a firing
    lost: list[str] = field(default_factory=list)
    #: one-offs that were sent before they were due
    early: list[str] = field(default_factory=list)
    #: each firing too many, with all firings in question
    twice: list[tuple[str, list[Firing]]] = field(default_factory=list)
    #: number of firings of an interval, and the number of whole intervals in the run
    intervals: dict[str, tuple[int, float]] = field(default_factory=dict)

    def unexplained(self, faults: Sequence[Fault]) -> list[str]:
        """Return what was sent twice, though no fault fell between sending and confirmation."""
        return [
            what
            for what, firings in self.twice
            if not any(fault.may_repeat(firing) for fault in faults for firing in firings)
        ]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {n} of {of:.1f}" for name, (n, of) in self.intervals.items())
        return (
            f"{len(self.lost)} lost, {len(self.early)} early, {len(self.twice)} twice, "
            f"intervals: {counts}"
        )


def task(schedule_id: str, **when: Any) -> ScheduledTask:
    """Return a schedule by `cron`, `interval`, or `after`: seconds from now."""
    if "after" in when:
        when["time"] = datetime.now(timezone.utc) + timedelta(seconds=when.pop("after"))
    return ScheduledTask(
        task_name="work", labels={}, args=[], kwargs={}, schedule_id=schedule_id, **when
    )


def due(schedule: ScheduledTask) -> float:
    """Return the Unix time at which a one-off is due."""
    assert schedule.time is not None
    return schedule.time.timestamp()


def plan(seconds: float, one_offs: int = 50) -> list[ScheduledTask]:
    """Return schedules of all kinds, with one-offs that are due over a span from now on."""
    crons = [task(f"cron-{number}", cron="* * * * *") for number in range(3)]
    intervals = [task(f"interval-{number}", interval=INTERVAL) for number in range(2)]
    dues = [2 + (seconds - 2) * number / one_offs for number in range(one_offs)]
    once = [task(f"once-{number}", after=after) for number, after in enumerate(dues)]
    return [*crons, *intervals, task("hourly", interval=3600), *once]


def avoid_end_of_minute() -> None:
    """Sleep until a scheduler that starts now won't send a cron just before its next minute."""
    left = 60 - time.time() % 60
    if left < 12:
        time.sleep(left + 0.1)


@dataclass
class Schedulers:
    """Schedulers, and the source that they read.

    Args:
        setting: setting of the test.
        records: records of the schedulers.
        start: function that starts a program.
    """

    setting: Setting
    records: Records
    start: Start
    programs: list[Program] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Return the kind of the source."""
        kind: str = self.setting.extras.get("source", "indexed")
        return kind

    # --- The source

    def add(self, *schedules: ScheduledTask) -> None:
        """Add schedules."""

        async def add_all(source: Any) -> None:
            for begin in range(0, len(schedules), TOGETHER):
                chunk = schedules[begin : begin + TOGETHER]
                await asyncio.gather(*map(source.add_schedule, chunk))

        self._with_source(add_all)

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule."""
        self._with_source(lambda source: source.delete_schedule(schedule_id))

    def left(self) -> set[str]:
        """Return the IDs of all stored schedules."""
        found = self._with_source(lambda source: source.get_all_schedules())
        return {schedule.schedule_id for schedule in found}

    def _with_source(self, use: Any) -> Any:
        async def run() -> Any:
            source = self.setting.source(self.kind)
            try:
                return await use(source)
            finally:
                await source.shutdown()

        return asyncio.run(run())

    def write_raw(self, schedule: ScheduledTask, data: bytes | None = None) -> None:
        """Write a schedule as 1.2.4 does, without any check."""
        if data is None:
            data = PickleSerializer().dumpb(schedule.model_dump(mode="json"))
        prefix, client = f"{{{self.setting.name}}}:{self.kind}", client_of(self.setting.topology)
        if self.kind == "keys":
            client.set(f"{prefix}:{schedule.schedule_id}", data)
            return
        client.set(f"{prefix}:data:{schedule.schedule_id}", data)
        names = {"cron": schedule.cron, "interval": schedule.interval}
        kind = next((name for name, value in names.items() if value is not None), None)
        if kind is None:
            assert schedule.time is not None
            minute = schedule.time.astimezone(timezone.utc)
            kind = f"time:{minute:%Y-%m-%dT%H:%M}"
        client.rpush(f"{prefix}:{kind}", schedule.schedule_id)

    # --- The schedulers

    def run(self, number: int = 1, *arguments: str, **extras: Any) -> None:
        """Start schedulers, and wait until they are ready."""
        programs = [self.launch(*arguments, **extras) for _ in range(number)]
        self.programs += programs
        for program in programs:
            program.says("Startup completed.")

    def launch(self, *arguments: str, **extras: Any) -> Program:
        """Start a scheduler that isn't one of `programs`."""
        command = taskiq("scheduler", "tests.faults.apps.schedules:scheduler", *arguments)
        changes = {"options": self.setting.options, "extras": {**self.setting.extras, **extras}}
        program = self.start(command, **changes)
        # The scheduler handles no other signal.
        program.stop_signal = SIGINT
        if sys.version_info < (3, 11):
            # Before 3.11, asyncio raises KeyboardInterrupt at any point of the running code.
            program.proper_end, program.ends_in_order = -SIGINT, False
        return program

    def kill(self, index: int = 0, how: int = SIGKILL) -> None:
        """Kill a scheduler and don't start it again."""
        program = self.programs.pop(index)
        self.faults.append(Fault(time.time(), program.process.pid))
        assert how in {SIGKILL, SIGTERM}
        program.process.send_signal(how)
        # On SIGTERM, taskiq's scheduler just ends.
        assert program.process.wait(30) == -how, program.log

    def kill_and_restart(self, index: int = 0, how: int = SIGKILL) -> None:
        """Kill a scheduler, and start a new one."""
        self.kill(index, how)
        self.run()

    def pause(self, seconds: float) -> None:
        """Pause the first scheduler for some time."""
        program = self.programs[0]
        program.send_signal(SIGSTOP)
        self.faults.append(Fault(time.time(), program.process.pid))
        time.sleep(seconds)
        self.faults.append(Fault(time.time(), program.process.pid))
        program.send_signal(SIGCONT)

    def check_running(self) -> None:
        """Fail if a scheduler has ended."""
        for program in self.programs:
            assert program.process.poll() is None, program.log

    # --- Firings

    def firings(self) -> dict[str, list[Firing]]:
        """Return the firings of each schedule, in order of time."""
        found: dict[str, list[Firing]] = defaultdict(list)
        for line in self.records.of("fired"):
            found[line["id"]].append(Firing(line["at"], line["process"]))
        for firings in found.values():
            firings.sort(key=lambda firing: firing.at)
        return found

    def times(self, schedule_id: str) -> list[float]:
        """Return the times at which a schedule fired."""
        return [firing.at for firing in self.firings()[schedule_id]]

    def wait_for(self, schedule_ids: Iterable[str], timeout: float = 90) -> None:
        """Wait until each of these schedules has fired."""
        wanted = set(schedule_ids)

        def all_fired() -> bool:
            self.check_running()
            return wanted <= self.firings().keys()

        try:
            wait_until(all_fired, timeout=timeout, interval=0.1)
        except TimeoutError:
            missing = sorted(wanted - self.firings().keys())
            logs = [program.log[-3000:] for program in self.programs]
            raise AssertionError(
                "\n".join([f"{len(missing)} never fired: {missing[:20]}", *logs])
            ) from None

    def wait_for_more(self, schedule_id: str, number: int = 1) -> None:
        """Wait until a schedule has fired this many times more."""
        before = len(self.times(schedule_id))
        wait_until(
            lambda: len(self.times(schedule_id)) >= before + number,
            interval=0.05,
            what=f"{number} more firings of {schedule_id}",
        )

    def settle(self, schedules: Sequence[ScheduledTask]) -> float:
        """Wait until all one-offs and something after them fired; return the time."""
        self.wait_for(each.schedule_id for each in schedules if each.time is not None)
        # So long any further scheduler needs to send something twice.
        self.wait_for_more("interval-0")
        return time.time()

    def outcome(
        self, schedules: Sequence[ScheduledTask], began: float, ended: float, gap: float
    ) -> Outcome:
        """Compare the firings with the schedules.

        Args:
            schedules: the schedules.
            began: time from which schedulers were ready.
            ended: time until which they ran.
            gap: s; longest allowed period of an interval of 3 s.
        """
        made, fired = Outcome(), self.firings()
        for each in schedules:
            firings = fired.get(each.schedule_id, [])
            if each.cron is not None:
                _check_cron(made, each.schedule_id, firings, began, ended)
            elif each.interval is not None:
                seconds = float(each.interval if isinstance(each.interval, int) else 0)
                _check_interval(made, each.schedule_id, firings, (seconds, gap), ended)
            else:
                _check_one_off(made, each, firings)
        return made


def _check_one_off(made: Outcome, schedule: ScheduledTask, firings: list[Firing]) -> None:
    name = schedule.schedule_id
    if not firings:
        made.lost.append(name)
        return
    # Due times are kept in milliseconds.
    if firings[0].at < due(schedule) - 0.01:
        made.early.append(name)
    made.twice += [(name, firings)] * (len(firings) - 1)


def _check_cron(
    made: Outcome, name: str, firings: list[Firing], began: float, ended: float
) -> None:
    """Check that a cron fired once in each minute."""
    minutes: dict[int, list[Firing]] = defaultdict(list)
    for firing in firings:
        minutes[int(firing.at // 60)].append(firing)
    for number, each in minutes.items():
        made.twice += [(f"{name} at {number}", each)] * (len(each) - 1)
    # taskiq's scheduler fires a cron at the second of the minute in which it was started, so the
    # last minute may be without, and one in which schedulers were ready just before its end.
    needed = range(int((began + 3) // 60), int((ended - 60) // 60) + 1)
    made.lost += [f"{name} at {number}" for number in needed if number not in minutes]


def _check_interval(
    made: Outcome,
    name: str,
    firings: list[Firing],
    limits: tuple[float, float],
    ended: float,
) -> None:
    """Check the periods of an interval schedule."""
    seconds, gap = limits
    if not firings:
        made.lost.append(name)
        return
    made.intervals[name] = (len(firings), (ended - firings[0].at) / seconds)
    for before, after in pairwise(firings):
        period = after.at - before.at
        if period < seconds - TOLERANCE:
            made.twice.append((f"{name} after {period:.2f} s", [before, after]))
        elif seconds == INTERVAL and period > gap:
            made.lost.append(f"{name} for {period:.2f} s")
    if seconds == INTERVAL and ended - firings[-1].at > gap:
        made.lost.append(f"{name} in the end")
