"""How long a published message may be, so that listeners keep their connections."""

from typing import Any

import pytest

from taskiq_redis._core.output_buffers import DEFAULT_LIMIT, limit_of, longest_message

MEBIBYTE = 2**20


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", 32 * MEBIBYTE),
        (b"normal 0 0 0 replica 1 1 60 pubsub 1000 0 0", 1000),
        ("normal 0 0 0 slave 0 0 0 pubsub 0 8388608 60", None),
        ("", DEFAULT_LIMIT),
    ],
)
def test_hard_limit_is_read(value: Any, limit: int | None) -> None:
    assert limit_of({"client-output-buffer-limit": value}) == limit


def test_missing_limit_is_the_default() -> None:
    assert limit_of({}) == DEFAULT_LIMIT == 32 * MEBIBYTE


#: limit of the output buffer, and the longest message that Redis 7.0 with jemalloc delivers
MEASURED = [
    (8 * MEBIBYTE, 7_356_352),
    (30_000_000, 29_376_445),
    (32 * MEBIBYTE, 29_376_443),
    (100_000_000, 83_887_037),
]


@pytest.mark.parametrize(("limit", "longest"), MEASURED)
def test_longest_message_is_a_little_shorter_than_measured(limit: int, longest: int) -> None:
    assert 0.99 * longest < longest_message(limit) < longest


@pytest.mark.parametrize("limit", [1, 1000, 8192, 100_000, 2**40])
def test_longest_message_is_below_any_limit(limit: int) -> None:
    assert 0 <= longest_message(limit) < limit
