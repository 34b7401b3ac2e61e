"""Checks of options and names. They raise `InvalidOptionError` before anything is sent."""

import dataclasses
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis.exceptions import InvalidOptionError

#: by declared type, another type that is accepted for it
_ALSO_ACCEPTED: Mapping[type, type] = {bool: int, float: int}
_ENTRY_ID = re.compile(r"[0-9]+(-[0-9]+)?")


def plain_names(value: Any) -> Any:
    """Return the text of a name that is a member of an enum, such as ``class Queue(str, Enum)``.

    Formatting such a member would insert the member's own name on Python 3.12 and later.

    Args:
        value: a name, a mapping by names, or any other value, which is returned as it is.
    """
    if isinstance(value, str) and type(value) is not str:
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {plain_names(name): plain_names(each) for name, each in value.items()}
    return value


def check_types(options: Any) -> None:
    """Check that the fields of a dataclass have the types that they are declared with."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        declared = get_args(field.type) if isinstance(field.type, UnionType) else [field.type]
        kinds: list[Any] = [get_origin(kind) or kind for kind in declared]
        if TaskiqSerializer in kinds:
            _check_serializer(field.name, value)
        elif not any(isinstance(value, (kind, _ALSO_ACCEPTED.get(kind, kind))) for kind in kinds):
            names = " or ".join(kind.__name__ for kind in kinds).replace("NoneType", "None")
            raise InvalidOptionError(
                option=field.name,
                problem=f"{value!r} is of type {type(value).__name__}",
                advice=f"Give a value of type {names}.",
            )


def _check_serializer(option: str, value: Any) -> None:
    methods = [getattr(value, name, None) for name in ("dumpb", "loadb")]
    if value is not None and (isinstance(value, type) or not all(map(callable, methods))):
        raise InvalidOptionError(
            option=option,
            problem=f"{value!r} is not a serializer",
            advice="Give an object with the methods `dumpb` and `loadb`, such as JSONSerializer().",
        )


def check_name(option: str, name: Any) -> None:
    """Check that a key name is a string, isn't empty, and can be encoded."""
    if name is None or name == "":
        raise InvalidOptionError(
            option=option, problem="it is empty", advice="Give a name, or leave the option out."
        )
    if not isinstance(name, str):
        raise InvalidOptionError(
            option=option,
            problem=f"{name!r} is of type {type(name).__name__}",
            advice="Give a value of type str.",
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidOptionError(
            option=option,
            problem=f"{name!r} can't be encoded as UTF-8 ({error.reason})",
            advice="Give a name that is valid text.",
        ) from None


def check_entry_id(option: str, value: Any, special: str) -> None:
    """Check that a value is the ID of a stream entry, or the special ID ``$`` or ``>``."""
    if str(value) != special and not _ENTRY_ID.fullmatch(str(value)):
        raise InvalidOptionError(
            option=option,
            problem=f"{value!r} is not the ID of a stream entry",
            advice=f"Give an ID such as 0 or 1700000000000-0, or {special}.",
        )


def check_number(option: str, value: Any, minimum: float) -> None:
    """Check that a value is None or a number, and not too small."""
    if value is not None and not isinstance(value, int | float):
        raise InvalidOptionError(
            option=option,
            problem=f"{value!r} is not a number",
            advice=f"Give a number of at least {minimum}.",
        )
    check_at_least(option, value, minimum)


def check_at_least(option: str, value: float | None, minimum: float) -> None:
    """Check that a number isn't too small; None is accepted."""
    if value is not None and value < minimum:
        raise InvalidOptionError(
            option=option, problem=f"{value} is too small", advice=f"Give at least {minimum}."
        )
