"""Every error that this package raises; each says what happened, where, and what to do."""

from functools import partial
from typing import Any

from redis import exceptions as redis_errors
from taskiq.exceptions import (
    ResultBackendError,
    ResultGetError,
    ResultSetError,
    TaskiqError,
)

__all__ = [
    "CommandRefusedError",
    "DeadLetterError",
    "DuplicateExpireTimeSelectedError",
    "ExpireTimeMustBeMoreThanZeroError",
    "InvalidOptionError",
    "NoBlockingTwinError",
    "ResultDecodeError",
    "ResultEncodeError",
    "ResultIsMissingError",
    "ScheduleDecodeError",
    "ScheduleEncodeError",
    "ServerUnavailableError",
    "TaskIQRedisError",
    "UnsafeBytesError",
    "ValueTooLargeError",
    "WrongKeyTypeError",
]


class TaskIQRedisError(TaskiqError):
    """The base of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error be copied and pickled, which taskiq's errors can't be."""
        kinds = type(self).__mro__
        names = {name for kind in kinds for name in getattr(kind, "__annotations__", {})}
        return partial(type(self), **{name: getattr(self, name) for name in names}), ()


class InvalidOptionError(TaskIQRedisError, ValueError):
    """An option, a name or an id has a value that can't work."""

    __template__ = "Invalid option `{option}`: {problem}. {advice}"
    option: str
    problem: str
    advice: str


class DuplicateExpireTimeSelectedError(ResultBackendError, TaskIQRedisError):
    """Both expiry options of a result backend were given."""

    __template__ = "Both `result_ex_time` and `result_px_time` are set. Give one of them."


class ExpireTimeMustBeMoreThanZeroError(ResultBackendError, TaskIQRedisError):
    """An expiry option of a result backend is zero or negative."""

    __template__ = (
        "`result_ex_time` and `result_px_time` must be more than zero. "
        "Leave both out to keep results for ever."
    )


class NoBlockingTwinError(TaskIQRedisError, TypeError):
    """An object, or one of its options, has no blocking form."""

    __template__ = "{what} has no blocking twin. {advice}"
    what: str
    advice: str


class ServerUnavailableError(TaskIQRedisError, redis_errors.ConnectionError):
    """Redis could not be reached, or couldn't do it, for as long as the call may wait.

    It is a ``redis.exceptions.ConnectionError`` too, so code that catches that keeps working.
    """

    __template__ = "{server} {problem}: {reason}. {advice}"
    server: str
    reason: str
    problem: str = "did not answer"
    advice: str = (
        "Check that it runs, that the address is right, that the network lets us through, and that "
        "both sides use TLS or neither does."
    )


class CommandRefusedError(TaskIQRedisError, redis_errors.ResponseError):
    """Redis answered a command with an error that trying again doesn't mend.

    It is a ``redis.exceptions.ResponseError`` too, so code that catches that keeps working.
    """

    __template__ = "{server} refused a command: {reason}. {advice}"
    server: str
    reason: str
    advice: str


class WrongKeyTypeError(CommandRefusedError):
    """A key that this package uses holds a value of another type."""


class ValueTooLargeError(CommandRefusedError):
    """A result, a message or a schedule has more bytes than the server takes in one piece."""


class DeadLetterError(TaskIQRedisError):
    """A task is not run any more, as each worker that had it died or failed to acknowledge it."""

    __template__ = (
        "{deliveries} workers had the task and none has finished it; the last was {consumer!r}. "
        "Its message {entry_id!r} is among the dead letters of the queue {queue_name!r}: see the "
        "broker's `dead_letters()`."
    )
    deliveries: int
    consumer: str
    entry_id: str
    queue_name: str


class UnsafeBytesError(TaskIQRedisError):
    """Pickled bytes name something to import or to call; they are refused, not run."""

    __template__ = (
        "The pickle asks for {name}, and only plain values are read. "
        "If you trust who writes to this Redis, pass `serializer=PickleSerializer()`."
    )
    name: str


class ResultIsMissingError(TaskIQRedisError, ResultGetError):
    """There is no result under this task id (yet, or no longer)."""

    __template__ = "There is no result at the key {key!r}: not ready, expired, or already read."
    key: str = "?"


class ResultDecodeError(TaskIQRedisError, ResultGetError):
    """The bytes of a result or a progress are corrupt or foreign; they stay where they are."""

    __template__ = (
        "The value at the key {key!r} can't be read as a {kind}: {reason}. It was left untouched. "
        "Check that writer and reader use the same serializer and prefix."
    )
    key: str
    kind: str
    reason: str


class ResultEncodeError(TaskIQRedisError, ResultSetError):
    """A result or a progress can't be turned into bytes."""

    __template__ = (
        "The {kind} of task {task_id!r} can't be serialized: {reason}. "
        "Return plain values, or give the backend a serializer that knows this type."
    )
    kind: str
    task_id: str
    reason: str


class ScheduleDecodeError(TaskIQRedisError):
    """The bytes of a schedule are corrupt or foreign; they stay where they are."""

    __template__ = (
        "The value at the key {key!r} can't be read as a schedule: {reason}. "
        "Check that writer and reader use the same serializer and prefix."
    )
    key: str
    reason: str


class ScheduleEncodeError(TaskIQRedisError):
    """A schedule can't be turned into bytes."""

    __template__ = (
        "The schedule {schedule_id!r} can't be serialized: {reason}. "
        "Give its task plain arguments, or give the source a serializer that knows this type."
    )
    schedule_id: str
    reason: str
