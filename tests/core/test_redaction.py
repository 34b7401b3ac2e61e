"""Texts of Redis and redis-py are shown without arguments of commands."""

from typing import Any

import pytest
from redis import exceptions as errors

from taskiq_redis._core.redaction import redact
from taskiq_redis._core.redis_errors import as_outage, translate
from tests.leaks import ARGUMENT, PASSWORD

QUOTING = [
    # Redis 7, Redis 6.2, and with the code that redis-py leaves in place inside other texts
    f"unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'user' '{PASSWORD}' ",
    f"unknown command `AUTH`, with args beginning with: `user`, `{PASSWORD}`, ",
    f"ERR unknown command 'LPUSH', with args beginning with: 'taskiq' '{ARGUMENT}\n\n' ",
    f"Command # 2 (SET key {ARGUMENT} (x)...) of pipeline caused error: OOM",
    f"Command # 1 (SET k {ARGUMENT}) of pipeline caused error: with args beginning with: '{ARGUMENT}'",
]


@pytest.mark.parametrize("text", QUOTING)
def test_arguments_are_removed_from_an_error_and_its_causes(text: str) -> None:
    error = errors.RedisClusterException(f"no node can be reached: {text}")
    error.__cause__ = errors.ResponseError(text)
    error.__cause__.__context__ = errors.ClusterDownError(text)
    error.__cause__.__context__.__cause__ = error  # a cycle
    redact(error)
    for each in (error, error.__cause__, error.__cause__.__context__):
        assert "marker" not in f"{each} {each!r} {vars(each)}"
        assert "unknown command" in str(each) or "Command #" in str(each)


@pytest.mark.parametrize("text", QUOTING)
@pytest.mark.parametrize("kind", [errors.ResponseError, errors.ConnectionError])
def test_arguments_are_not_in_translated_errors(kind: Any, text: str) -> None:
    for error in (kind(text), as_outage(kind(text))):
        translated = translate(error, "Redis at redis://h", "taskiq")
        assert "marker" not in f"{translated} {translated!r} {error!r} {error.__cause__!r}"


def test_other_texts_are_left_as_they_are() -> None:
    error = errors.ResponseError("NOPERM no permissions", 5)
    redact(error)
    assert error.args == ("NOPERM no permissions", 5)
