"""Docstrings: each option is described, and a twin's is about a twin."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parity.classes import CLASSES, both, parameters

EACH = pytest.mark.parametrize("name", CLASSES)
#: what a reader of blocking code must not meet; the name of a class, such as
#: `RedisAsyncResultBackend`, is something else
ASYNC = re.compile(r"\b(await\w*|async\w*|coroutine\w*|event loops?)\b", re.IGNORECASE)


def described(doc: str, section: str) -> dict[str, str]:
    """Return what a section of a docstring says of each name, in order."""
    match = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", inspect.cleandoc(doc), re.MULTILINE)
    text = match[1] if match else ""
    return dict(re.findall(r"^    \*{0,2}(\w+): ((?:.|\n {8,})+)", text, re.MULTILINE))


def members(kind: Any, package: str = "taskiq_redis.") -> Iterator[tuple[str, Any]]:
    """Return the public methods and properties that a package defines for a class."""
    for base in kind.__mro__:
        if base.__module__.startswith(package):
            for name, member in vars(base).items():
                if not name.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    yield f"{base.__name__}.{name}", member


@EACH
def test_every_option_is_described_in_the_order_of_the_constructor(name: str) -> None:
    for kind in both(name):
        told = described(kind.__doc__, "Args")
        assert list(told) == [each.name for each in parameters(kind)]
        assert all(text.strip().endswith(".") for text in told.values())


@EACH
def test_a_default_is_told_as_it_is(name: str) -> None:
    kind = both(name)[0]
    told = described(kind.__doc__, "Args")
    for each in parameters(kind):
        match = re.search(r"Default ``(.+?)``|Default ([\d,]+|True|False)\b", told[each.name])
        if match is not None and each.default is not None:
            said = match[1] or match[2].replace(",", "")
            assert said == str(each.default), each.name


@EACH
def test_errors_are_described(name: str) -> None:
    for kind in both(name):
        assert "InvalidOptionError" in described(kind.__doc__, "Raises")


@EACH
def test_every_method_is_described(name: str) -> None:
    for kind in both(name):
        for member, function in members(kind):
            assert function.__doc__, member
            if inspect.isfunction(function):
                told = described(function.__doc__, "Args")
                taken = [each.name for each in parameters(function)][1:]
                assert not told or list(told) == taken, member


@EACH
def test_nothing_of_a_twin_speaks_of_waiting_on_a_loop(name: str) -> None:
    _, twin = both(name)
    assert ASYNC.findall(twin.__doc__) == []
    for member, function in members(twin, "taskiq_redis._sync."):
        assert ASYNC.findall(function.__doc__ or "") == [], member


@EACH
def test_twins_are_described_alike(name: str) -> None:
    ours, twin = both(name)
    assert list(described(ours.__doc__, "Args")) == list(described(twin.__doc__, "Args"))
    first = ours.__doc__.partition("\n")[0]
    assert twin.__doc__.partition("\n")[0].replace("Sync", "") == first
