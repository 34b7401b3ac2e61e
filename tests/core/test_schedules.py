"""When schedules are due, and which of them taskiq's scheduler can't work with."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st
from taskiq.cli.scheduler.run import is_cron_task_now, is_interval_task_now
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.schedules import (
    aware,
    check_schedule,
    due_ms,
    from_ms,
    interval_ms,
    is_cron_due,
    kind_of,
    minute_ms,
    next_cron,
)
from taskiq_redis.exceptions import InvalidScheduleError

UTC = timezone.utc
#: a time without a zone
NAIVE = datetime(2030, 1, 2, 3, 4)  # noqa: DTZ001
BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)


def schedule(**when: Any) -> ScheduledTask:
    return ScheduledTask(task_name="t", labels={}, args=[], kwargs={}, schedule_id="id", **when)


def cron(text: str, offset: str | timedelta | None = None) -> ScheduledTask:
    return schedule(cron=text, cron_offset=offset)


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[misc,arg-type]


def minutes_of(begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the minutes from `begin` to before `end`."""
    while begin < end:
        yield begin
        begin += MINUTE


# --- Kinds and times


@pytest.mark.parametrize(
    ("when", "kind"),
    [
        ({"cron": "* * * * *"}, "cron"),
        ({"interval": 5}, "interval"),
        ({"time": utc(2030, 1, 1)}, "once"),
        ({"cron": "* * * * *", "interval": 5}, "cron"),
        ({"cron": "* * * * *", "time": utc(2030, 1, 1)}, "cron"),
        ({"interval": 5, "time": utc(2030, 1, 1)}, "once"),
        ({"cron": "* * * * *", "interval": 5, "time": utc(2030, 1, 1)}, "cron"),
    ],
    ids=lambda when: "-".join(when) if isinstance(when, dict) else "",
)
def test_schedule_with_several_kinds_has_that_of_1_2_4(when: dict[str, Any], kind: str) -> None:
    assert kind_of(schedule(**when)) == kind


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (utc(1970, 1, 1, 0, 0, 1), 1000),
        (utc(2030, 1, 2, 3, 4, 5, 678_999), 1893553445678),
        (utc(1970, 1, 1), 1),
        (utc(1969, 12, 31, 23, 59, 59), 1),
        (datetime.min.replace(tzinfo=UTC), 1),
        (datetime.max.replace(tzinfo=UTC), 253402300799999),
        # Their times in UTC are before year 1 and after year 9999.
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), 1),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))), 253402343999999),
        (NAIVE, 1893553440000),
        (
            datetime(2030, 1, 2, 8, 34, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            1893553440000,
        ),
        (datetime(2030, 1, 2, 3, 4, 17, tzinfo=timezone(timedelta(seconds=17))), 1893553440000),
        # 2:30 occurs twice on this day.
        (datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo(BERLIN)), 1761438600000),
        (datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=ZoneInfo(BERLIN)), 1761442200000),
    ],
    ids=str,
)
def test_one_off_is_due_at_its_time_in_utc(time: datetime, expected: int) -> None:
    assert due_ms(schedule(time=time)) == expected
    check_schedule(schedule(time=time))


def test_only_one_offs_have_a_due_time() -> None:
    assert due_ms(cron("* * * * *")) == 0
    assert due_ms(schedule(interval=5)) == 0
    assert due_ms(schedule(cron="* * * * *", time=utc(2030, 1, 1))) == 0
    assert due_ms(schedule(interval=5, time=utc(1970, 1, 1, 0, 0, 1))) == 1000


def test_time_without_zone_is_in_utc() -> None:
    assert aware(NAIVE) == utc(2030, 1, 2, 3, 4)
    berlin = datetime(2030, 1, 1, tzinfo=ZoneInfo(BERLIN))
    assert aware(berlin) is berlin


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"interval": 5}, 5000),
        ({"interval": timedelta(minutes=2)}, 120_000),
        ({"cron": "* * * * *"}, 0),
    ],
    ids=str,
)
def test_interval_is_in_ms(when: dict[str, Any], expected: int) -> None:
    assert interval_ms(schedule(**when)) == expected


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_unix_times_are_exact(time: int) -> None:
    assert (from_ms(time) - utc(1970, 1, 1)) / timedelta(milliseconds=1) == time
    assert minute_ms(from_ms(time)) == time - time % 60_000


# --- Schedules that are refused

