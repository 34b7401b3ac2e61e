"""Encode and decode results, progress, schedules and stream entries."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from pydantic import ValidationError
from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.labels import prepare_label
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.arguments import find_failing, named_arguments
from taskiq_redis._core.plain_pickles import MAX_SIZE, PlainPickleSerializer
from taskiq_redis._core.task_errors import Allowed, rebuild_error
from taskiq_redis._core.texts import brief, describe_error
from taskiq_redis.exceptions import (
    ResultDecodeError,
    ResultEncodeError,
    ScheduleDecodeError,
    ScheduleEncodeError,
)

#: maximum of the sequence number in an entry ID
_MAX_SEQUENCE = 2**64 - 1
#: maximum number of digits of each number in an entry ID
_ID_DIGITS = 20
#: the largest entry ID, after which Redis adds no other
LARGEST_ID = f"{_MAX_SEQUENCE}-{_MAX_SEQUENCE}"


# Looking them up each time would take longer than validating a small result.
_AnyResult, _AnyProgress = TaskiqResult[Any], TaskProgress[Any]


class StreamEntry(NamedTuple):
    """An entry of a stream, without fields if it was deleted after its delivery."""

    stream: str
    id: str
    fields: dict[str, bytes]


def as_bytes(value: bytes | str) -> bytes:
    """Return a reply as bytes, also with ``decode_responses=True``."""
    return value.encode() if isinstance(value, str) else value


def as_str(value: bytes | str) -> str:
    """Return a reply as text, with escapes for invalid UTF-8."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def text_pairs(flat: Sequence[bytes | str]) -> list[tuple[str, str]]:
    """Return the pairs in a reply that has names and values in turn, such as that of HGETALL."""
    texts = list(map(as_str, flat))
    return list(zip(texts[::2], texts[1::2], strict=True))


def serializer_for(given: TaskiqSerializer | None, max_size: int | None) -> TaskiqSerializer:
    """Return the serializer that the user gave, or else the default one.

    Args:
        given: the option of the user.
        max_size: bytes; maximum length of a value, None for no limit.
    """
    return PlainPickleSerializer(max_size) if given is None else given


def encode_result(
    serializer: TaskiqSerializer,
    task_id: str,
    result: TaskiqResult[Any],
    max_size: int | None = MAX_SIZE,
) -> bytes:
    """Encode a result, or raise `ResultEncodeError`."""
    with suppress(ResultEncodeError):
        return _encode_value(serializer, task_id, "result", result, max_size)
    # The reason may be a label, such as bytes, which must not cost the return value.
    plain = result.model_copy(update={"labels": _labels_as_text(result.labels)})
    return _encode_value(serializer, task_id, "result", plain, max_size)


def encode_progress(
    serializer: TaskiqSerializer,
    task_id: str,
    progress: TaskProgress[Any],
    max_size: int | None = MAX_SIZE,
) -> bytes:
    """Encode a progress, or raise `ResultEncodeError`."""
    return _encode_value(serializer, task_id, "progress", progress, max_size)


def _encode_value(
    serializer: TaskiqSerializer,
    task_id: str,
    kind: str,
    value: "TaskiqResult[Any] | TaskProgress[Any]",
    max_size: int | None,
) -> bytes:
    try:
        data = as_bytes(serializer.dumpb(value.model_dump(mode="json")))
        # Otherwise, it could be stored, but not read.
        _check_size(data, max_size)
    except Exception as error:  # a serializer may raise anything
        raise ResultEncodeError(kind=kind, task_id=task_id, reason=describe_error(error)) from error
    return data


def _check_size(data: bytes, max_size: int | None) -> bytes:
    if max_size is not None and len(data) > max_size:
        raise ValueError(f"its {len(data):,} bytes are more than `max_value_size`, {max_size:,}")
    return data


def _labels_as_text(labels: Mapping[str, Any]) -> dict[str, str]:
    """Convert labels to text as taskiq does in messages: base64 for bytes."""
    return {str(name): prepare_label(value)[0] for name, value in labels.items()}


def error_result(result: TaskiqResult[Any], error: Exception) -> TaskiqResult[Any]:
    """Return the result to store in place of one that could not be stored.

    Args:
        result: the original result.
        error: why it could not be stored. Only its text is kept, as the reason may be an exception
            that can't be serialized.
    """
    return TaskiqResult(
        is_err=True,
        log=None,
        return_value=None,
        execution_time=result.execution_time,
        labels=_labels_as_text(result.labels),
        error=ValueError(str(error)),
    )


def decode_result(
    serializer: TaskiqSerializer,
    key: str,
    raw: bytes | str,
    max_size: int | None = MAX_SIZE,
    allowed: Allowed = (Exception,),
) -> TaskiqResult[Any]:
    """Decode a result, or raise `ResultDecodeError`.

    Args:
        serializer: turns bytes into values.
        key: Redis key, for error messages.
        raw: the bytes.
        max_size: bytes; maximum length, None for no limit.
        allowed: classes of exceptions that the result may raise.
    """
    try:
        value = serializer.loadb(_check_size(as_bytes(raw), max_size))
        if isinstance(value, dict) and value.get("error") is not None:
            value = {**value, "error": rebuild_error(value["error"], allowed)}
        return _AnyResult.model_validate(value)
    except Exception as raised:  # noqa: BLE001 - corrupt bytes may raise anything
        error = raised
    raise ResultDecodeError(
        key=brief(key), kind="result", reason=describe_error(error)
    ) from _cause(error)


