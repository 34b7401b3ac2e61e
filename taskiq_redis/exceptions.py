"""The exceptions of this package. Their texts say what happened, where, and what to do."""

from functools import partial
from pickle import UnpicklingError
from typing import Any

from redis import exceptions as redis_errors
from taskiq.exceptions import (
    ResultBackendError,
    ResultGetError,
    ResultIsReadyError,
    ResultSetError,
    SendTaskError,
    TaskiqError,
    TaskiqResultTimeoutError,
)

__all__ = [
    "ArgumentEncodeError",
    "CommandRefusedError",
    "DeadLetterError",
    "DuplicateExpireTimeSelectedError",
    "ExpireTimeMustBeMoreThanZeroError",
    "InvalidOptionError",
    "InvalidScheduleError",
    "NeedsRedisError",
    "NoBlockingTwinError",
    "RefusedExceptionError",
    "ResultDecodeError",
    "ResultEncodeError",
    "ResultIsMissingError",
    "ResultNotReadError",
    "ResultStateUnknownError",
    "ScheduleDecodeError",
    "ScheduleEncodeError",
    "ServerUnavailableError",
    "SignatureError",
    "TaskIQRedisError",
    "TaskNotRunError",
    "TaskNotSentError",
    "UnexpectedPickleError",
    "UnsafeBytesError",
    "ValueTooLargeError",
    "WrongKeyTypeError",
]


class TaskIQRedisError(TaskiqError):
    """The base class of all exceptions of this package.

    Its `args` are its text, and its fields if it has any; calling the class with them makes an
    equal exception. taskiq does that with the exceptions in results.

    Args:
        args: the `args` of another exception, instead of the fields.
        fields: the fields.
    """

    def __init__(self, *args: Any, **fields: Any) -> None:
        if args:
            if fields or not isinstance(args[0], str):
                raise TypeError(f"{type(self).__name__} takes keyword arguments only")
            # Another version of this package may have had more fields.
            known = self._collect_annotations()
            given = args[1] if len(args) > 1 and isinstance(args[1], dict) else {}
            fields = {name: value for name, value in given.items() if name in known}
        super().__init__(**fields)
        if fields:
            self.args: tuple[Any, ...] = (*self.args, fields)

    def __str__(self) -> str:
        """Return the text."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copy and pickle, which taskiq's exceptions don't."""
        kinds = type(self).__mro__
        names = {name for kind in kinds for name in getattr(kind, "__annotations__", {})}
        return partial(type(self), **{name: getattr(self, name) for name in names}), ()


class InvalidOptionError(TaskIQRedisError, ValueError):
    """An option, a name or an ID is invalid."""

    __template__ = "Invalid option `{option}`: {problem}. {advice}"
    option: str
    problem: str
    advice: str


class DuplicateExpireTimeSelectedError(ResultBackendError, TaskIQRedisError):
    """Both expiry options of a result backend are set."""

    __template__ = "Both `result_ex_time` and `result_px_time` are set. Give one of them."


class ExpireTimeMustBeMoreThanZeroError(ResultBackendError, TaskIQRedisError):
    """An expiry option of a result backend is zero or negative."""

    __template__ = (
        "`result_ex_time` and `result_px_time` must be more than zero. "
        "Leave both out to keep results forever."
    )


class NeedsRedisError(TaskIQRedisError, RuntimeError):
    """In a test without Redis, a method was called that only works with Redis."""

    __template__ = (
        "`{method}` of {owner} needs Redis, which this test doesn't use: `swapped` has replaced it."
    )
    owner: str
    method: str


class NoBlockingTwinError(TaskIQRedisError, TypeError):
    """An object, or one of its options, has no blocking twin."""

    __template__ = "{what} has no blocking twin. {advice}"
    what: str
    advice: str


class ServerUnavailableError(TaskIQRedisError, redis_errors.ConnectionError):
    """Redis could not be reached, or could not execute a command, until the retry timeout.

    It is also a ``redis.exceptions.ConnectionError``, so code that catches that keeps working.
    """

    __template__ = "{server} {problem}: {reason}. {advice}"
    server: str
    reason: str
    problem: str = "did not answer"
    advice: str = (
        "Check that the server runs, its address, the network, and that both sides use TLS or "
        "neither does."
    )


class CommandRefusedError(TaskIQRedisError, redis_errors.ResponseError):
    """Redis replied to a command with an error that a retry doesn't fix.

    It is also a ``redis.exceptions.ResponseError``, so code that catches that keeps working.
    """

    __template__ = "{server} refused a command: {reason}. {advice}"
    server: str
    reason: str
    advice: str


class WrongKeyTypeError(CommandRefusedError):
    """A key holds a value of another type than the command needs."""


class ValueTooLargeError(CommandRefusedError):
    """A result, message or schedule is longer than the server accepts, or can deliver."""


