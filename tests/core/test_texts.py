"""Descriptions of values and errors are short, and have no values."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from taskiq.serializers import JSONSerializer

from taskiq_redis._core.texts import brief, describe_error, one_line, quote
from taskiq_redis._core.wire import decode_progress, decode_result, decode_schedule
from taskiq_redis.exceptions import ResultDecodeError, ScheduleDecodeError

SECRET = "a secret value"


class Loud:
    """A value whose repr must not be made."""

    def __repr__(self) -> str:
        pytest.fail("the repr of a value was made")


class Values(JSONSerializer):
    """A serializer that returns what the test gives it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value

    def loadb(self, value: bytes) -> Any:
        return self._value


def test_quote_is_short() -> None:
    assert quote("ü'") == repr("ü'")
    assert quote(10**9) == "1000000000"
    assert quote(1 << 10**7) == "<10,000,001 bits>"
    assert quote(b"abc") == "<3 bytes>"
    for long in ("x" * 10**6, ["x" * 10**6] * 100, {"x" * 10**6: 1}):
        assert len(quote(long)) < 1000


def test_brief_and_one_line_are_short() -> None:
    assert brief("schedule:data:1") == "schedule:data:1"
    assert "1,000,000 characters" in brief("x" * 10**6)
    assert len(one_line("x y\n" * 10**6)) < 400
    assert "\n" not in one_line("a\nb")


def test_validation_error_is_described_without_its_input() -> None:
    class Model(BaseModel):
        a: int
        b: list[int]

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"a": SECRET, "b": [1, SECRET]})
    text = describe_error(caught.value)
    assert text.startswith("ValidationError: a: Input should be a valid integer")
    assert "b.1: " in text
    assert SECRET not in text


@pytest.mark.parametrize("error", [KeyError(SECRET), ValueError([SECRET]), RuntimeError(b"x", 1)])
def test_error_with_a_value_is_described_by_its_type(error: Exception) -> None:
    assert describe_error(error) == type(error).__name__


def test_error_with_a_text_is_described_by_it() -> None:
    assert describe_error(ValueError("too long")) == "ValueError: too long"
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(SECRET)
    assert SECRET not in describe_error(caught.value)


BAD: list[Any] = [
    {"is_err": Loud(), "execution_time": Loud(), "state": Loud(), "task_name": Loud()},
    {"is_err": [SECRET], "state": [SECRET], "task_name": [SECRET], "return_value": Loud()},
    Loud(),
    [Loud()],
    SECRET,
]


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_decode_error_quotes_no_value(value: Any) -> None:
    for decode, kind in (
        (decode_result, ResultDecodeError),
        (decode_progress, ResultDecodeError),
        (decode_schedule, ScheduleDecodeError),
    ):
        with pytest.raises(kind) as caught:
            decode(Values(value), "k", b"")
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in str(error)
            assert not isinstance(error, ValidationError)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_value_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(ResultDecodeError, match="its 11 bytes are more than `max_value_size`, 10"):
        decode_result(Values(Loud()), "k", b"x" * 11, max_size=10)
    with pytest.raises(ResultDecodeError, match="more than `max_value_size`"):
        decode_progress(Values(Loud()), "k", b"x" * 11, max_size=10)
    with pytest.raises(ScheduleDecodeError, match="more than `max_value_size`"):
        decode_schedule(Values(Loud()), "k", b"x" * 11, max_size=10)


@pytest.mark.parametrize("convert", [int, float, date.fromisoformat])
@pytest.mark.parametrize("text", [SECRET, f"{SECRET}'s"])
def test_failed_conversion_is_described_without_the_text(
    convert: Callable[[str], Any], text: str
) -> None:
    with pytest.raises(ValueError, match=SECRET) as caught:
        convert(text)
    described = describe_error(caught.value)
    assert described.startswith("ValueError: ")
    assert len(described) > len("ValueError: ...")
    assert SECRET not in described


def test_many_invalid_fields_are_only_counted() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[int]).validate_python(["x"] * 5000)
    assert describe_error(caught.value) == "ValidationError: 5,000 invalid fields"
