"""When schedules are due, and whether taskiq can work with them."""

from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from taskiq.cli.scheduler.run import (
    CronValueError,
    is_cron_task_now,
    is_interval_task_now,
    is_time_task_now,
)
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.texts import describe_error, one_line, quote
from taskiq_redis.exceptions import InvalidScheduleError

Kind = Literal["cron", "interval", "once"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
_MINUTE = timedelta(minutes=1)
#: how far `next_cron` looks ahead; 29 February can be eight years away
_LONGEST_WAIT = timedelta(days=9 * 366)
#: longest offset of a cron expression from UTC
_LONGEST_OFFSET = timedelta(days=1)
#: maximum length of a cron expression and its offset. One that lists every minute, hour and day has
#: 350 characters.
_LONGEST_CRON = 1000
#: number of fields of a cron expression
_CRON_FIELDS = 5


def kind_of(schedule: ScheduledTask) -> Kind:
    """Return the kind of a schedule; one with several is of the kind that 1.2.4 makes of it."""
    if schedule.cron is not None:
        return "cron"
    return "interval" if schedule.time is None else "once"


def due_ms(schedule: ScheduledTask) -> int:
    """Return the Unix time in ms when a one-off schedule is due, or 0 for any other.

    Times before 1970 count as 1.
    """
    if kind_of(schedule) != "once" or schedule.time is None:
        return 0
    return max(1, (aware(schedule.time) - _EPOCH) // _MS)


def aware(time: datetime) -> datetime:
    """Return a time with a time zone: UTC, as in taskiq, if it has none."""
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time


def interval_ms(schedule: ScheduledTask) -> int:
    """Return the interval of a schedule in ms; 0 if it has none."""
    interval = schedule.interval
    if isinstance(interval, timedelta):
        return interval // _MS
    return (interval or 0) * 1000


def minute_ms(time: datetime) -> int:
    """Return the Unix time in ms when the minute of a time begins."""
    return (time - _EPOCH) // _MINUTE * 60_000


def from_ms(time: int) -> datetime:
    """Return the time of a Unix time in ms, in UTC."""
    return _EPOCH + time * _MS


def check_schedule(schedule: ScheduledTask) -> None:
    """Check that taskiq's scheduler can decide when a schedule is due.

    An exception there would end the scheduler.

    Raises:
        InvalidScheduleError: it can't.
    """
    now = datetime.now(timezone.utc)
    if schedule.cron is not None:
        offset = schedule.cron_offset
        # Not in the cached function, which would keep the text.
        if len(schedule.cron) + len(str(offset or "")) > _LONGEST_CRON:
            reason: str | None = f"they are longer than {_LONGEST_CRON} characters"
        else:
            reason = _problem_of_cron(schedule.cron, offset)
        if reason:
            raise InvalidScheduleError(
                schedule_id=schedule.schedule_id,
                field=f"cron {quote(schedule.cron)} with cron_offset {quote(schedule.cron_offset)}",
                reason=reason,
            )
    try:
        if schedule.interval is not None:
            is_interval_task_now(schedule.interval, now, now)
        if schedule.time is not None:
            is_time_task_now(schedule.time, now)
    except Exception as error:
        raise InvalidScheduleError(
            schedule_id=schedule.schedule_id,
            field=f"interval {quote(schedule.interval)} or time {schedule.time!r}",
            reason=describe_error(error),
        ) from error


def is_cron_due(schedule: ScheduledTask, now: datetime) -> bool:
    """Return whether a cron schedule is due in the minute of a time."""
    return schedule.cron is not None and is_cron_task_now(schedule.cron, now, schedule.cron_offset)


@lru_cache(maxsize=1024)
def _problem_of_cron(cron: str, offset: str | timedelta | None) -> str | None:
    """Return what is wrong with a cron expression or its offset, or None."""
    now = datetime.now(timezone.utc)
    if isinstance(offset, timedelta) and abs(offset) > _LONGEST_OFFSET:
        return f"the offset {offset} is longer than a day"
    try:
        is_cron_task_now(cron, now, offset)
        fields = cron.split(" ")
        # One part at a time: pycron doesn't look at the parts after one that matches.
        for place, field in enumerate(fields):
            for part in field.split(","):
                others = ["*"] * len(fields)
                others[place] = part
                is_cron_task_now(" ".join(others), now)
    except CronValueError as error:
        return one_line(str(error))
    except Exception as error:  # noqa: BLE001 - such as ZeroDivisionError, which ends schedulers
        return describe_error(error)
    return None


def next_cron(schedule: ScheduledTask, after: datetime) -> datetime | None:
    """Return the start of the first minute after a time in which a cron schedule is due.

    Args:
        schedule: the schedule.
        after: the time, in UTC.

    Returns:
        The time in UTC, or None if there is none in the next nine years.
    """
    minute = after.replace(second=0, microsecond=0) + _MINUTE
    last = minute + _LONGEST_WAIT
    fields = (schedule.cron or "").split(" ")
    if len(fields) != _CRON_FIELDS:
        return None
    if not any(
        is_cron_task_now(f"{fields[0]} * * * *", after + _MINUTE * number) for number in range(60)
    ):
        return None
    days = " ".join(["*", "*", *fields[2:]])
    hours = " ".join(["*", fields[1], *fields[2:]])
    offset = schedule.cron_offset
    while minute < last:
        local = _local(minute, offset)
        if not is_cron_task_now(days, minute, offset):
            minute = max(_next_day(local, minute), minute + _MINUTE)
        elif not is_cron_task_now(hours, minute, offset):
            minute += timedelta(minutes=60 - local.minute)
        elif not is_cron_due(schedule, minute):
            minute += _MINUTE
        else:
            return minute
    return None


def _local(time: datetime, offset: str | timedelta | None) -> datetime:
    """Return the time that a cron expression with this offset is compared with."""
    if isinstance(offset, timedelta):
        return time + offset
    return time.astimezone(ZoneInfo(offset)) if offset else time


def _next_day(local: datetime, time: datetime) -> datetime:
    """Return when the day after a local time begins, in UTC."""
    zone: tzinfo | None = local.tzinfo
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), zone)
    if zone is timezone.utc:
        # Shifted by a fixed offset, or not at all.
        return time + (midnight - local)
    return midnight.astimezone(timezone.utc).replace(second=0, microsecond=0)