#: ways in which taskiq's scheduler would end, or log a warning each second
BAD_SCHEDULES: list[dict[str, Any]] = [
    {"cron": "*/0 * * * *"},
    {"cron": "* */0 * * *"},
    {"cron": "* * */0 * *"},
    {"cron": "* * * */0 *"},
    {"cron": "* * * * */0"},
    {"cron": "* * * * */Sun"},
    {"cron": "0 0 1,*/0 1 *"},
    {"cron": "1-5/0 * * * *"},
    {"cron": "0,1-5/0 * * * *"},
    {"cron": "*/ * * * *"},
    {"cron": "*/x * * * *"},
    {"cron": "*/1/2 * * * *"},
    {"cron": "* * * *"},
    {"cron": "* * * * * *"},
    {"cron": "*  * * * *"},
    {"cron": ""},
    {"cron": "* * * * *", "cron_offset": "America"},
    {"cron": "* * * * *", "cron_offset": "No/Such"},
    {"cron": "* * * * *", "cron_offset": "../x"},
    {"cron": "* * * * *", "cron_offset": "/etc/passwd"},
    {"cron": "* * * * *", "cron_offset": "a\0b"},
    {"cron": "* * * * *", "cron_offset": "x" * 5000},
    {"cron": "* * * * *", "cron_offset": timedelta.max},
    {"cron": "* * * * *", "cron_offset": timedelta.min},
    {"cron": "* * * * *", "interval": 10**15},
    {"interval": 10**15},
    {"interval": 10**400},
]


@pytest.mark.parametrize("when", BAD_SCHEDULES, ids=lambda when: str(when)[:60])
def test_schedule_that_would_end_the_scheduler_is_refused(when: dict[str, Any]) -> None:
    with pytest.raises(InvalidScheduleError, match=r"The schedule 'id' is refused") as caught:
        check_schedule(schedule(**when))
    # The same a second time, when the answer is cached.
    with pytest.raises(InvalidScheduleError):
        check_schedule(schedule(**when))
    assert caught.value.schedule_id == "id"
    assert caught.value.reason


@pytest.mark.parametrize(
    "when",
    [
        {"cron": "* * * * *"},
        {"cron": "*/5,7-9,10-20/2 0-23 1 */3 Mon-fri"},
        {"cron": "0 0 30 2 *"},
        {"cron": "99 * * * *"},
        {"cron": "* * * * *", "cron_offset": ""},
        {"cron": "* * * * *", "cron_offset": BERLIN},
        {"cron": "* * * * *", "cron_offset": timedelta(hours=-3, minutes=30)},
        {"interval": 1},
        {"interval": timedelta(days=10_000)},
        {"time": NAIVE},
    ],
    ids=str,
)
def test_other_schedules_are_accepted(when: dict[str, Any]) -> None:
    check_schedule(schedule(**when))


#: a part of a field of a cron expression, good or bad
PARTS = st.one_of(
    st.sampled_from(["*", "0", "1", "5", "31", "Sun", "mon", "", "x", "²", "-", "/"]),
    st.builds("*/{}".format, st.sampled_from(["0", "1", "2", "7", "x", "", "Sun", "²"])),
    st.builds("{}-{}".format, st.integers(0, 40), st.integers(0, 40)),
    st.builds("{}-{}/{}".format, st.integers(0, 40), st.integers(0, 40), st.integers(0, 3)),
)
FIELDS = st.lists(PARTS, min_size=1, max_size=3).map(",".join)
ANY_CRONS = st.lists(FIELDS, min_size=5, max_size=5).map(" ".join)
TIMES = st.integers(0, 15 * 365 * 1440).map(lambda minutes: utc(2020, 1, 1) + minutes * MINUTE)


@given(ANY_CRONS, st.lists(TIMES, min_size=10, max_size=10))
@settings(max_examples=300)
def test_accepted_cron_never_ends_the_scheduler(text: str, times: list[datetime]) -> None:
    try:
        check_schedule(cron(text))
    except InvalidScheduleError:
        return
    for time in times:
        is_cron_task_now(text, time)


def test_accepted_interval_can_be_compared_with_any_time() -> None:
    longest = timedelta.max.days * 86_400
    check_schedule(schedule(interval=longest))
    assert not is_interval_task_now(longest, utc(9999, 12, 31), utc(2020, 1, 1))


# --- The next time of a cron


