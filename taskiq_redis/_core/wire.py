"""Bytes to objects and back: results, progress, schedules, stream entries. It runs no code."""

import copyreg
import io
import pickle
import pickletools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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

#: the second part of the id of a stream entry can't be larger
_LARGEST_NUMBER = 2**64 - 1
#: most characters of another library's error that ours quote
REASON_WIDTH = 300


class _PlainUnpickler(pickle.Unpickler):
    """Reads builtin values and refuses everything that would have to be imported."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise UnsafeBytesError(name=f"{module_name}.{global_name}")


class PlainPickleSerializer(PickleSerializer):
    """The default serializer: writes pickle as 1.2.4 did, reads plain values only."""

    def loadb(self, value: bytes) -> Any:
        """Read pickled builtins; raises `UnsafeBytesError` where the bytes ask for more."""
        # Codes of copyreg that were used before are looked up without asking the unpickler.
        if getattr(copyreg, "_extension_registry", True) and _asks_for_extension(value):
            raise UnsafeBytesError(name="an extension of copyreg")
        return _PlainUnpickler(io.BytesIO(value)).load()


def _asks_for_extension(value: bytes) -> bool:
    return any(operation.name.startswith("EXT") for operation, _, _ in pickletools.genops(value))


class StreamEntry(NamedTuple):
    """An entry of a stream; it has no fields if it was deleted after its delivery."""

    stream: str
    id: str
    fields: dict[str, bytes]


def as_bytes(value: bytes | str) -> bytes:
    """Return a reply as bytes, also from a client that decodes its replies."""
    return value.encode() if isinstance(value, str) else value


def as_str(value: bytes | str) -> str:
    """Return a reply as text; what isn't UTF-8 shows as escapes."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def encode_result(serializer: TaskiqSerializer, task_id: str, result: TaskiqResult[Any]) -> bytes:
    """Turn a result into bytes; raises `ResultEncodeError`."""
    with suppress(ResultEncodeError):
        return _encode_value(serializer, task_id, "result", result)
    # A label may be to blame, such as one of bytes, and the value must not be lost for that.
    plain = result.model_copy(update={"labels": _as_they_travel(result.labels)})
    return _encode_value(serializer, task_id, "result", plain)


def encode_progress(
    serializer: TaskiqSerializer, task_id: str, progress: TaskProgress[Any]
) -> bytes:
    """Turn a progress into bytes; raises `ResultEncodeError`."""
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


def _as_they_travel(labels: Mapping[str, Any]) -> dict[str, str]:
    """Turn labels into what they are in a message: text, which is base64 for bytes."""
    return {str(name): prepare_label(value)[0] for name, value in labels.items()}


def error_result(result: TaskiqResult[Any], error: Exception) -> TaskiqResult[Any]:
    """Say in place of a result why it could not be stored, so that whoever waits hears of it.

    The error travels as text: the one that a task raised may be what can't be serialized.
    """
    return TaskiqResult(
        is_err=True,
        log=None,
        return_value=None,
        execution_time=result.execution_time,
        labels=_as_they_travel(result.labels),
        error=ValueError(str(error)),
    )


def decode_result(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> TaskiqResult[Any]:
    """Turn bytes into a result; raises `ResultDecodeError`."""
    try:
        return TaskiqResult[Any].model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ResultDecodeError(key=key, kind="result", reason=_reason(error)) from error


def decode_progress(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> TaskProgress[Any]:
    """Turn bytes into a progress; raises `ResultDecodeError`."""
    try:
        return TaskProgress[Any].model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ResultDecodeError(key=key, kind="progress", reason=_reason(error)) from error


def encode_schedule(serializer: TaskiqSerializer, schedule: ScheduledTask) -> bytes:
    """Turn a schedule into bytes; raises `ScheduleEncodeError`."""
    try:
        return as_bytes(serializer.dumpb(schedule.model_dump(mode="json")))
    except Exception as error:  # a serializer may raise anything
        raise ScheduleEncodeError(
            schedule_id=schedule.schedule_id, reason=_reason(error)
        ) from error


def decode_schedule(serializer: TaskiqSerializer, key: str, raw: bytes | str) -> ScheduledTask:
    """Turn bytes into a schedule; raises `ScheduleDecodeError`."""
    try:
        return ScheduledTask.model_validate(serializer.loadb(as_bytes(raw)))
    except Exception as error:  # corrupt bytes may raise anything
        raise ScheduleDecodeError(key=key, reason=_reason(error)) from error


def _reason(error: Exception) -> str:
    """Say in one line what went wrong; pydantic needs many."""
    return f"{type(error).__name__}: {shorten(str(error), REASON_WIDTH)}"


def earliest_id(ids: Iterable[str]) -> str:
    """Return the smallest of some ids of stream entries."""
    return min(ids, key=_parts_of_id)


def id_after(entry_id: str) -> str:
    """Return the id that follows an id of a stream entry directly."""
    time, number = _parts_of_id(entry_id)
    return f"{time}-{number + 1}" if number < _LARGEST_NUMBER else f"{time + 1}-0"


def _parts_of_id(entry_id: str) -> tuple[int, int]:
    time, _, number = entry_id.partition("-")
    return int(time), int(number)


def read_entries(reply: Any) -> list[StreamEntry]:
    """Flatten a reply of XREADGROUP, whose shape depends on the protocol and on redis-py's mood.

    Args:
        reply: ``[[stream, entries]]``, ``{stream: entries}``, ``{stream: [entries]}`` or nothing.
    """
    streams = reply.items() if isinstance(reply, Mapping) else reply or ()
    return [
        entry
        for stream, entries in streams
        for entry in entries_of(as_str(stream), _without_extra_list(entries))
    ]


def _without_extra_list(entries: Sequence[Any]) -> Sequence[Any]:
    """Undo the list around the list of entries that ``protocol=3`` brings."""
    first = entries[0] if entries else None
    nested = isinstance(first, list) and (not first or isinstance(first[0], list | tuple))
    return first if nested and first is not None else entries


def entries_of(stream: str, entries: Iterable[Any]) -> list[StreamEntry]:
    """Read pairs of an id and fields; there are no fields if the entry was deleted meanwhile."""
    return [
        StreamEntry(stream, as_str(entry_id), _named(fields or {}))
        for entry_id, fields in entries
        if entry_id is not None
    ]


def fields_of(reply: Sequence[Any]) -> dict[str, bytes]:
    """Read names and values of fields, one after the other, as a script returns them."""
    return _named(dict(zip(reply[::2], reply[1::2], strict=True)))


def _named(fields: Mapping[Any, Any]) -> dict[str, bytes]:
    return {as_str(name): as_bytes(value) for name, value in fields.items()}