class TaskNotSentError(TaskIQRedisError, SendTaskError):
    """A task could not be sent; its cause is the original error."""

    __template__ = "Cannot send task to the queue: {reason}"
    reason: str


class ArgumentEncodeError(TaskIQRedisError, SendTaskError, ValueError):
    """An argument of a task can't be serialized, so the task isn't sent."""

    __template__ = (
        "The argument {argument!r} of the task {task_name!r} can't be serialized: {reason}. "
        "Send plain values, or give the broker a serializer that supports this type."
    )
    task_name: str
    argument: str
    reason: str


class DeadLetterError(TaskIQRedisError):
    """A task was moved to the dead letters: too many workers failed to acknowledge it."""

    __template__ = (
        "{deliveries} workers received the task and none acknowledged it; the last was "
        "{consumer!r}. Its message {entry_id!r} is in the dead letters of the queue "
        "{queue_name!r}: see `dead_letters()` of the broker."
    )
    deliveries: int
    consumer: str
    entry_id: str
    queue_name: str


class UnsafeBytesError(TaskIQRedisError):
    """Pickled bytes would import or call something; they are not loaded."""

    __template__ = (
        "The pickle would import {name}, but only plain values are read. If you trust everyone who "
        "can write to this Redis, pass `serializer=PickleSerializer()`."
    )
    name: str


class UnexpectedPickleError(UnsafeBytesError, UnpicklingError):
    """Pickled bytes have values that this package doesn't write; they are not loaded."""

    __template__ = (
        "The pickle {problem}, but only plain values are read. If you trust everyone who can write "
        "to this Redis, pass `serializer=PickleSerializer()`."
    )
    problem: str
    name: str = ""


class RefusedExceptionError(TaskIQRedisError):
    """A task failed with an exception that its result must not raise."""

    __template__ = (
        "The task failed with {name}{arguments}, which isn't raised, since its class isn't one of "
        "`allowed_exceptions` of the result backend."
    )
    name: str
    arguments: str


class SignatureError(TaskIQRedisError):
    """The signature of a value in Redis is missing, malformed or wrong, so it is not used."""

    __template__ = "The {purpose} in {name!r} is refused: {problem}."
    purpose: str
    name: str
    problem: str


class ResultIsMissingError(TaskIQRedisError, ResultGetError):
    """There is no result with this task ID."""

    __template__ = "There is no result in the key {key!r}: not ready, expired, or deleted."
    key: str = "?"


class TaskNotRunError(TaskIQRedisError, TaskiqResultTimeoutError):
    """In a test without Redis, a task was sent, but doesn't run; so waiting would not end."""

    __template__ = "The task {task_id} has no result, and will get none: {reason}."
    task_id: str
    reason: str


class ResultNotReadError(TaskIQRedisError, ResultGetError):
    """The result of a task is missing or can't be read; its cause is the original error."""

    __template__ = "Cannot get result for the task: {reason}"
    reason: str


class ResultStateUnknownError(TaskIQRedisError, ResultIsReadyError):
    """It is unknown whether a task has a result; its cause is the original error."""

    __template__ = "Cannot find out if the task is ready: {reason}"
    reason: str


class ResultDecodeError(TaskIQRedisError, ResultGetError):
    """A stored value isn't a result or progress. It is not deleted."""

    __template__ = (
        "The value of the key {key!r} can't be decoded as a {kind}: {reason}. It was not deleted. "
        "Check that writer and reader use the same serializer and prefix."
    )
    key: str
    kind: str
    reason: str


class ResultEncodeError(TaskIQRedisError, ResultSetError):
    """A result or progress can't be serialized."""

    __template__ = (
        "The {kind} of task {task_id!r} can't be serialized: {reason}. "
        "Return plain values, or give the result backend a serializer that supports this type."
    )
    kind: str
    task_id: str
    reason: str


class ScheduleDecodeError(TaskIQRedisError):
    """A stored value isn't a schedule. It is not deleted."""

    __template__ = (
        "The value of the key {key!r} can't be decoded as a schedule: {reason}. "
        "Check that writer and reader use the same serializer and prefix."
    )
    key: str
    reason: str


class ScheduleEncodeError(TaskIQRedisError):
    """A schedule can't be serialized."""

    __template__ = (
        "The schedule {schedule_id!r} can't be serialized: {reason}. "
        "Use plain arguments, or give the schedule source a serializer that supports this type."
    )
    schedule_id: str
    reason: str


class InvalidScheduleError(TaskIQRedisError, ValueError):
    """A schedule would stop taskiq's scheduler, or can't have its ID."""

    __template__ = (
        "The schedule {schedule_id!r} is refused, because of its {field}: {reason}. "
        "Correct it, and add it again."
    )
    schedule_id: str
    field: str
    reason: str
