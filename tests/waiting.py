"""Waiting for a condition, and the one time limit of the tests."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError

T = TypeVar("T")

#: s; only guards against hanging, so it is long enough for the busiest machine
TIMEOUT = 60.0
#: what a server raises that is starting, failing over or gone for a moment
UNREACHABLE = (RedisError, OSError)


def wait_until(
    condition: Callable[[], T | None],
    *,
    timeout: float = TIMEOUT,
    what: str = "the condition",
    interval: float = 0.02,
    not_yet: tuple[type[Exception], ...] = UNREACHABLE,
) -> T:
    """Call `condition` until it returns something true, and return that.

    Args:
        condition: what to call.
        timeout: s; after that, raise TimeoutError.
        what: describes the condition in that error.
        interval: s between two calls.
        not_yet: exceptions that count as "not yet"; the last one is shown in that error.
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except not_yet as exc:
            last = exc
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s, last seen: {last!r}")
        time.sleep(interval)
