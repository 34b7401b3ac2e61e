"""Wait for a condition, within the time limit of all tests."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError

T = TypeVar("T")

#: s; guards against hanging, and doesn't expire on a busy machine
TIMEOUT = 60.0
#: errors while a server is starting, failing over or unreachable
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
        timeout: s until TimeoutError is raised.
        what: description of the condition in that error.
        interval: s between two calls.
        not_yet: exceptions that count as "not yet"; that error shows the last one.
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
