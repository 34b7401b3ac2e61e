"""Rebuild the exceptions of failed tasks from their results."""

import inspect
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import taskiq.exceptions
from taskiq.exceptions import SecurityError
from taskiq.serialization import create_exception_cls

from taskiq_redis._core.texts import NAME_WIDTH, quote
from taskiq_redis.exceptions import RefusedExceptionError, TaskIQRedisError

#: maximum number of causes and contexts; others are left out
MAX_LINKED = 10_000
#: maximum length of the name of a class that is looked up
MAX_NAME = 1000

#: raised in a loop or generator of the caller, these would end it without a word
SILENT = (StopIteration, StopAsyncIteration)

#: the classes, with their subclasses, of exceptions that results may raise
Allowed = tuple[type[BaseException], ...]


def rebuild_error(stored: Any, allowed: Allowed) -> BaseException | None:
    """Return the exception of a failed task, with its cause and context.

    If its class isn't loaded, make a class with that name, as taskiq does. An exception that isn't
    allowed, such as SystemExit, is replaced by a `RefusedExceptionError`.

    Args:
        stored: the error in the result, as taskiq wrote it.
        allowed: the allowed classes; those of this package always are.

    Raises:
        TypeError: it is malformed.
        SecurityError: it names something else than a class of exceptions.
    """
    if not stored:
        return None
    root = _build(stored, allowed)
    # A loop, as a chain may be longer than Python's recursion limit.
    waiting, count = deque([(root, stored)]), 1
    while waiting and count < MAX_LINKED:
        error, mapping = waiting.popleft()
        for attribute, other in _linked(mapping):
            linked = _build(other, allowed)
            setattr(error, attribute, linked)
            waiting.append((linked, other))
            count += 1
        if isinstance(mapping, dict):
            error.__suppress_context__ = bool(mapping.get("exc_suppress_context"))
    return root


def _linked(stored: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(stored, dict):
        for name, attribute in (("exc_cause", "__cause__"), ("exc_context", "__context__")):
            if stored.get(name):
                yield attribute, stored[name]


def _build(stored: Any, allowed: Allowed) -> BaseException:
    if isinstance(stored, BaseException):
        # A serializer of the user may keep exceptions.
        return stored if _is_allowed(type(stored), allowed) else _refused(type(stored), stored.args)
    if not isinstance(stored, dict):
        raise TypeError(f"an error of type {type(stored).__name__}")
    name, module = stored.get("exc_type"), stored.get("exc_module")
    arguments = stored.get("exc_message")
    if not (isinstance(name, str) and isinstance(module, str | None)):
        raise TypeError("an error without the name of its class")
    if not isinstance(arguments, list | tuple):
        raise TypeError("an error without arguments")
    kind = _find(module, name)
    if not _is_allowed(kind, allowed):
        return _refused(kind, arguments)
    try:
        return kind(*arguments)
    except Exception:  # noqa: BLE001 - a constructor may raise anything
        return Exception(f"{kind}({quote(tuple(arguments))})")


def _find(module: str | None, name: str) -> type[BaseException]:
    """Return a class of exceptions by its name; a new one if there is no such class."""
    # Not by getattr, which may call functions of the module or of a class in it.
    found: Any = sys.modules.get(module or "") if len(name) <= MAX_NAME else None
    for part in name[:MAX_NAME].split("."):
        found = inspect.getattr_static(found, part, None)
    if found is None:
        home = __name__ if module is None else taskiq.exceptions.__name__
        text = name[:NAME_WIDTH].replace("\0", "").encode(errors="replace").decode()
        return create_exception_cls(text, home)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        path = quote(f"{module}.{name}")
        raise SecurityError(description=f"{path} is not a class of exceptions")
    return found


def _is_allowed(kind: type[BaseException], allowed: Allowed) -> bool:
    if issubclass(kind, SILENT):
        allowed = tuple(each for each in allowed if issubclass(each, SILENT))
    return issubclass(kind, (*allowed, TaskIQRedisError))


def _refused(kind: type[BaseException], arguments: Any) -> RefusedExceptionError:
    return RefusedExceptionError(
        name=f"{kind.__module__}.{kind.__qualname__}", arguments=quote(tuple(arguments))
    )
