"""Delayed messages: their labels, and how they are stored."""

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import NoPermissionError

from taskiq_redis._core.redaction import shown
from taskiq_redis.exceptions import CommandRefusedError, InvalidOptionError

#: length of the random prefix of a delayed message: members of a sorted set have to be unique
UNIQUE_BYTES = 16
#: s; longest delay, about 300 years
MAX_DELAY = 1e10
#: label with the delay in seconds
DELAY_LABEL = "delay"
#: label of a message whose delay was set by `with_delay`, not in the declaration of its task
DELAYED_LABEL = "_delayed"
#: label in which taskiq's retry middlewares count the retries
RETRIES_LABEL = "_retries"


def check_delay(seconds: float) -> float:
    """Return a delay, or raise `InvalidOptionError`.

    Args:
        seconds: the delay.
    """
    value: object = seconds
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= seconds <= MAX_DELAY:
        raise InvalidOptionError(
            option="delay",
            problem=f"{shown(value)} is not a delay in seconds",
            advice=(
                f"Give a number from 0 to {MAX_DELAY:,.0f}; `total_seconds()` returns that of a "
                "timedelta."
            ),
        )
    return seconds


def delay_labels(seconds: float) -> dict[str, float]:
    """Return the labels of a delayed message.

    Args:
        seconds: the delay.
    """
    return {DELAY_LABEL: check_delay(seconds), DELAYED_LABEL: True}


#: values of the label `delay` in task declarations, by task name. It is global because any broker
#: may send a task, not only the one that declares it.
_declared_delays: dict[str, Any] = {}
#: functions that return the labels in a declaration that isn't recorded, given the task's name
declarations: list[Callable[[str], Mapping[str, Any] | None]] = []


def record_declared_delay(task_name: str, labels: Mapping[str, Any]) -> None:
    """Record the label `delay` of a declared task, if it has one.

    Args:
        task_name: name of the task.
        labels: labels in its declaration.
    """
    if DELAY_LABEL in labels:
        _declared_delays[task_name] = labels[DELAY_LABEL]


def delay_of(task_name: str, labels: Mapping[str, Any]) -> float:
    """Return the delay of a message in seconds; 0 for none.

    A label `delay` in the declaration of a task is a setting of taskiq's retry middleware: it
    delays retries, not the first send.

    Args:
        task_name: name of the task.
        labels: labels of the message; their values are text.

    Raises:
        InvalidOptionError: the label is not a delay.
    """
    text = labels.get(DELAY_LABEL)
    # taskiq turns the label None into text.
    if text is None or text == "None":
        return 0.0
    delay, is_retry = _number(text), (_number(labels.get(RETRIES_LABEL)) or 0) > 0
    if delay is None or not 0 <= delay <= MAX_DELAY:
        if is_retry:
            # It was sent with this label, by 1.2.4 perhaps. Refusing it would lose the retry.
            return 0.0
        delay = check_delay(text if delay is None else delay)
    if DELAYED_LABEL in labels or is_retry:
        return delay
    return 0.0 if delay == _number(_declared_delay(task_name)) else delay


def _declared_delay(task_name: str) -> Any:
    if task_name in _declared_delays:
        return _declared_delays[task_name]
    found = (find(task_name) for find in declarations)
    return next((labels.get(DELAY_LABEL) for labels in found if labels is not None), None)


def forbids_scripts(refusal: CommandRefusedError) -> bool:
    """Return whether the server has no scripts, or not for this user."""
    return re.search(r"\beval(sha)?\b", str(refusal.__cause__).lower()) is not None


def forbids_for_user(refusal: CommandRefusedError) -> bool:
    """Return whether it is an ACL that forbids scripts; other users may run them."""
    return isinstance(refusal.__cause__, NoPermissionError)


def make_unique(data: bytes) -> bytes:
    """Return the bytes of a delayed message as a unique member of a sorted set."""
    return secrets.token_hex(UNIQUE_BYTES // 2).encode() + data


def _number(value: Any) -> float | None:
    """Return the number in a label, or None."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
