"""Exceptions in results: which are rebuilt, and as what."""

import asyncio
import inspect
import json
import pickle
import sys
import types
from typing import Any

import pytest
from taskiq import TaskiqResult
from taskiq.serializers import JSONSerializer, PickleSerializer

from taskiq_redis._core import task_errors
from taskiq_redis._core.plain_pickles import PlainPickleSerializer
from taskiq_redis._core.wire import decode_result, encode_result
from taskiq_redis.exceptions import RefusedExceptionError, ResultDecodeError

PLAIN = PlainPickleSerializer()


def stored(error: Any, **more: Any) -> bytes:
    """Return the bytes of a result that has an error."""
    fields = {"is_err": True, "return_value": None, "execution_time": 0.1, "error": error}
    return pickle.dumps({**fields, **more}, 4)


def described(kind: str, *arguments: Any, module: str | None = "builtins", **more: Any) -> Any:
    """Return an exception as taskiq stores it."""
    return {"exc_type": kind, "exc_message": list(arguments), "exc_module": module, **more}


def read(error: Any, *allowed: type[BaseException]) -> BaseException | None:
    """Return the error of a result with a stored error."""
    return decode_result(PLAIN, "k", stored(error), allowed=allowed or (Exception,)).error


class Custom(Exception):  # noqa: N818 - a name as users have
    """An exception of a user's program."""

    class Inner(Exception):  # noqa: N818
        """One with a dot in its name."""


class Picky(Exception):  # noqa: N818
    """An exception that can't be made from its arguments."""

    def __init__(self, *, only: str) -> None:
        super().__init__(only, "more")


def test_exceptions_round_trip_with_cause_and_context() -> None:
    cause, context = Custom("cause", 1), Custom.Inner("context")
    error = ValueError("bad", 42)
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = False
    cause.__context__ = KeyError("deep")
    result = TaskiqResult[Any](is_err=True, return_value=None, execution_time=0, error=error)
    found: Any = decode_result(PLAIN, "k", encode_result(PLAIN, "id", result)).error
    assert (type(found), found.args) == (ValueError, ("bad", 42))
    assert (type(found.__cause__), found.__cause__.args) == (Custom, ("cause", 1))
    assert (type(found.__context__), found.__context__.args) == (Custom.Inner, ("context",))
    assert not found.__suppress_context__
    assert type(found.__cause__.__context__) is KeyError
    assert found.__cause__.__cause__ is None


NOT_EXCEPTIONS = [
    ("SystemExit", "builtins"),
    ("KeyboardInterrupt", "builtins"),
    ("GeneratorExit", "builtins"),
    ("StopIteration", "builtins"),
    ("StopAsyncIteration", "builtins"),
    ("CancelledError", asyncio.CancelledError.__module__),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("kind", "module"), NOT_EXCEPTIONS)
def test_exception_that_would_end_the_caller_is_replaced(kind: str, module: str) -> None:
    error = read(described(kind, 1, module=module))
    assert isinstance(error, RefusedExceptionError)
    assert error.name == f"{module}.{kind}"
    assert error.arguments == "(1,)"


def test_causes_and_contexts_are_replaced_too() -> None:
    exit_ = described("SystemExit", 3)
    error = read(described("ValueError", exc_cause=exit_, exc_context=exit_))
    assert error is not None
    assert isinstance(error.__cause__, RefusedExceptionError)
    assert isinstance(error.__context__, RefusedExceptionError)


def test_listed_classes_and_their_subclasses_are_allowed() -> None:
    assert isinstance(read(described("SystemExit", 1), Exception, SystemExit), SystemExit)
    assert isinstance(read(described("StopIteration", 1), StopIteration), StopIteration)
    assert isinstance(read(described("KeyError", 1), LookupError), KeyError)
    assert isinstance(read(described("ValueError", 1), LookupError), RefusedExceptionError)
    ours = described("ScheduleEncodeError", module="taskiq_redis.exceptions")
    assert not isinstance(read(ours, LookupError), RefusedExceptionError)


def test_exception_kept_by_a_serializer_of_the_user_is_replaced() -> None:
    class Keeping(PickleSerializer):
        def loadb(self, value: bytes) -> Any:
            return {**super().loadb(value), "error": SystemExit(1)}

    assert isinstance(decode_result(Keeping(), "k", stored(None)).error, RefusedExceptionError)


