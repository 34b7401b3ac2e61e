"""Encode and decode results, progress, schedules and stream entries."""

import copyreg
import io
import pickle
import pickletools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta, timezone
from textwrap import shorten
from typing import Any, NamedTuple

from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.labels import prepare_label
from taskiq.scheduler.scheduled_task import ScheduledTask
from taskiq.serializers import PickleSerializer

from taskiq_redis.exceptions import (
    ResultDecodeError,
    ResultEncodeError,
    ScheduleDecodeError,
    ScheduleEncodeError,
    UnsafeBytesError,
)

#: maximum of the sequence number in an entry ID
_MAX_SEQUENCE = 2**64 - 1
#: the largest entry ID, after which Redis adds no other
LARGEST_ID = f"{_MAX_SEQUENCE}-{_MAX_SEQUENCE}"
#: maximum number of characters that our errors quote from other libraries' errors
REASON_WIDTH = 300


class _PlainUnpickler(pickle.Unpickler):
    """Reads values of builtin types, and refuses to import anything."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise UnsafeBytesError(name=f"{module_name}.{global_name}")


class PlainPickleSerializer(PickleSerializer):
    """The default serializer: pickle, of which it reads plain values only."""

    def loadb(self, value: bytes) -> Any:
        """Return pickled plain values; raise `UnsafeBytesError` for anything else."""
        # The unpickler resolves cached extension codes of copyreg without calling `find_class`.
        if getattr(copyreg, "_extension_registry", True) and _uses_extension(value):
            raise UnsafeBytesError(name="a copyreg extension")
        return _PlainUnpickler(io.BytesIO(value)).load()


def _uses_extension(value: bytes) -> bool:
    return any(operation.name.startswith("EXT") for operation, _, _ in pickletools.genops(value))


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


def encode_result(serializer: TaskiqSerializer, task_id: str, result: TaskiqResult[Any]) -> bytes:
    """Encode a result, or raise `ResultEncodeError`."""
    with suppress(ResultEncodeError):
        return _encode_value(serializer, task_id, "result", result)
    # The reason may be a label, such as bytes, which must not cost the return value.
    plain = result.model_copy(update={"labels": _labels_as_text(result.labels)})
    return _encode_value(serializer, task_id, "result", plain)


def encode_progress(
    serializer: TaskiqSerializer, task_id: str, progress: TaskProgress[Any]
) -> bytes:
    """Encode a progress, or raise `ResultEncodeError`."""
    return _encode_value(serializer, task_id, "progress", progress)


def _encode_value(
    serializer: TaskiqSerializer,
    task_id: str,
    kind: str,
    value: "TaskiqResult[Any] | TaskProgress[Any]",
) -> bytes:
    try:
        return as_bytes(serializer.dumpb(value.model_dump(mode="json")))
    except Exception as error:  # a serializer may raise anything
        raise ResultEncodeError(kind=kind, task_id=task_id, reason=_reason(error)) from error


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


def decode_result(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> TaskiqResult[Any]:
    """Decode a result, or raise `ResultDecodeError`."""
    try:
        return TaskiqResult[Any].model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ResultDecodeError(key=key, kind="result", reason=_reason(error)) from error


def decode_progress(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> TaskProgress[Any]:
    """Decode a progress, or raise `ResultDecodeError`."""
    try:
        return TaskProgress[Any].model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ResultDecodeError(key=key, kind="progress", reason=_reason(error)) from error


def encode_schedule(serializer: TaskiqSerializer, schedule: ScheduledTask) -> bytes:
    """Encode a schedule, or raise `ScheduleEncodeError`."""
    try:
        return as_bytes(serializer.dumpb(_storable(schedule).model_dump(mode="json")))
    except Exception as error:  # a serializer may raise anything
        raise ScheduleEncodeError(
            schedule_id=schedule.schedule_id, reason=_reason(error)
        ) from error


def _storable(schedule: ScheduledTask) -> ScheduledTask:
    """Return a schedule whose time survives: as text, an offset has no seconds."""
    offset = schedule.time and schedule.time.utcoffset()
    if schedule.time is None or not offset or offset % timedelta(minutes=1) == timedelta():
        return schedule
    return schedule.model_copy(update={"time": schedule.time.astimezone(timezone.utc)})


def decode_schedule(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> ScheduledTask:
    """Decode a schedule, or raise `ScheduleDecodeError`."""
    try:
        return ScheduledTask.model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ScheduleDecodeError(key=key, reason=_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return an error as one line; pydantic's errors have many."""
    return f"{type(error).__name__}: {shorten(str(error), REASON_WIDTH)}"


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
