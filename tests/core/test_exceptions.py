"""The exceptions: their texts, their base classes, copy and pickle."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from redis import exceptions as redis_errors
from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.exceptions import (
    ResultBackendError,
    ResultGetError,
    ResultIsReadyError,
    ResultSetError,
    SendTaskError,
    TaskiqError,
)
from taskiq.serializers import JSONSerializer, PickleSerializer

from taskiq_redis import exceptions
from taskiq_redis._core.plain_pickles import PlainPickleSerializer
from taskiq_redis.exceptions import (
    ArgumentEncodeError,
    CommandRefusedError,
    DeadLetterError,
    DuplicateExpireTimeSelectedError,
    ExpireTimeMustBeMoreThanZeroError,
    InvalidOptionError,
    InvalidScheduleError,
    NeedsRedisError,
    NoBlockingTwinError,
    RefusedExceptionError,
    ResultDecodeError,
    ResultEncodeError,
    ResultIsMissingError,
    ResultNotReadError,
    ResultStateUnknownError,
    ScheduleDecodeError,
    ScheduleEncodeError,
    ServerUnavailableError,
    SignatureError,
    TaskIQRedisError,
    TaskNotRunError,
    TaskNotSentError,
    UnexpectedPickleError,
    UnsafeBytesError,
    ValueTooLargeError,
    WrongKeyTypeError,
)

#: exception, fields, text
TEXTS: list[tuple[type[TaskIQRedisError], dict[str, Any], str]] = [
    (
        InvalidOptionError,
        {"option": "o", "problem": "it is wrong", "advice": "Mend it."},
        "Invalid option `o`: it is wrong. Mend it.",
    ),
    (
        InvalidScheduleError,
        {"schedule_id": "s", "field": "cron", "reason": "it has four fields"},
        (
            "The schedule 's' is refused, because of its cron: it has four fields. "
            "Correct it, and add it again."
        ),
    ),
    (
        TaskNotSentError,
        {"reason": "Redis did not answer."},
        "Cannot send task to the queue: Redis did not answer.",
    ),
    (
        ArgumentEncodeError,
        {"task_name": "m:t", "argument": "day", "reason": "it is a value of type date"},
        (
            "The argument 'day' of the task 'm:t' can't be serialized: it is a value of type date. "
            "Send plain values, or give the broker a serializer that supports this type."
        ),
    ),
    (
        ResultNotReadError,
        {"reason": "There is none."},
        "Cannot get result for the task: There is none.",
    ),
    (
        ResultStateUnknownError,
        {"reason": "Redis did not answer."},
        "Cannot find out if the task is ready: Redis did not answer.",
    ),
    (
        DeadLetterError,
        {"deliveries": 5, "consumer": "c", "entry_id": "1-0", "queue_name": "q"},
        (
            "5 workers received the task and none acknowledged it; the last was 'c'. Its message "
            "'1-0' is in the dead letters of the queue 'q': see `dead_letters()` of the broker."
        ),
    ),
    (
        DuplicateExpireTimeSelectedError,
        {},
        "Both `result_ex_time` and `result_px_time` are set. Give one of them.",
    ),
    (
        ExpireTimeMustBeMoreThanZeroError,
        {},
        (
            "`result_ex_time` and `result_px_time` must be more than zero. "
            "Leave both out to keep results forever."
        ),
    ),
    (
        NoBlockingTwinError,
        {"what": "A Thing", "advice": "Give another."},
        "A Thing has no blocking twin. Give another.",
    ),
    (
        NeedsRedisError,
        {"owner": "<A Broker>", "method": "listen"},
        (
            "`listen` of <A Broker> needs Redis, which this test doesn't use: `swapped` has "
            "replaced it."
        ),
    ),
    (
        TaskNotRunError,
        {"task_id": "id", "reason": "it was only recorded"},
        "The task id has no result, and will get none: it was only recorded.",
    ),
    (
        ServerUnavailableError,
        {"server": "Redis", "reason": "LOADING", "problem": "can't do it", "advice": "Wait."},
        "Redis can't do it: LOADING. Wait.",
    ),
    (
        CommandRefusedError,
        {"server": "Redis", "reason": "NOPERM", "advice": "Ask."},
        "Redis refused a command: NOPERM. Ask.",
    ),
    (
        WrongKeyTypeError,
        {"server": "Redis", "reason": "WRONGTYPE", "advice": "Delete it."},
        "Redis refused a command: WRONGTYPE. Delete it.",
    ),
    (
        ValueTooLargeError,
        {"server": "Redis", "reason": "6 bytes", "advice": "Send less."},
        "Redis refused a command: 6 bytes. Send less.",
    ),
    (
        UnsafeBytesError,
        {"name": "os.system"},
        (
            "The pickle would import os.system, but only plain values are read. If you trust "
            "everyone who can write to this Redis, pass `serializer=PickleSerializer()`."
        ),
    ),
    (
        UnexpectedPickleError,
        {"problem": "has a key of type int"},
        (
            "The pickle has a key of type int, but only plain values are read. If you trust "
            "everyone who can write to this Redis, pass `serializer=PickleSerializer()`."
        ),
    ),
    (
        RefusedExceptionError,
        {"name": "builtins.SystemExit", "arguments": "(1,)"},
        (
            "The task failed with builtins.SystemExit(1,), which isn't raised, since its class "
            "isn't one of `allowed_exceptions` of the result backend."
        ),
    ),
    (
        SignatureError,
        {"purpose": "message", "name": "q", "problem": "it is not signed"},
        "The message in 'q' is refused: it is not signed.",
    ),
    (
        ResultIsMissingError,
        {"key": "p:id"},
        "There is no result in the key 'p:id': not ready, expired, or deleted.",
    ),
    (
        ResultDecodeError,
        {"key": "p:id", "kind": "progress", "reason": "ValueError: x"},
        (
            "The value of the key 'p:id' can't be decoded as a progress: ValueError: x. "
            "It was not deleted. Check that writer and reader use the same serializer and prefix."
        ),
    ),
    (
        ResultEncodeError,
        {"kind": "result", "task_id": "id", "reason": "TypeError: x"},
        (
            "The result of task 'id' can't be serialized: TypeError: x. "
            "Return plain values, or give the result backend a serializer that supports this type."
        ),
    ),
    (
        ScheduleDecodeError,
        {"key": "schedule:data:id", "reason": "ValueError: x"},
        (
            "The value of the key 'schedule:data:id' can't be decoded as a schedule: ValueError: x. "
            "Check that writer and reader use the same serializer and prefix."
        ),
    ),
    (
        ScheduleEncodeError,
        {"schedule_id": "id", "reason": "TypeError: x"},
        (
            "The schedule 'id' can't be serialized: TypeError: x. "
            "Use plain arguments, or give the schedule source a serializer that supports this type."
        ),
    ),
]


def test_default_text_of_server_unavailable() -> None:
    assert str(ServerUnavailableError(server="Redis at redis://h", reason="refused")) == (
        "Redis at redis://h did not answer: refused. Check that the server runs, its address, the "
        "network, and that both sides use TLS or neither does."
    )


EACH = pytest.mark.parametrize(
    ("kind", "fields", "text"), TEXTS, ids=[kind.__name__ for kind, _, _ in TEXTS]
)


def test_every_exception_is_public_described_and_tested() -> None:
    defined = {
        name
        for name, kind in vars(exceptions).items()
        if inspect.isclass(kind) and kind.__module__ == exceptions.__name__
    }
    assert sorted(defined) == exceptions.__all__
    assert defined - {kind.__name__ for kind, _, _ in TEXTS} == {"TaskIQRedisError"}
    assert all(getattr(exceptions, name).__doc__ for name in defined)


@pytest.mark.smoke
@EACH
def test_text_and_fields(kind: type[TaskIQRedisError], fields: dict[str, Any], text: str) -> None:
    error = kind(**fields)
    assert str(error) == text
    for name, value in fields.items():
        assert getattr(error, name) == value


@EACH
def test_base_classes_of_all_exceptions(
    kind: type[TaskIQRedisError], fields: dict[str, Any], text: str
) -> None:
    error = kind(**fields)
    assert isinstance(error, TaskIQRedisError)
    assert isinstance(error, TaskiqError)


@EACH
def test_braces_in_a_field_are_not_formatted(
    kind: type[TaskIQRedisError], fields: dict[str, Any], text: str
) -> None:
    error = kind(**dict.fromkeys(fields, "{queue} {0} %s"))
    for value in fields:
        assert getattr(error, value) == "{queue} {0} %s"
    assert str(error).count("{queue} {0} %s") == len(fields)


@EACH
def test_missing_and_unknown_fields_are_refused(
    kind: type[TaskIQRedisError], fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError):
        kind(unknown="x")
    if fields and kind is not ResultIsMissingError:
        with pytest.raises(TypeError):
            kind()


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (InvalidOptionError, {ValueError}),
        (NoBlockingTwinError, {TypeError}),
        (ServerUnavailableError, {redis_errors.ConnectionError}),
        (CommandRefusedError, {redis_errors.ResponseError}),
        (WrongKeyTypeError, {CommandRefusedError, redis_errors.ResponseError}),
        (ValueTooLargeError, {CommandRefusedError, redis_errors.ResponseError}),
        (DuplicateExpireTimeSelectedError, {ResultBackendError}),
        (ExpireTimeMustBeMoreThanZeroError, {ResultBackendError}),
        (ResultIsMissingError, {ResultGetError}),
        (ResultNotReadError, {ResultGetError}),
        (ResultStateUnknownError, {ResultIsReadyError}),
        (TaskNotSentError, {SendTaskError}),
        (ArgumentEncodeError, {SendTaskError, ValueError}),
        (ResultDecodeError, {ResultGetError}),
        (UnexpectedPickleError, {UnsafeBytesError, pickle.UnpicklingError}),
        (ResultEncodeError, {ResultSetError}),
    ],
)
def test_exceptions_have_the_base_classes_that_users_catch(
    kind: type[Exception], bases: set[type[Exception]]
) -> None:
    assert all(issubclass(kind, base) for base in bases)


@pytest.mark.smoke
def test_exceptions_of_1_2_4_can_be_raised_without_arguments() -> None:
    for kind in (
        TaskIQRedisError,
        DuplicateExpireTimeSelectedError,
        ExpireTimeMustBeMoreThanZeroError,
        ResultIsMissingError,
    ):
        with pytest.raises(kind):
            raise kind
    assert "'?'" in str(ResultIsMissingError())


@pytest.mark.parametrize("kind", [ServerUnavailableError, CommandRefusedError])
def test_repr_of_exceptions_derived_from_redis_py(kind: type[TaskIQRedisError]) -> None:
    (fields,) = [fields for known, fields, _ in TEXTS if known is kind]
    assert f"{kind.__name__}(server='{fields['server']}'" in repr(kind(**fields))


def in_result(error: BaseException, *serializers: TaskiqSerializer) -> BaseException:
    """Return an exception as a reader gets it that was stored in a result."""
    stored: Any = TaskiqResult(is_err=True, return_value=None, execution_time=0, error=error)
    for serializer in serializers:
        stored = serializer.loadb(serializer.dumpb(stored.model_dump(mode="json")))
        stored = TaskiqResult[Any].model_validate(stored)
    found: BaseException = stored.error
    return found


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "args": lambda error: type(error)(*error.args),
    "result in JSON": lambda error: in_result(error, JSONSerializer()),
    "result in a pickle": lambda error: in_result(error, PlainPickleSerializer()),
    "pickled result": lambda error: (
        pickle.loads(
            pickle.dumps(
                TaskiqResult(is_err=True, return_value=None, execution_time=0, error=error)
            )
        ).error
    ),
    "two results": lambda error: in_result(error, JSONSerializer(), PickleSerializer()),
}


@pytest.mark.parametrize("way", WAYS)
@EACH
def test_exceptions_round_trip(
    kind: type[TaskIQRedisError], fields: dict[str, Any], text: str, way: str
) -> None:
    error = kind(**fields)
    same = WAYS[way](error)
    assert type(same) is kind
    assert str(same) == text
    assert repr(same) == repr(error)
    for name, value in fields.items():
        assert getattr(same, name) == value


def test_causes_of_exceptions_in_results_round_trip() -> None:
    error = CommandRefusedError(server="Redis", reason="NOPERM", advice="Ask.")
    error.__cause__ = ResultIsMissingError(key="k")
    same = in_result(error, JSONSerializer())
    assert isinstance(same.__cause__, ResultIsMissingError)
    assert same.__cause__.key == "k"


def test_fields_of_another_version_are_ignored() -> None:
    kind: Any = ResultIsMissingError
    error = kind("text", {"key": "k", "added later": 1})
    assert str(error) == "There is no result in the key 'k': not ready, expired, or deleted."


def test_reader_without_the_class_sees_the_text() -> None:
    error = ResultIsMissingError(key="k")
    assert str(error) in str(Exception(*error.args))


@pytest.mark.parametrize("args", [("text", {}), ("text",), (1,)])
def test_arguments_without_required_fields_are_refused(args: tuple[Any, ...]) -> None:
    kind: Any = DeadLetterError
    with pytest.raises(TypeError):
        kind(*args)
