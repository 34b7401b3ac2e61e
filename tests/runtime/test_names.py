"""The asynchronous and the blocking module of a hand-written pair have the same names."""

import inspect
from types import ModuleType
from typing import Any

import pytest

from taskiq_redis._drivers import aio as drivers_aio, blocking as drivers_blocking
from taskiq_redis._runtime import aio, blocking

PAIRS = [(aio, blocking), (drivers_aio, drivers_blocking)]
#: names of other libraries, or aliases
NOT_OURS = {"Event", "Semaphore", "WorkerThread", "cancellable", "sleep"}

#: special methods for asyncio, and their names for threads
SPECIAL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__init__": "__init__"}

FUNCTIONS = [
    (pair, name)
    for pair in PAIRS
    for name in pair[0].__all__
    if not inspect.isclass(getattr(pair[0], name)) and name not in NOT_OURS
]
CLASSES = [name for name in aio.__all__ if inspect.isclass(getattr(aio, name))]


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def defined(module: ModuleType) -> list[str]:
    """Return the public names that a module itself defines."""
    return sorted(
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    )


def methods(kind: type) -> dict[str, Any]:
    """Return the methods of a class, inherited ones too, by their blocking names."""
    every = {name: value for each in kind.__mro__[-2::-1] for name, value in vars(each).items()}
    return {
        SPECIAL.get(name, name): value
        for name, value in every.items()
        if not name.startswith("_") or name in {*SPECIAL, *SPECIAL.values()}
    }


@pytest.mark.smoke
@pytest.mark.parametrize("pair", PAIRS)
def test_paired_modules_have_the_same_names(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert ours.__all__ == theirs.__all__
    assert ours.__all__ == sorted(ours.__all__, key=lambda name: (not name[0].isupper(), name))
    for module in pair:
        own = {"AnyClient", "T", "logger", "JOIN_TIMEOUT", "CLOSE_TIMEOUT"}
        assert set(defined(module)) <= {*module.__all__, *own}
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.smoke
@pytest.mark.parametrize(("pair", "name"), FUNCTIONS)
def test_paired_functions_have_the_same_parameters(pair: tuple[Any, Any], name: str) -> None:
    ours, theirs = (getattr(module, name) for module in pair)
    assert parameters(ours) == parameters(theirs)
    assert not inspect.iscoroutinefunction(theirs)
    assert ours.__doc__
    assert theirs.__doc__


@pytest.mark.smoke
@pytest.mark.parametrize("name", CLASSES)
def test_paired_classes_have_the_same_methods(name: str) -> None:
    kinds = getattr(aio, name), getattr(blocking, name)
    ours, theirs = map(methods, kinds)
    assert ours.keys() <= theirs.keys()
    if name not in NOT_OURS:
        assert kinds[0].__doc__ == kinds[1].__doc__
        assert ours.keys() == theirs.keys()
    assert getattr(kinds[0], "__parameters__", ()) == () or kinds[1].__parameters__
    for method in ours:
        if name not in NOT_OURS:
            assert parameters(ours[method]) == parameters(theirs[method]), method
        assert not inspect.iscoroutinefunction(theirs[method]), method


def test_paired_modules_share_one_logger() -> None:
    assert aio.logger is blocking.logger
    assert aio.logger.name == "taskiq_redis"
