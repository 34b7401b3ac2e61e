"""Constructors and methods keep the signatures of 1.2.4, and twins have the same ones."""

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

#: names that only one twin can have
ONLY_ASYNC = {
    "global_task_registry",  # taskiq's AsyncBroker has it; blocking brokers look tasks up there
}
ONLY_SYNC = {
    "kicker",  # sends a task of another broker; in taskiq, only tasks have kickers
}

#: options with several defaults: as in 1.2.4, or because a cluster needs another one
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


def test_table_of_1_2_4_has_all_classes() -> None:
    assert SIGNATURES.keys() | NEW == set(CLASSES)
    assert not SIGNATURES.keys() & NEW
    assert METHODS.keys() == set(CLASSES)


@pytest.mark.smoke
@pytest.mark.parametrize("name", SIGNATURES)
def test_constructor_accepts_parameters_of_1_2_4(name: str) -> None:
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
    # New options follow those of 1.2.4 and have defaults.
    for option in added:
        assert option.kind in {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
        assert option.default is not REQUIRED


@pytest.mark.parametrize("name", SIGNATURES)
def test_changed_defaults_list_the_defaults_of_1_2_4(name: str) -> None:
    for option, default in SIGNATURES[name]:
        if option in CHANGED_DEFAULTS:
            assert default == CHANGED_DEFAULTS[option][0]


@pytest.mark.smoke
@EACH
def test_constructors_of_twins_have_same_parameters(name: str) -> None:
    ours, twin = both(name)
    assert parameters(ours) == parameters(twin)


@EACH
def test_all_parameters_are_annotated(name: str) -> None:
    for kind in both(name):
        signature = inspect.signature(kind)
        untyped = [
            each.name
            for each in signature.parameters.values()
            if each.annotation is Parameter.empty
        ]
        assert untyped == []


@EACH
def test_annotations_of_twins_differ_only_in_result_backend(name: str) -> None:
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
def test_option_has_same_default_on_all_topologies(mechanism: str, twin: int) -> None:
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
def test_option_has_same_type_on_all_topologies(mechanism: str) -> None:
    types: dict[str, set[str]] = {}
    for name in MECHANISMS[mechanism]:
        for each in inspect.signature(both(name)[0]).parameters.values():
            types.setdefault(each.name, set()).add(str(each.annotation))
    # On a cluster, "no limit" is a large number as in 1.2.4, and None isn't accepted.
    types.pop("max_connection_pool_size", None)
    assert {option: kinds for option, kinds in types.items() if len(kinds) > 1} == {}


@EACH
def test_methods_of_1_2_4_exist(name: str) -> None:
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


def test_listed_differences_between_twins_exist() -> None:
    names = [both(name) for name in CLASSES]
    assert {name for ours, twin in names for name in public(ours) - public(twin)} == ONLY_ASYNC
    assert {name for ours, twin in names for name in public(twin) - public(ours)} == ONLY_SYNC


def functions(name: str) -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Return the name of each method that both twins have, and both functions."""
    ours, twin = both(name)
    return [
        (member, getattr(ours, member), getattr(twin, member))
        for member in sorted(public(ours) & public(twin))
        if inspect.isfunction(inspect.getattr_static(ours, member))
    ]


@pytest.mark.smoke
@EACH
def test_methods_of_twins_have_same_parameters(name: str) -> None:
    found = functions(name)
    assert len(found) > 5
    for member, mine, theirs in found:
        assert parameters(mine) == parameters(theirs), member


@EACH
def test_twin_has_no_coroutine_functions(name: str) -> None:
    for member, mine, theirs in functions(name):
        assert not inspect.iscoroutinefunction(theirs), member
        assert not inspect.isasyncgenfunction(theirs), member
        if inspect.isasyncgenfunction(mine):
            assert inspect.isgeneratorfunction(theirs), member


@EACH
def test_twin_inherits_from_no_async_class(name: str) -> None:
    _, twin = both(name)
    for base in twin.__mro__:
        assert not base.__name__.startswith("Async")
        assert "._async" not in base.__module__
