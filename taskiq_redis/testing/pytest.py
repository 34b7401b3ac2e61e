"""Fixtures for pytest. Name this module in `pytest_plugins`, or import them in `conftest.py`.

It isn't loaded by itself, so nothing changes for those who don't name it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from taskiq_redis.testing._sent import SentTasks
from taskiq_redis.testing._swap import swapped

__all__ = ["run_tasks", "sent_tasks", "swap_broker", "taskiq_broker"]


@pytest.fixture
def taskiq_broker() -> Any:
    """Return the broker to replace, or several objects; define it in your `conftest.py`."""
    raise pytest.UsageError(
        "Define a fixture `taskiq_broker` that returns your broker, or a tuple of brokers, result "
        "backends and schedule sources. `sent_tasks` and `run_tasks` replace what it returns."
    )


@pytest.fixture
def sent_tasks(taskiq_broker: Any) -> Iterator[SentTasks]:
    """Replace the broker: record the tasks that the test sends, without running them."""
    with swapped(*_several(taskiq_broker)) as sent:
        yield sent


@pytest.fixture
def run_tasks(taskiq_broker: Any) -> Iterator[SentTasks]:
    """Replace the broker: run the tasks that the test sends, in place."""
    with swapped(*_several(taskiq_broker), run=True) as sent:
        yield sent


@pytest.fixture
def swap_broker() -> Iterator[Callable[..., SentTasks]]:
    """Return `swapped` as a function; what it replaces is restored after the test."""
    with ExitStack() as stack:

        def swap(*objects: Any, **options: bool) -> SentTasks:
            return stack.enter_context(swapped(*objects, **options))

        yield swap


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)
