"""Docstrings describe every option, and those of blocking twins mention no asyncio."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parity.classes import CLASSES, both, parameters

EACH = pytest.mark.parametrize("name", CLASSES)
#: words that docstrings of blocking twins must not contain; names of classes such as
#: `RedisAsyncResultBackend` don't match
ASYNC_WORDS = re.compile(r"\b(await\w*|async\w*|coroutine\w*|event loops?)\b", re.IGNORECASE)


def descriptions(doc: str, section: str) -> dict[str, str]:
    """Return the descriptions in a section of a docstring by name, in order."""
    match = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", inspect.cleandoc(doc), re.MULTILINE)
    text = match[1] if match else ""
    return dict(re.findall(r"^    \*{0,2}(\w+): ((?:.|\n {8,})+)", text, re.MULTILINE))


def members(kind: Any, package: str = "taskiq_redis.") -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class that a package defines."""
    for base in kind.__mro__:
        if base.__module__.startswith(package):
            for name, member in vars(base).items():
                if not name.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    yield f"{base.__name__}.{name}", member


@EACH
def test_options_are_described_in_order_of_constructor(name: str) -> None:
    for kind in both(name):
        documented = descriptions(kind.__doc__, "Args")
        assert list(documented) == [each.name for each in parameters(kind)]
        assert all(text.strip().endswith(".") for text in documented.values())


@EACH
def test_described_defaults_are_the_real_ones(name: str) -> None:
    kind = both(name)[0]
    documented = descriptions(kind.__doc__, "Args")
    for each in parameters(kind):
        match = re.search(r"Default ``(.+?)``|Default ([\d,]+|True|False)\b", documented[each.name])
        if match is not None and each.default is not None:
            default = match[1] or match[2].replace(",", "")
            assert default == str(each.default), each.name


@EACH
def test_invalid_option_error_is_described(name: str) -> None:
    for kind in both(name):
        assert "InvalidOptionError" in descriptions(kind.__doc__, "Raises")


@EACH
def test_methods_and_their_parameters_are_described(name: str) -> None:
    for kind in both(name):
        for member, function in members(kind):
            assert function.__doc__, member
            if inspect.isfunction(function):
                documented = descriptions(function.__doc__, "Args")
                actual = [each.name for each in parameters(function)][1:]
                assert not documented or list(documented) == actual, member


@EACH
def test_docstrings_of_twin_mention_no_asyncio(name: str) -> None:
    _, twin = both(name)
    assert ASYNC_WORDS.findall(twin.__doc__) == []
    for member, function in members(twin, "taskiq_redis._sync."):
        assert ASYNC_WORDS.findall(function.__doc__ or "") == [], member


@EACH
def test_twins_have_matching_docstrings(name: str) -> None:
    ours, twin = both(name)
    assert list(descriptions(ours.__doc__, "Args")) == list(descriptions(twin.__doc__, "Args"))
    first = ours.__doc__.partition("\n")[0]
    assert twin.__doc__.partition("\n")[0].replace("Sync", "") == first
