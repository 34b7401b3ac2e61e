"""Passwords and arguments of the tests, and a check that no text for users shows them."""

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from taskiq_redis.exceptions import TaskIQRedisError

#: what tests use for passwords, and for arguments of tasks and commands. Logs, warnings and errors
#: of the package must not show them.
PASSWORD, ARGUMENT = "marker-of-a-p@ss:word", "marker-of-an-argument"
_MARKER = "marker-of-a"

#: texts with a marker, since the last test
_found: list[str] = []
_warn = warnings.warn


def _check(text: str) -> None:
    if _MARKER in text:
        _found.append(text)


def _check_error(error: TaskIQRedisError) -> None:
    if not sys.is_finalizing():
        _check(repr(vars(error)) + "".join(traceback.format_exception(error)))


class _Handler(logging.Handler):
    """Checks what is logged, with the tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        _check(logging.Formatter().format(record))


def _checked_warn(message: Any, category: Any = None, stacklevel: int = 1, **more: Any) -> None:
    _check(str(message))
    _warn(message, category, stacklevel + 1, **more)


def check_texts() -> None:
    """Check every record that is logged, warning, and error of the package, from now on."""
    logging.getLogger().addHandler(_Handler(logging.WARNING))
    warnings.warn = _checked_warn  # type: ignore[assignment]
    # When an error is garbage-collected, its cause and context are known.
    TaskIQRedisError.__del__ = _check_error  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test after which a text showed a marker."""
    yield
    # An error that is garbage-collected late may belong to an earlier test.
    found, _found[:] = _found[:], []
    assert found == []
