"""Remove passwords and arguments from texts that users see: errors of Redis, addresses, options."""

import re
from typing import Any

#: parts of error texts that quote arguments, and what replaces them. The server quotes those of a
#: command that it doesn't know, as HELLO and AUTH where they are disabled; redis-py those of a
#: command in a pipeline.
_QUOTES = (
    (re.compile(r",? with args beginning with:.*", re.DOTALL), ""),
    (re.compile(r"(Command # \d+) \(.*\) (?=of pipeline caused error)", re.DOTALL), r"\1 "),
)


def redact(error: BaseException) -> BaseException:
    """Remove arguments of commands from the texts of an error and its causes, in place.

    Args:
        error: exception from redis-py.
    """
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += [each.__cause__, each.__context__]
        args = tuple(_redacted(arg) for arg in each.args)
        if args != each.args:
            each.args = args
            # Some classes of redis-py keep their text twice.
            vars(each).update({name: _redacted(value) for name, value in vars(each).items()})
    return error


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        for quote, replacement in _QUOTES:
            value = quote.sub(replacement, value)
    return value


def without_password(url: str) -> str:
    """Return a URL without user, password and options, for logs.

    Args:
        url: a URL, or an address without a scheme.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    # Options are removed first, as their values may contain an @. Then everything up to the last @
    # is removed, as an unquoted password may contain any character.
    address = re.split(r"\?(?=&*\w+=)", rest)[0].rpartition("@")[2].strip()
    return f"{scheme}{separator}{re.split('[?#]', address)[0]}"


def shown(value: Any) -> str:
    """Return the `repr` of an option for an error message, without any passwords in it.

    Args:
        value: the option. Only numbers, text and lists of these are shown.
    """
    if type(value) in (tuple, list) and all(isinstance(each, str | int) for each in value):
        return repr(type(value)(map(_without_password, value)))
    if value is None or isinstance(value, str | int | float):
        return repr(_without_password(value))
    return "the value"


def _without_password(value: Any) -> Any:
    is_address = isinstance(value, str) and ("@" in value or "://" in value)
    return without_password(value) if is_address else value
