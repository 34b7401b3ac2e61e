"""The two halves of what differs between asyncio and threads have the same names."""

import inspect
from types import ModuleType
from typing import Any

import pytest

from taskiq_redis._runtime import aio, blocking

#: what a class has on asyncio, and what that is on threads
SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__init__": "__init__"}

FUNCTIONS = [
    name
    for name in aio.__all__
    if not inspect.isclass(getattr(aio, name)) and name != "sleep"  # it is not ours
]
CLASSES = [name for name in aio.__all__ if inspect.isclass(getattr(aio, name))]


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def defined(module: ModuleType) -> list[str]:
    """Return the names of what a module itself defines for others."""
    return sorted(
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    )


def methods(kind: type) -> dict[str, Any]:
    """Return the methods of a class, inherited ones too, by their names on threads."""
    every = {name: value for each in kind.__mro__[-2::-1] for name, value in vars(each).items()}
    return {
        SPECIAL.get(name, name): value
        for name, value in every.items()
        if not name.startswith("_") or name in {*SPECIAL, *SPECIAL.values()}
    }


@pytest.mark.smoke
def test_both_have_the_same_names() -> None:
    assert aio.__all__ == blocking.__all__
    assert aio.__all__ == sorted(aio.__all__, key=lambda name: (not name[0].isupper(), name))
    for module in (aio, blocking):
        assert set(defined(module)) <= {*module.__all__, "T", "logger", "JOIN_TIMEOUT"}
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.smoke
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_same_parameters(name: str) -> None:
    assert parameters(getattr(aio, name)) == parameters(getattr(blocking, name))
    assert not inspect.iscoroutinefunction(getattr(blocking, name))
    assert getattr(aio, name).__doc__
    assert getattr(blocking, name).__doc__


@pytest.mark.smoke
@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_same_methods(name: str) -> None:
    kinds = getattr(aio, name), getattr(blocking, name)
    ours, theirs = map(methods, kinds)
    assert ours.keys() == theirs.keys()
    assert kinds[0].__doc__ == kinds[1].__doc__
    assert getattr(kinds[0], "__parameters__", ()) == () or kinds[1].__parameters__
    for method in ours:
        assert parameters(ours[method]) == parameters(theirs[method]), method
        assert not inspect.iscoroutinefunction(theirs[method]), method


def test_they_log_to_one_place() -> None:
    assert aio.logger is blocking.logger
    assert aio.logger.name == "taskiq_redis"
