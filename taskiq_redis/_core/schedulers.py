"""Registrations of schedulers: what they write, and what `schedulers()` of a source returns."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import FrameType

from taskiq_redis._core.schedules import from_ms
from taskiq_redis._core.wire import text_pairs

#: number of intervals without a registration after which a scheduler counts as gone
MISSED = 3
#: module of taskiq's scheduler
SCHEDULER = "taskiq.cli.scheduler.run"
#: number of calls between that and a schedule source: methods of subclasses and wrappers
DEPTH = 32


@dataclass(frozen=True)
class SchedulerStats:
    """A process that reads a schedule source to send what is due.

    Args:
        name: a unique name.
        interval: s; how often it registers. A source with a key per schedule registers when
            taskiq's scheduler reads it, at its ``--update-interval``.
        age: s; time since it registered last.
        started: when it began, by the server's clock; None if that is unreadable.
        pid: ID of its process.
        version: its version of taskiq-redis.
        host: name of its host.
    """

    name: str
    interval: float
    age: float
    started: datetime | None
    pid: int
    version: str
    host: str

    @property
    def is_alive(self) -> bool:
        """Whether it has registered within the last three of its intervals."""
        return self.age < MISSED * self.interval


def parse_schedulers(now: int, fields: Sequence[bytes | str]) -> list[SchedulerStats]:
    """Parse the reply of ``read_schedulers.lua``, and leave out what isn't a registration.

    Args:
        now: ms; Unix time of the server.
        fields: fields and values of the hash, in turn.
    """
    parsed = [_parse(now, *pair) for pair in text_pairs(fields)]
    return sorted((each for each in parsed if each is not None), key=lambda each: each.name)


def _parse(now: int, name: str, value: str) -> SchedulerStats | None:
    try:
        interval, seen, started, pid, its_version, host = value.split(" ", 5)
        return SchedulerStats(
            name=name,
            interval=int(interval) / 1000,
            age=max(0, now - int(seen)) / 1000,
            started=_time(int(started)),
            pid=int(pid),
            version=its_version,
            host=host,
        )
    # The latter for numbers with hundreds of digits.
    except (ValueError, OverflowError):
        return None


def _time(unix_ms: int) -> datetime | None:
    try:
        return from_ms(unix_ms)
    except (ValueError, OverflowError, OSError):
        return None


def is_scheduler_calling() -> bool:
    """Return whether taskiq's scheduler has called the function that calls this one."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(DEPTH):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == SCHEDULER:
            return True
        frame = frame.f_back
    return False
