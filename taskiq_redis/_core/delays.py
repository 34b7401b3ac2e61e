"""Which message is sent later, and how it waits."""

import secrets
from collections.abc import Mapping
from typing import Any

from taskiq_redis.exceptions import InvalidOptionError

#: bytes in front of a message that waits: the members of a sorted set have to be unique
UNIQUE_BYTES = 16
#: s; nothing waits longer, which is some three hundred years
LONGEST = 1e10
#: the label that says for how many seconds a message waits
DELAY = "delay"
#: the label that says that this was said for one send, and isn't a setting of the task
DELAYED = "_delayed"
#: the label by which taskiq's retry middlewares count
RETRIES = "_retries"


def check_delay(seconds: float) -> float:
    """Refuse what is no time to wait.

    Args:
        seconds: how long a message is to wait.
    """
    given: object = seconds
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= seconds <= LONGEST:
        raise InvalidOptionError(
            option="delay",
            problem=f"a task can't wait for {seconds!r} seconds",
            advice="Give a number that isn't negative, nor beyond all measure.",
        )
    return seconds


def delay_labels(seconds: float) -> dict[str, float]:
    """Return the labels of a message that waits.

    Args:
        seconds: for how long.
    """
    return {DELAY: check_delay(seconds), DELAYED: True}


#: by the names of tasks, the delays that they declare. A task may be sent by another broker than
#: the one that knows it.
_declared: dict[str, Any] = {}


def note_declared(task_name: str, labels: Mapping[str, Any]) -> None:
    """Take note of the delay that a task declares, if it does.

    Args:
        task_name: its name.
        labels: its labels.
    """
    if DELAY in labels:
        _declared[task_name] = labels[DELAY]


def delay_of(task_name: str, labels: Mapping[str, Any]) -> float:
    """Return for how many seconds a message has to wait; 0 if it hasn't.

    A label that the task itself declares is a setting of taskiq's retry middleware: it delays
    retries, and not the first send.

    Args:
        task_name: the name of its task.
        labels: those of the message; they travel as text.
    """
    if DELAY not in labels:
        return 0.0
    delay = _number(labels[DELAY])
    if delay is None or not 0 < delay <= LONGEST:
        return 0.0
    if DELAYED in labels or (_number(labels.get(RETRIES)) or 0) > 0:
        return delay
    return 0.0 if delay == _number(_declared.get(task_name)) else delay


def make_unique(data: bytes) -> bytes:
    """Return a message as it waits in a sorted set."""
    return secrets.token_hex(UNIQUE_BYTES // 2).encode() + data


def _number(value: Any) -> float | None:
    """Return a number that a label holds; other labels of that name are none of our business."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