def test_unknown_class_becomes_an_exception_of_that_name() -> None:
    for module in ("no.such.module", "builtins", None):
        error = read(described("Outer.NoSuchError", "text", module=module))
        assert error is not None
        assert type(error).__name__ == "Outer.NoSuchError"
        assert type(error).__bases__ == (Exception,)
        assert error.args == ("text",)


@pytest.mark.parametrize("name", ["x" * 1_000_000, "a\0b", "\ud800", "", "."], ids=ascii)
def test_any_name_becomes_an_exception(name: str) -> None:
    error = read(described(name, "text", module="no.such.module"))
    assert error is not None
    assert error.args == ("text",)
    assert len(type(error).__name__) < 200


def test_exception_that_can_not_be_made_becomes_a_plain_one() -> None:
    error = read(described("Picky", "x" * 1_000_000, module=__name__))
    assert type(error) is Exception
    assert "Picky" in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("kind", "module"),
    [("system", "os"), ("eval", "builtins"), ("path.join", "os"), ("int", "builtins")],
)
def test_something_else_than_an_exception_is_refused(kind: str, module: str) -> None:
    with pytest.raises(ResultDecodeError, match="is not a class of exceptions") as caught:
        read(described(kind, "secret", module=module))
    assert "secret" not in str(caught.value)


def test_no_attribute_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("lazy_module")
    module.__getattr__ = lambda name: pytest.fail(f"{name} was imported")
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    error = read(described("Lazy", "text", module="lazy_module"))
    assert type(error).__name__ == "Lazy"


@pytest.mark.parametrize(
    "error",
    [
        "text",
        1,
        ["ValueError", "x"],
        {"exc_type": 1, "exc_message": [], "exc_module": None},
        {"exc_type": "ValueError", "exc_message": "x", "exc_module": None},
        {"exc_type": "ValueError", "exc_message": [], "exc_module": 1},
        {"exc_type": "ValueError"},
        described("ValueError", exc_cause="x"),
        described("ValueError", exc_context=[1]),
    ],
    ids=repr,
)
def test_malformed_error_raises_a_decode_error(error: Any) -> None:
    with pytest.raises(ResultDecodeError):
        read(error)


def test_long_chain_of_causes_is_rebuilt() -> None:
    error: Any = described("ValueError", "first")
    depth = 900
    for _ in range(depth):
        error = described("ValueError", exc_cause=error)
    fields = {"is_err": True, "return_value": None, "execution_time": 0.1, "error": error}
    found: Any = decode_result(JSONSerializer(), "k", json.dumps(fields).encode()).error
    for _ in range(depth):
        found = found.__cause__
    assert found.args == ("first",)


def test_long_name_of_a_class_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def look_up(found: Any, part: str, default: None) -> None:
        looked_up.append(part)

    monkeypatch.setattr(inspect, "getattr_static", look_up)
    error = read(described(".".join("a" * 100_000), module="os"))
    assert type(error).__name__.startswith("a.a.a")
    assert len(looked_up) < 1000


def test_exceptions_of_a_huge_tree_are_left_out() -> None:
    def tree(levels: int) -> Any:
        if not levels:
            return None
        linked = {"exc_cause": tree(levels - 1), "exc_context": tree(levels - 1)}
        return described("Unknown", module="x", **linked)

    built: list[BaseException | None] = [read(tree(14))]
    for error in built:
        if error is not None:
            built += [error.__cause__, error.__context__]
    assert 1000 < sum(error is not None for error in built) <= task_errors.MAX_LINKED + 1


def test_exception_that_is_its_own_cause_is_read() -> None:
    """Serializers with references, such as CBOR, can write it."""
    error = described("ValueError", "x")
    error["exc_cause"] = error
    result = {"is_err": True, "return_value": None, "execution_time": 0.1, "error": error}

    class Cyclic(JSONSerializer):
        def loadb(self, value: bytes) -> Any:
            return result

    found = decode_result(Cyclic(), "k", b"").error
    assert isinstance(found, ValueError)
    assert isinstance(found.__cause__, ValueError)
