"""What can be wrong with a value that a user gives, found before anything is sent."""

import dataclasses
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from taskiq.abc.serializer import TaskiqSerializer

from taskiq_redis.exceptions import InvalidOptionError

#: values of these types will do as well
_ALSO: Mapping[type, type] = {bool: int, float: int}
_ENTRY_ID = re.compile(r"[0-9]+(-[0-9]+)?")


def check_types(options: Any) -> None:
    """Refuse a field of a dataclass whose value is of another type than it is declared to be."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        declared = get_args(field.type) if isinstance(field.type, UnionType) else [field.type]
        kinds: list[Any] = [get_origin(kind) or kind for kind in declared]
        if TaskiqSerializer in kinds:
            _check_serializer(field.name, value)
        elif not any(isinstance(value, (kind, _ALSO.get(kind, kind))) for kind in kinds):
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
            problem=f"{value!r} is no serializer",
            advice="Give an object that has `dumpb` and `loadb`, such as JSONSerializer().",
        )


def check_name(option: str, name: Any) -> None:
    """Refuse what can't be the name of a key: nothing, no text, or text that can't be sent."""
    if name is None or name == "":
        raise InvalidOptionError(
            option=option, problem="it is empty", advice="Give it a name, or leave it out."
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
            problem=f"{name!r} can't be written in UTF-8 ({error.reason})",
            advice="Give it a name that is valid text.",
        ) from None


def check_entry_id(option: str, value: Any, special: str) -> None:
    """Refuse what is no id of a stream entry, and isn't the one sign that may stand for one."""
    if str(value) != special and not _ENTRY_ID.fullmatch(str(value)):
        raise InvalidOptionError(
            option=option,
            problem=f"{value!r} is no id of a stream entry",
            advice=f"Give an id such as 0 or 1700000000000-0, or {special}.",
        )


def check_number(option: str, value: Any, least: float) -> None:
    """Refuse what is no number, or too small a one."""
    if value is not None and not isinstance(value, int | float):
        raise InvalidOptionError(
            option=option, problem=f"{value!r} is no number", advice=f"Give at least {least}."
        )
    check_at_least(option, value, least)


def check_at_least(option: str, value: float | None, least: float) -> None:
    """Refuse a number that is too small."""
    if value is not None and value < least:
        raise InvalidOptionError(
            option=option, problem=f"{value} is too small", advice=f"Give at least {least}."
        )
