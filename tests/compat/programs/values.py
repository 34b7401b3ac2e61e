"""Values that both versions exchange: results, arguments, labels, schedules."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

INDIA = timezone(timedelta(hours=5, minutes=30))
INSTANT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


class Custom(Exception):  # noqa: N818 - as a user may call it
    """An error of a user's program."""


#: return values and errors of tasks
OUTCOMES: dict[str, dict[str, Any]] = {
    "none": {"return_value": None},
    "int": {"return_value": 42, "log": "some log", "labels": {"a": "1"}},
    "str": {"return_value": "ü☃"},
    "large": {"return_value": 2**70},
    "dict": {"return_value": {"a": [1, 2.5, None, True], "ü": {}}},
    "set": {"return_value": {1}},
    "datetime": {"return_value": INSTANT},
    "decimal": {"return_value": Decimal("1.10")},
    "bytes": {"return_value": b"abc"},
    "binary": {"return_value": b"\xff\x00"},
    "object": {"return_value": object()},
    "error": {"error": ValueError("bad", 42)},
    "custom error": {"error": Custom("boom")},
}

#: arguments and labels of a task
ARGUMENTS: list[Any] = [1, "ü", None]
KEYWORDS: dict[str, Any] = {"k": [INSTANT, 1.5, {"a": True}]}
LABELS: dict[str, Any] = {"priority": 5, "ratio": 1.5, "flag": True, "blob": b"\x00\xff"}


def schedules(past: datetime) -> dict[str, dict[str, Any]]:
    """Return the arguments of schedules by id; one-offs were due at `past`."""
    return {
        "cron": {"cron": "*/5 * * * *"},
        "cron-delta": {"cron": "0 1 * * *", "cron_offset": timedelta(hours=3)},
        "cron-zone": {"cron": "0 1 * * *", "cron_offset": "Europe/Berlin", "task_id": "fixed"},
        "interval": {"interval": 30},
        "interval-delta": {"interval": timedelta(minutes=2)},
        "time": {"time": past},
        "time-naive": {"time": past.replace(tzinfo=None)},
        "time-india": {"time": past.astimezone(INDIA)},
    }
