"""Labels that delay a message."""

from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from taskiq_redis._core import delays
from taskiq_redis._core.delays import (
    UNIQUE_BYTES,
    delay_labels,
    delay_of,
    forbids_scripts,
    make_unique,
    record_declared_delay,
)
from taskiq_redis.exceptions import CommandRefusedError, InvalidOptionError


@pytest.mark.parametrize(
    ("labels", "declared", "delay"),
    [
        ({}, None, 0),
        ({"delay": "1.5"}, None, 1.5),
        ({"delay": "1.5"}, {}, 1.5),
        ({"delay": "15"}, {"delay": 15}, 0),
        ({"delay": "15.0"}, {"delay": 15}, 0),
        ({"delay": "16"}, {"delay": 15}, 16),
        ({"delay": "15", "_retries": "1"}, {"delay": 15}, 15),
        ({"delay": "15", "_retries": "0"}, {"delay": 15}, 0),
        ({"delay": "15", "_retries": "many"}, {"delay": 15}, 0),
        ({"delay": "15", "_delayed": "True"}, {"delay": 15}, 15),
        ({"delay": "0", "_delayed": "True"}, None, 0),
        ({"delay": "tomorrow", "_retries": "1"}, None, 0),
        ({"delay": "-1", "_retries": "1"}, None, 0),
        ({"delay": "0"}, None, 0),
        ({"delay": "None"}, None, 0),
        ({"delay": "5"}, {"delay": "tomorrow"}, 5),
    ],
)
def test_delay_of_labels(
    labels: dict[str, Any], declared: dict[str, Any] | None, delay: float
) -> None:
    record_declared_delay("task", declared or {})
    try:
        assert delay_of("task", labels) == delay
        assert delay_of("another", {"delay": "15"}) == 15
    finally:
        delays._declared_delays.pop("task", None)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e11", "tomorrow", "0:00:05", "True", ""])
@pytest.mark.parametrize("more", [{}, {"_retries": "0"}, {"_delayed": "True"}])
def test_label_that_is_no_delay_is_refused(text: str, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=r"`delay`: .* is not a delay in seconds\. Give a"):
        delay_of("task", {"delay": text, **more})


def test_delay_labels_delay_a_single_send() -> None:
    labels = {name: str(value) for name, value in delay_labels(3).items()}
    assert delay_of("task", labels) == 3


def test_delayed_messages_are_unique() -> None:
    assert make_unique(b"a") != make_unique(b"a")
    assert make_unique(b"a")[UNIQUE_BYTES:] == b"a"


@pytest.mark.parametrize(
    ("error", "forbidden"),
    [
        (ResponseError("unknown command 'evalsha', with args beginning with: "), True),
        (ResponseError("unknown command `EVALSHA`, with args beginning with: "), True),
        (ResponseError("Command is not available: EVAL"), True),
        (NoPermissionError("this user has no permissions to run the 'evalsha' command"), True),
        (NoPermissionError("this user has no permissions to access one of the keys"), False),
        (ResponseError("WRONGTYPE Operation against a key"), False),
    ],
)
def test_refusal_of_all_scripts_is_recognized(error: Exception, forbidden: bool) -> None:
    refusal = CommandRefusedError(server="", reason="", advice="")
    refusal.__cause__ = error
    assert forbids_scripts(refusal) is forbidden