def decode_progress(
    serializer: TaskiqSerializer, key: str, raw: bytes | str, max_size: int | None = MAX_SIZE
) -> TaskProgress[Any]:
    """Decode a progress, or raise `ResultDecodeError`; see `decode_result`."""
    try:
        value = serializer.loadb(_check_size(as_bytes(raw), max_size))
        if isinstance(value, dict) and not isinstance(value.get("state"), str):
            # The error of an enum would quote it.
            raise TypeError("`state` is not text")  # noqa: TRY301
        return _AnyProgress.model_validate(value)
    except Exception as raised:  # noqa: BLE001 - corrupt bytes may raise anything
        error = raised
    raise ResultDecodeError(
        key=brief(key), kind="progress", reason=describe_error(error)
    ) from _cause(error)


def _cause(error: Exception) -> Exception | None:
    """Return an error as the cause of ours; None if tracebacks would show values in its text."""
    return None if isinstance(error, ValidationError) else error


def encode_schedule(serializer: TaskiqSerializer, schedule: ScheduledTask) -> bytes:
    """Encode a schedule, or raise `ScheduleEncodeError`."""
    try:
        return as_bytes(serializer.dumpb(_storable(schedule).model_dump(mode="json")))
    except Exception as error:  # a serializer may raise anything
        failing = find_failing(
            named_arguments(None, schedule.args, schedule.kwargs),
            lambda value: serializer.dumpb(
                schedule.model_copy(update={"args": [value], "kwargs": {}}).model_dump(mode="json")
            ),
        )
        reason = (
            describe_error(error) if failing is None else "the argument {!r}: {}".format(*failing)
        )
        raise ScheduleEncodeError(schedule_id=schedule.schedule_id, reason=reason) from error


def _storable(schedule: ScheduledTask) -> ScheduledTask:
    """Return a schedule whose time survives: as text, an offset has no seconds."""
    offset = schedule.time and schedule.time.utcoffset()
    if schedule.time is None or not offset or offset % timedelta(minutes=1) == timedelta():
        return schedule
    return schedule.model_copy(update={"time": schedule.time.astimezone(timezone.utc)})


def decode_schedule(
    serializer: TaskiqSerializer, key: str, raw: bytes | str, max_size: int | None = MAX_SIZE
) -> ScheduledTask:
    """Decode a schedule, or raise `ScheduleDecodeError`; see `decode_result`."""
    try:
        value = serializer.loadb(_check_size(as_bytes(raw), max_size))
        return ScheduledTask.model_validate(value)
    except Exception as raised:  # noqa: BLE001 - corrupt bytes may raise anything
        error = raised
    raise ScheduleDecodeError(key=brief(key), reason=describe_error(error)) from _cause(error)


def time_of_id(entry_id: str) -> datetime:
    """Return the time in an entry ID, which begins with ms of Unix time."""
    text = entry_id.partition("-")[0]
    # XADD accepts any number as the time, and a field of a dead letter may be anything.
    found = time_at(int(text)) if text.isdecimal() and len(text) <= _ID_DIGITS else None
    return found or datetime.fromtimestamp(0, timezone.utc)


def time_at(milliseconds: float) -> datetime | None:
    """Return a time in ms of Unix time, or None if that is too large or too small."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def earliest_id(ids: Iterable[str]) -> str:
    """Return the smallest entry ID."""
    return min(ids, key=_parse_id)


def id_after(entry_id: str) -> str:
    """Return the entry ID directly after another."""
    time, number = _parse_id(entry_id)
    return f"{time}-{number + 1}" if number < _MAX_SEQUENCE else f"{time + 1}-0"


def _parse_id(entry_id: str) -> tuple[int, int]:
    time, _, number = entry_id.partition("-")
    return int(time), int(number)


def read_entries(reply: Any) -> list[StreamEntry]:
    """Return the entries in a reply of XREADGROUP.

    Args:
        reply: ``[[stream, entries]]``, ``{stream: entries}``, ``{stream: [entries]}`` or None,
            depending on the RESP version and on redis-py's.
    """
    streams = reply.items() if isinstance(reply, Mapping) else reply or ()
    return [
        entry
        for stream, entries in streams
        for entry in entries_of(as_str(stream), _unwrap_resp3(entries))
    ]


def _unwrap_resp3(entries: Sequence[Any]) -> Sequence[Any]:
    """Remove the list around the list of entries that redis-py returns with ``protocol=3``."""
    first = entries[0] if entries else None
    nested = isinstance(first, list) and (not first or isinstance(first[0], list | tuple))
    return first if nested and first is not None else entries


def entries_of(stream: str, entries: Iterable[Any]) -> list[StreamEntry]:
    """Return the entries in pairs of ID and fields; fields are None for a deleted entry."""
    return [
        StreamEntry(stream, as_str(entry_id), _decode_fields(fields or {}))
        for entry_id, fields in entries
        if entry_id is not None
    ]


def fields_of(reply: Sequence[Any]) -> dict[str, bytes]:
    """Return the fields in a flat list of names and values, as scripts return them."""
    return _decode_fields(dict(zip(reply[::2], reply[1::2], strict=True)))


def _decode_fields(fields: Mapping[Any, Any]) -> dict[str, bytes]:
    return {as_str(name): as_bytes(value) for name, value in fields.items()}