@pytest.mark.parametrize(
    ("text", "offset", "after", "expected"),
    [
        ("* * * * *", None, utc(2025, 1, 1, 0, 0), utc(2025, 1, 1, 0, 1)),
        ("* * * * *", None, utc(2025, 1, 1, 0, 0, 59), utc(2025, 1, 1, 0, 1)),
        ("30 4 * * *", None, utc(2025, 1, 1, 4, 30), utc(2025, 1, 2, 4, 30)),
        ("30 4 * * *", None, utc(2025, 1, 1, 4, 29, 59), utc(2025, 1, 1, 4, 30)),
        ("0 0 29 2 *", None, utc(2025, 1, 1), utc(2028, 2, 29)),
        ("0 0 29 2 *", None, utc(2096, 3, 1), utc(2104, 2, 29)),
        ("0 0 30 2 *", None, utc(2025, 1, 1), None),
        ("0 0 31 4,6,9,11 *", None, utc(2025, 1, 1), None),
        # Never due, whatever the day or hour.
        ("99 * * * *", None, utc(2025, 1, 1), None),
        ("0 99 * * *", None, utc(2025, 1, 1), None),
        # With both days given, either one is enough.
        ("0 0 30 2 Mon", None, utc(2025, 2, 1), utc(2025, 2, 3)),
        ("0 9 * * *", BERLIN, utc(2025, 1, 1), utc(2025, 1, 1, 8)),
        ("0 9 * * *", BERLIN, utc(2025, 7, 1), utc(2025, 7, 1, 7)),
        ("0 9 * * *", timedelta(hours=2), utc(2025, 7, 1), utc(2025, 7, 1, 7)),
        ("0 9 * * *", timedelta(hours=-2), utc(2025, 7, 1), utc(2025, 7, 1, 11)),
        ("0 0 * * *", "Asia/Kathmandu", utc(2025, 7, 1), utc(2025, 7, 1, 18, 15)),
        ("0 0 1 1 *", timedelta(hours=5, minutes=45), utc(2025, 7, 1), utc(2025, 12, 31, 18, 15)),
        # Clocks go from 0:00 to 1:00 there, so there is no midnight.
        ("0 0 7 9 *", "America/Santiago", utc(2025, 9, 1), utc(2026, 9, 7, 3)),
        ("0 1 7 9 *", "America/Santiago", utc(2025, 9, 1), utc(2025, 9, 7, 4)),
        # They go from 2:00 to 2:30, and from 2:00 to 1:30.
        ("30 2 5 10 *", "Australia/Lord_Howe", utc(2025, 10, 1), utc(2025, 10, 4, 15, 30)),
        ("45 1 6 4 *", "Australia/Lord_Howe", utc(2025, 4, 5, 14, 46), utc(2025, 4, 5, 15, 15)),
    ],
    ids=str,
)
def test_next_time_of_cron(
    text: str, offset: str | timedelta | None, after: datetime, expected: datetime | None
) -> None:
    found = next_cron(cron(text, offset), after)
    assert found == expected
    assert found is None or is_cron_due(cron(text, offset), found)


def test_expression_without_five_fields_has_no_next_time() -> None:
    assert next_cron(cron("* * * *"), utc(2025, 1, 1)) is None


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # Clocks go from 2:00 to 3:00.
        (utc(2025, 3, 30), []),
        # They go from 3:00 to 2:00.
        (utc(2025, 10, 26), [utc(2025, 10, 26, 0, 30), utc(2025, 10, 26, 1, 30)]),
        (utc(2025, 7, 1), [utc(2025, 7, 1, 0, 30)]),
    ],
    ids=["spring", "autumn", "summer"],
)
def test_cron_at_a_skipped_hour_is_due_never_and_at_a_repeated_hour_twice(
    day: datetime, expected: list[datetime]
) -> None:
    text, begin, end = "30 2 * * *", day - timedelta(hours=2), day + timedelta(hours=22)
    assert [each for each in minutes_of(begin, end) if is_cron_task_now(text, each, BERLIN)] == (
        expected
    )
    found = []
    after = next_cron(cron(text, BERLIN), begin)
    while after is not None and after < end:
        found.append(after)
        after = next_cron(cron(text, BERLIN), after)
    assert found == expected


#: zones with all kinds of offsets and changes
ZONES = [
    BERLIN,
    "UTC",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
]
#: fields that match often enough to be found within a few days
MINUTES = st.sampled_from(["0", "30", "*/15", "59", "5-10", "1,45"])
HOURS = st.sampled_from(["*", "0", "1", "2", "3", "23", "*/6", "22-23", "0,12"])
DAYS = st.sampled_from(["*", "*/2", "1", "5-20", "26,30", "31"])
MONTHS = st.sampled_from(["*", "*/2", "3", "10", "2"])
WEEKDAYS = st.sampled_from(["*", "Sun", "mon-fri", "6", "*/3"])
CRONS = st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS).map(" ".join)
OFFSETS = st.one_of(
    st.none(),
    st.sampled_from(ZONES),
    st.integers(-14 * 4, 14 * 4).map(lambda quarters: timedelta(minutes=15 * quarters)),
)


def changes() -> list[datetime]:
    """Return the days in 2025 on which the clocks of a zone change, and the days around."""
    days = []
    for zone in map(ZoneInfo, ZONES):
        for number in range(364):
            day = utc(2025, 1, 1) + timedelta(days=number)
            if day.astimezone(zone).utcoffset() != (
                (day + timedelta(days=1)).astimezone(zone).utcoffset()
            ):
                days.append(day)
    return sorted({day + timedelta(days=shift) for day in days for shift in (-1, 0, 1)})


@given(CRONS, OFFSETS, st.sampled_from(changes()) | TIMES, st.integers(0, 1439))
@settings(max_examples=150, deadline=None)
def test_next_time_is_that_of_a_search_minute_by_minute(
    text: str, offset: str | timedelta | None, day: datetime, minute: int
) -> None:
    after = day + timedelta(minutes=minute)
    begin = after.replace(second=0, microsecond=0) + MINUTE
    end = begin + timedelta(days=2)
    expected = next(
        (each for each in minutes_of(begin, end) if is_cron_task_now(text, each, offset)), None
    )
    found = next_cron(cron(text, offset), after)
    if expected is None:
        assert found is None or found >= end
    else:
        assert found == expected
