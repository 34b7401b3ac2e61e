"""Describe values and errors in log lines and error messages, briefly."""

import re
import reprlib
from textwrap import shorten
from typing import Any

from pydantic import ValidationError
from taskiq.exceptions import TaskiqError

#: maximum number of characters that our errors quote from other libraries' errors
REASON_WIDTH = 300
#: maximum number of characters of a quoted name or ID
NAME_WIDTH = 120
#: maximum number of invalid fields that an error lists
FIELDS = 3
#: number of invalid fields above which an error only counts them: a long value may have millions
MANY_FIELDS = 1000
#: bits; longer integers are described instead of being printed, which takes long
PRINTED_BITS = 256

_QUOTED = re.compile(r"""(?<!\w)(['"]).*\1""", re.DOTALL)


class _Repr(reprlib.Repr):
    """Makes a repr of bounded length, without making a longer one before."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = NAME_WIDTH

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - its parameters in reprlib
        return repr(x) if x.bit_length() <= PRINTED_BITS else f"<{x.bit_length():,} bits>"

    def repr_bytes(self, x: bytes, level: int) -> str:  # noqa: ARG002 - as above
        return f"<{len(x):,} bytes>"


#: returns the repr of a value, shortened
quote = _Repr().repr


def brief(text: str) -> str:
    """Return a key, a name or an ID as it is, unless it is very long."""
    return (
        text if len(text) <= REASON_WIDTH else f"{text[:NAME_WIDTH]}... ({len(text):,} characters)"
    )


def one_line(text: str) -> str:
    """Return the beginning of a text, without line breaks."""
    return shorten(text[: 4 * REASON_WIDTH], REASON_WIDTH)


def describe_error(error: BaseException) -> str:
    """Return an error as one line, without the values in it.

    Args:
        error: an error that was raised while a value was read or written.
    """
    name = type(error).__name__
    if isinstance(error, ValidationError):
        count = error.error_count()
        if count > MANY_FIELDS:
            return f"{name}: {count:,} invalid fields"
        # Its own text quotes a part of the value, and makes the repr of the whole value for that.
        details = error.errors(include_input=False, include_url=False, include_context=False)
        fields = [f"{_field(each['loc'])}: {each['msg']}" for each in details[:FIELDS]]
        return one_line(f"{name}: {'; '.join(fields)}")
    quotable = isinstance(error, TaskiqError | UnicodeError) or all(
        isinstance(argument, str | int | None) for argument in error.args
    )
    # A KeyError consists of the key, which may be a value.
    if not quotable or isinstance(error, KeyError):
        return name
    text = str(error)
    # Python's own texts quote what isn't a number or a date.
    return one_line(f"{name}: {_QUOTED.sub('...', text) if type(error) is ValueError else text}")


def _field(place: tuple[Any, ...]) -> str:
    return ".".join(part if isinstance(part, str) else quote(part) for part in place)
