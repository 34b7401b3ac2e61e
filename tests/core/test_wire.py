"""Encoding and decoding: unsafe pickles, garbage, and shapes of replies."""

import contextlib
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.serializers import (
    CBORSerializer,
    JSONSerializer,
    MSGPackSerializer,
    ORJSONSerializer,
    PickleSerializer,
)

from taskiq_redis._core.plain_pickles import PlainPickleSerializer
from taskiq_redis._core.texts import REASON_WIDTH
from taskiq_redis._core.wire import (
    decode_progress,
    decode_result,
    decode_schedule,
    encode_progress,
    encode_result,
    encode_schedule,
    error_result,
)
from taskiq_redis.exceptions import (
    ResultDecodeError,
    ResultEncodeError,
    ScheduleDecodeError,
    ScheduleEncodeError,
)
from tests.core.pickles import ATTACKS, BOMBS, REFUSED, text

PLAIN = PlainPickleSerializer()


@pytest.mark.parametrize("data", [*ATTACKS.values(), *REFUSED.values()], ids=[*ATTACKS, *REFUSED])
def test_refused_pickle_raises_a_decode_error(data: bytes) -> None:
    with pytest.raises(ResultDecodeError, match="key 'k' can't be decoded as a result"):
        decode_result(PLAIN, "k", data)
    with pytest.raises(ResultDecodeError, match="key 'k' can't be decoded as a progress"):
        decode_progress(PLAIN, "k", data)
    with pytest.raises(ScheduleDecodeError, match="key 'k' can't be decoded as a schedule"):
        decode_schedule(PLAIN, "k", data)


def installed(*classes: type[TaskiqSerializer]) -> dict[str, TaskiqSerializer]:
    """Return instances of the serializers whose libraries are installed."""
    made: dict[str, TaskiqSerializer] = {}
    for kind in classes:
        with contextlib.suppress(ImportError):
            made[kind.__name__] = kind()
    return made


SERIALIZERS = installed(
    PlainPickleSerializer,
    PickleSerializer,
    JSONSerializer,
    ORJSONSerializer,
    MSGPackSerializer,
    CBORSerializer,
)


@pytest.fixture(params=SERIALIZERS)
def serializer(request: pytest.FixtureRequest) -> TaskiqSerializer:
    """Each serializer of taskiq whose library is installed, and ours."""
    return SERIALIZERS[request.param]


def result(value: Any = None, **more: Any) -> TaskiqResult[Any]:
    fields: dict[str, Any] = {"is_err": False, "log": "log", "labels": {"a": "1"}, **more}
    return TaskiqResult(return_value=value, execution_time=0.5, **fields)


def schedule(**when: Any) -> ScheduledTask:
    return ScheduledTask(
        task_name="task", labels={"a": "1"}, args=[1], kwargs={"k": [None]}, **when
    )


@pytest.mark.smoke
@pytest.mark.parametrize("value", [None, 1, 1.5, "ü☃", [1, {"a": None}], {"a": [True]}], ids=repr)
def test_result_round_trip(serializer: TaskiqSerializer, value: Any) -> None:
    raw = encode_result(serializer, "id", result(value))
    assert isinstance(raw, bytes)
    assert decode_result(serializer, "k", raw) == result(value)


def test_error_result_round_trip(serializer: TaskiqSerializer) -> None:
    failed = result(None, is_err=True, error=ValueError("bad", 42))
    read = decode_result(serializer, "k", encode_result(serializer, "id", failed))
    assert read.is_err
    assert isinstance(read.error, ValueError)
    assert read.error.args == ("bad", 42)


@pytest.mark.parametrize("meta", [None, {"percent": 5}, "half"], ids=repr)
def test_progress_round_trip(serializer: TaskiqSerializer, meta: Any) -> None:
    progress = TaskProgress(state="custom", meta=meta)
    raw = encode_progress(serializer, "id", progress)
    assert decode_progress(serializer, "k", raw) == progress


@pytest.mark.parametrize(
    "when",
    [
        {"cron": "* * * * *", "cron_offset": "Europe/Berlin"},
        {"cron": "* * * * *", "cron_offset": timedelta(hours=3)},
        {"interval": 30},
        {"interval": timedelta(minutes=2)},
        {"time": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)},
        {"time": datetime(2030, 1, 2, 3, 4, 5)},  # noqa: DTZ001 - it is UTC
    ],
    ids=repr,
)
def test_schedule_round_trip(serializer: TaskiqSerializer, when: dict[str, Any]) -> None:
    given = schedule(**when)
    assert decode_schedule(serializer, "k", encode_schedule(serializer, given)) == given


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "text": b"hello",
    "truncated text": b'{"is_err": fal',
    "not UTF-8": b'{"is_err": "\xff"}',
    "a number": b"1",
    "null": b"null",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "deep text": b"[" * 200_000,
    "a pickled list": pickle.dumps([1]),
    "a pickle without an end": pickle.dumps({"is_err": False})[:-1],
    "a pickle of an unknown protocol": b"\x80\xff.",
    "a pickle that takes from nothing": b"\x80\x04a.",
    "a pickle that remembers nothing": b"\x80\x04h\x07.",
    "a pickle with a frame that is too long": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "a pickle with a text that is too long": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0fx.",
    "a pickle with more bytes than there are": b"\x80\x05\x96" + (2**62).to_bytes(8, "little"),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_raises_a_decode_error(serializer: TaskiqSerializer, data: bytes) -> None:
    with pytest.raises(ResultDecodeError, match=r"key 'k'.*was not deleted"):
        decode_result(serializer, "k", data)
    with pytest.raises(ResultDecodeError, match=r"key 'k'.*was not deleted"):
        decode_progress(serializer, "k", data)
    with pytest.raises(ScheduleDecodeError, match="key 'k'"):
        decode_schedule(serializer, "k", data)


