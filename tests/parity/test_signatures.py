"""Constructors and methods: those of 1.2.4, and the same in both twins."""

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import pytest

import taskiq_redis
from tests.parity.classes import (
    CHANGED_DEFAULTS,
    CLASSES,
    MECHANISMS,
    METHODS,
    NEW,
    REQUIRED,
    SIGNATURES,
    both,
    options,
    parameters,
)

EACH = pytest.mark.parametrize("name", CLASSES)

#: what one twin has and the other can't have
ONLY_ASYNC = {
    "global_task_registry",  # of taskiq's AsyncBroker, where the twin looks tasks up, too
}
ONLY_SYNC = {
    "kicker",  # for a task of another broker; with taskiq it is the task that has a kicker
}

#: options whose default is another where 1.2.4 has it so, or where a cluster needs it
DIFFERENT_DEFAULTS: dict[str, dict[str, Any]] = {
    "xread_block": {
        "RedisStreamBroker": 2000,
        "RedisStreamClusterBroker": 10_000,
        "RedisStreamSentinelBroker": 10_000,
    },
    "max_connection_pool_size": {
        "PubSubClusterBroker": 2**31,
        "ListQueueClusterBroker": 2**31,
        "RedisStreamClusterBroker": 2**31,
    },
    "prefix": {"ListRedisClusterScheduleSource": "{schedule}"},
}


def test_the_table_of_1_2_4_has_all_classes() -> None:
    assert SIGNATURES.keys() | NEW == set(CLASSES)
    assert not SIGNATURES.keys() & NEW
    assert METHODS.keys() == set(CLASSES)


@pytest.mark.smoke
@pytest.mark.parametrize("name", SIGNATURES)
def test_a_constructor_takes_what_it_took_in_1_2_4(name: str) -> None:
    ours = parameters(getattr(taskiq_redis, name))
    expected = [
        Parameter(
            option,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=CHANGED_DEFAULTS.get(option, (default, default))[1],
        )
        for option, default in SIGNATURES[name]
    ]
    assert ours[: len(expected)] == expected
    *added, last = ours[len(expected) :]
    assert last == Parameter("connection_kwargs", Parameter.VAR_KEYWORD)
    # What is new comes after it, and doesn't have to be given.
    for option in added:
        assert option.kind in {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
        assert option.default is not REQUIRED


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_changed_defaults_are_changes(name: str) -> None:
    for option, default in SIGNATURES[name]:
        if option in CHANGED_DEFAULTS:
            assert default == CHANGED_DEFAULTS[option][0]


@pytest.mark.smoke
@EACH
def test_twins_are_constructed_alike(name: str) -> None:
    ours, twin = both(name)
    assert parameters(ours) == parameters(twin)


@EACH
def test_all_parameters_have_types(name: str) -> None:
    for kind in both(name):
        signature = inspect.signature(kind)
        untyped = [
            each.name
            for each in signature.parameters.values()
            if each.annotation is Parameter.empty
        ]
        assert untyped == []


@EACH
def test_types_differ_in_what_is_async_only(name: str) -> None:
    ours, twin = both(name)
    for option, parameter in inspect.signature(ours).parameters.items():
        theirs = inspect.signature(twin).parameters[option].annotation
        wanted = str(parameter.annotation).replace(
            "taskiq.abc.result_backend.AsyncResultBackend",
            "taskiq_redis._taskiq.result_backend.SyncResultBackend",
        )
        assert str(theirs) == wanted, option


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("twin", [0, 1], ids=["async", "sync"])
def test_an_option_has_one_default_on_all_topologies(mechanism: str, twin: int) -> None:
    defaults: dict[str, dict[str, Any]] = {}
    for name in MECHANISMS[mechanism]:
        for option, default in options(both(name)[twin]).items():
            defaults.setdefault(option, {})[name] = default
    for option, by_class in defaults.items():
        known = DIFFERENT_DEFAULTS.get(option, {})
        others = {default for name, default in by_class.items() if name not in known}
        assert len(others) <= 1, (option, by_class)
        for name in known.keys() & by_class.keys():
            assert by_class[name] == known[name], option


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_option_has_one_kind_on_all_topologies(mechanism: str) -> None:
    types: dict[str, set[str]] = {}
    for name in MECHANISMS[mechanism]:
        for each in inspect.signature(both(name)[0]).parameters.values():
            types.setdefault(each.name, set()).add(str(each.annotation))
    # The number that stands for "no limit" on a cluster leaves None no meaning.
    types.pop("max_connection_pool_size", None)
    assert {option: kinds for option, kinds in types.items() if len(kinds) > 1} == {}


@EACH
def test_the_methods_of_1_2_4_are_there(name: str) -> None:
    for kind in both(name):
        for method in METHODS[name].split():
            assert callable(getattr(kind, method))


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.smoke
@EACH
def test_twins_have_the_same_methods_and_properties(name: str) -> None:
    ours, twin = both(name)
    assert public(ours) - public(twin) <= ONLY_ASYNC
    assert public(twin) - public(ours) <= ONLY_SYNC
    for member in sorted(public(ours) & public(twin)):
        mine, theirs = (inspect.getattr_static(kind, member) for kind in (ours, twin))
        assert isinstance(mine, property) == isinstance(theirs, property), member
        if isinstance(mine, property):
            assert (mine.fset is None) == (theirs.fset is None), member


def test_the_known_differences_are_differences() -> None:
    names = [both(name) for name in CLASSES]
    assert {name for ours, twin in names for name in public(ours) - public(twin)} == ONLY_ASYNC
    assert {name for ours, twin in names for name in public(twin) - public(ours)} == ONLY_SYNC


def functions(name: str) -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Return the functions that both twins have."""
    ours, twin = both(name)
    return [
        (member, getattr(ours, member), getattr(twin, member))
        for member in sorted(public(ours) & public(twin))
        if inspect.isfunction(inspect.getattr_static(ours, member))
    ]


@pytest.mark.smoke
@EACH
def test_a_method_has_the_same_parameters_in_both_twins(name: str) -> None:
    found = functions(name)
    assert len(found) > 5
    for member, mine, theirs in found:
        assert parameters(mine) == parameters(theirs), member


@EACH
def test_nothing_of_a_twin_is_a_coroutine(name: str) -> None:
    for member, mine, theirs in functions(name):
        assert not inspect.iscoroutinefunction(theirs), member
        assert not inspect.isasyncgenfunction(theirs), member
        if inspect.isasyncgenfunction(mine):
            assert inspect.isgeneratorfunction(theirs), member


@EACH
def test_a_twin_does_not_inherit_from_an_async_class(name: str) -> None:
    _, twin = both(name)
    for base in twin.__mro__:
        assert not base.__name__.startswith("Async")
        assert "._async" not in base.__module__
