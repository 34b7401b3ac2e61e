"""Records of tracked tasks: digests, and what scripts reply."""

import string
from datetime import datetime, timezone
from typing import Any

import pytest

from taskiq_redis import TaskState, TaskStatus
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.task_status import (
    DIGEST_LENGTH,
    make_tracked,
    read_task_status,
    task_digest,
)
from taskiq_redis.exceptions import InvalidOptionError

TIME = datetime.fromtimestamp(1.5, timezone.utc)


def test_digest_is_short_text_that_depends_on_the_id() -> None:
    digests = {task_digest(f"{number} \u00e4") for number in range(1000)}
    assert len(digests) == 1000
    assert task_digest("id") == task_digest("id")
    for digest in digests:
        assert len(digest) == DIGEST_LENGTH
        assert set(digest) <= {*string.ascii_letters, *string.digits, "-", "_"}


def test_delayed_message_has_a_random_prefix_with_the_digest() -> None:
    members = {make_tracked(b"data", "id") for _ in range(100)}
    assert len(members) == 100
    for member in members:
        assert member[UNIQUE_BYTES:] == b"data"
        assert member[UNIQUE_BYTES - DIGEST_LENGTH : UNIQUE_BYTES] == task_digest("id").encode()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ([], TaskStatus(TaskState.UNKNOWN)),
        ([b"lost", b"1500"], TaskStatus(TaskState.UNKNOWN)),
        ([b"sent", b"1500"], TaskStatus(TaskState.UNKNOWN)),
        ([b"delayed", b"1500"], TaskStatus(TaskState.DELAYED, due=TIME)),
        ([b"queued", b"1500"], TaskStatus(TaskState.QUEUED, since=TIME)),
        (["running", "1500", "me", 2], TaskStatus(TaskState.RUNNING, "me", TIME, 2)),
        ([b"done", b"1500"], TaskStatus(TaskState.DONE)),
        ([b"dead", b"1500"], TaskStatus(TaskState.DEAD, since=TIME)),
    ],
)
def test_reply_becomes_a_status(reply: list[Any], expected: TaskStatus) -> None:
    assert read_task_status(reply) == expected


def test_state_is_text() -> None:
    assert [state.value for state in TaskState] == [state.name for state in TaskState]
    assert isinstance(TaskState.DONE, str)


@pytest.mark.parametrize("ttl", [0, 0.9, -1, 1e12, float("inf"), float("nan")])
def test_track_ttl_out_of_range_is_refused(ttl: float) -> None:
    with pytest.raises(InvalidOptionError, match="`track_ttl`"):
        StoredQueueOptions(
            queue_name="q",
            kick_timeout=10,
            keep_failed=False,
            max_dead_letters=None,
            dead_letter_ttl=None,
            unknown_task_timeout=60,
            track_tasks=True,
            track_ttl=ttl,
        )