def test_truncated_result_raises_a_decode_error(serializer: TaskiqSerializer) -> None:
    raw = encode_result(serializer, "id", result({"a": [1, "b"]}))
    for length in range(len(raw)):
        with pytest.raises(ResultDecodeError):
            decode_result(serializer, "k", raw[:length])


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bomb_raises_a_decode_error(data: bytes) -> None:
    with pytest.raises(ResultDecodeError):
        decode_result(PLAIN, "k", data)
    with pytest.raises(ScheduleDecodeError):
        decode_schedule(PLAIN, "k", data)


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bomb_as_a_return_value_raises_a_decode_error(data: bytes) -> None:
    fields = pickle.dumps({"is_err": False, "execution_time": 0.5}, 4)
    raw = fields.removesuffix(b".") + text("return_value") + data[2:-1] + b"s."
    with pytest.raises(ResultDecodeError):
        decode_result(PLAIN, "k", raw)


def test_recursive_value_raises_an_encode_error(serializer: TaskiqSerializer) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ResultEncodeError):
        encode_result(serializer, "id", result(endless))


def test_deeply_nested_value_raises_an_encode_error(serializer: TaskiqSerializer) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(ResultEncodeError):
        encode_result(serializer, "id", result(deep))


@pytest.mark.parametrize(
    "value", [object(), b"\xff\x00", ValueError("x")], ids=["object", "bytes", "exception"]
)
def test_encode_error_has_the_task_or_schedule_id(serializer: TaskiqSerializer, value: Any) -> None:
    with pytest.raises(ResultEncodeError, match="result of task 'id' can't be serialized"):
        encode_result(serializer, "id", result(value))
    with pytest.raises(ResultEncodeError, match="progress of task 'id' can't be serialized"):
        encode_progress(serializer, "id", TaskProgress(state="x", meta=value))
    task = schedule(cron="* * * * *")
    task.args.append(value)
    with pytest.raises(ScheduleEncodeError, match=f"schedule '{task.schedule_id}' can't be"):
        encode_schedule(serializer, task)


class Broken(TaskiqSerializer):
    """A serializer that raises an exception."""

    def dumpb(self, value: Any) -> bytes:
        raise ZeroDivisionError("while writing")

    def loadb(self, value: bytes) -> Any:
        raise ZeroDivisionError("while reading")


@pytest.mark.smoke
def test_exception_of_the_serializer_is_the_cause() -> None:
    with pytest.raises(ResultEncodeError, match="ZeroDivisionError: while writing") as encode:
        encode_result(Broken(), "id", result())
    with pytest.raises(ResultDecodeError, match="ZeroDivisionError: while reading") as decode:
        decode_result(Broken(), "k", b"")
    assert isinstance(encode.value.__cause__, ZeroDivisionError)
    assert isinstance(decode.value.__cause__, ZeroDivisionError)


def test_reason_is_one_short_line() -> None:
    with pytest.raises(ResultDecodeError) as caught:
        decode_result(JSONSerializer(), "k", b"{}")
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < REASON_WIDTH + 50
    assert caught.value.reason.startswith("ValidationError: ")


class Text(JSONSerializer):
    """A serializer that returns str instead of bytes."""

    def dumpb(self, value: Any) -> Any:
        return super().dumpb(value).decode()


def test_str_from_a_serializer_or_client_is_encoded() -> None:
    raw = encode_result(Text(), "id", result("ü"))
    assert isinstance(raw, bytes)
    assert decode_result(Text(), "k", raw.decode()) == result("ü")


@pytest.mark.smoke
def test_error_result_of_a_result_that_can_not_be_encoded(serializer: TaskiqSerializer) -> None:
    bad = result(object(), labels={"a": "1", "b": 2})
    with pytest.raises(ResultEncodeError) as caught:
        encode_result(serializer, "id", bad)
    raw = encode_result(serializer, "id", error_result(bad, caught.value))
    read = decode_result(serializer, "k", raw)
    assert read.is_err
    assert read.return_value is None
    assert read.execution_time == bad.execution_time
    assert read.labels == {"a": "1", "b": "2"}
    assert isinstance(read.error, ValueError)
    assert "'id' can't be serialized" in str(read.error)


def test_labels_that_can_not_be_encoded_become_text(serializer: TaskiqSerializer) -> None:
    labels = {"count": 1, "text": b"abc", "code": b"\xff", "other": object}
    read = decode_result(
        serializer, "k", encode_result(serializer, "id", result([1], labels=labels))
    )
    assert (read.is_err, read.return_value) == (False, [1])
    assert read.labels == {
        "count": "1",
        "text": "YWJj",
        "code": "/w==",
        "other": "<class 'object'>",
    }
    # Labels that can be encoded are unchanged.
    raw = encode_result(serializer, "id", result(labels={"count": 1, "text": b"abc"}))
    assert decode_result(serializer, "k", raw).labels == {"count": 1, "text": "abc"}
