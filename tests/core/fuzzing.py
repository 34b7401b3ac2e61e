"""Give every reader of stored bytes what hypothesis makes up, with bounded memory and time.

Run it as a program of its own, since some of this would end the process:
``python -m tests.core.fuzzing``.
"""

import json
import pickle
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from typing import Any

from hypothesis import HealthCheck, example, given, settings, strategies as st
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.serializers import JSONSerializer

from taskiq_redis._core.dead_letters import DEAD_LETTER_FIELDS, read_dead_letter
from taskiq_redis._core.plain_pickles import (
    PlainPickleSerializer,
    _check_operations,
    _check_tree,
)
from taskiq_redis._core.queue_counts import worker_stats
from taskiq_redis._core.queued_task import QueuedTask
from taskiq_redis._core.schedules import check_schedule, due_ms, interval_ms, kind_of, next_cron
from taskiq_redis._core.wire import decode_progress, decode_result, decode_schedule
from taskiq_redis.exceptions import (
    InvalidScheduleError,
    ResultDecodeError,
    ScheduleDecodeError,
    UnsafeBytesError,
)
from tests.core.pickles import ATTACKS, BOMBS, REFUSED, pickled, text

#: bytes of memory that one process may use, virtual memory included
MEMORY = 3 * 2**30
#: s; a reader takes a second for all examples, more on a slow computer
TIME = 120
#: examples per reader
EXAMPLES = int(sys.argv[1]) if sys.argv[0] == __file__ and sys.argv[1:] else 150

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
PLAIN = PlainPickleSerializer()
FORMATTER = JSONFormatter()
SERIALIZERS: list[TaskiqSerializer] = [PLAIN, JSONSerializer()]


def each(function: Any) -> Any:
    """Run a function with many examples, always the same ones."""
    wrapped = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(function)
    for data in (*ATTACKS.values(), *REFUSED.values(), *BOMBS.values(), *JSON_BOMBS):
        wrapped = example(data)(wrapped)
    return wrapped


#: JSON texts that are small, but take long or much memory if read carelessly
JSON_BOMBS = [
    b"[" * 300_000,
    b"[" * 5_000 + b"]" * 5_000,
    b'{"a":' * 300_000,
    b'{"is_err": true, "execution_time": 1, "return_value": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"is_err": true, "execution_time": 1, "return_value": null, "error": '
    + b'{"exc_type": "ValueError", "exc_module": null, "exc_message": [], "exc_cause": ' * 5_000
    + b"null"
    + b"}" * 5_001,
    b'{"state": ' + b"[" * 900 + b"]" * 900 + b"}",
    b"9" * 1_000_000,
    b'{"is_err": 1e999999999, "execution_time": ' + b"9" * 4_000 + b', "return_value": null}',
    b'"' + b"\\ud800" * 100_000 + b'"',
]

INTEGERS = st.integers() | st.sampled_from([2**63, -(2**200), 2**4000, 10**12, -1, 0])
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=300)
FIELDS = st.sampled_from(
    [
        "is_err",
        "log",
        "return_value",
        "execution_time",
        "labels",
        "error",
        "state",
        "meta",
        "exc_type",
        "exc_message",
        "exc_module",
        "exc_cause",
        "exc_context",
        "task_name",
        "args",
        "kwargs",
        "schedule_id",
        "cron",
        "cron_offset",
        "time",
        "interval",
    ]
)
CRONS = st.text("0123456789*/,-? LW#", max_size=30) | st.sampled_from(
    ["* * * * *", "*/0 * * * *", "0-999999999 * * * *", "9" * 5000 + " * * * *", "* * * *"]
)
TREES: Any = st.recursive(
    SCALARS | CRONS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(FIELDS | st.text(max_size=5), inner)
    ),
    max_leaves=20,
)
TIMES = st.datetimes(allow_imaginary=True).map(str) | st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "PT1S", "P999999999D", "1e300"]
)
SCHEDULES = st.fixed_dictionaries(
    {"task_name": st.text(), "labels": st.just({}), "args": st.just([]), "kwargs": st.just({})},
    optional={
        "cron": CRONS,
        "cron_offset": TIMES | st.text(max_size=50) | INTEGERS,
        "time": TIMES | INTEGERS | st.floats(),
        "interval": TIMES | INTEGERS | st.floats(),
    },
)
ERRORS = st.recursive(
    st.none() | TREES,
    lambda inner: st.fixed_dictionaries(
        {
            "exc_type": st.sampled_from(["ValueError", "SystemExit", "eval", "x.y", "OSError"]),
            "exc_message": st.lists(TREES, max_size=3),
            "exc_module": st.sampled_from(["builtins", "os", "sys", "asyncio", None, "x"]),
            "exc_cause": inner,
            "exc_context": inner,
        }
    ),
    max_leaves=5,
)
RESULTS = st.fixed_dictionaries(
    {
        "is_err": st.booleans(),
        "return_value": TREES,
        "execution_time": st.floats(),
        "labels": st.dictionaries(st.text(max_size=5), SCALARS, max_size=3) | TREES,
        "error": ERRORS,
    }
)
SMALL = st.dictionaries(
    st.text(max_size=5),
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS),
    min_size=2,
    max_size=5,
)
VALUES = TREES | SCHEDULES | RESULTS | SMALL
TOKENS = st.sampled_from(
    [
        b"N",
        b"K\x01",
        b"]",
        b"}",
        b"]\x94",
        b"}\x94",
        b"(",
        b"u",
        b"s",
        b"e",
        b"a",
        b"\x94",
        b"h\x00",
        b"h\x01",
        b"j\xff\xff\xff\x7f",
        b"r\xff\xff\xff\x7f",
        b")",
        b"\x85",
        b"t",
        b"R",
        b"\x93",
        b"\x95" + bytes(8),
        b"2",
        b"0",
        b"1",
        b"\x8f",
        b"\x90",
        b"\x81",
        b"b",
        b"cos\nsystem\n",
        text("is_err"),
        text("return_value") + b"\x94",
        text("x" * 255),
        b"G" + bytes(8),
        b"\x8a\xff",
        b"\x8b\xff\xff\xff\xff",
        b"X\xff\xff\xff\xff",
        b"\x8d" + b"\xff" * 8,
    ]
)
OPERATIONS = st.lists(TOKENS | st.binary(max_size=3), max_size=60).map(b"".join).map(pickled)
REPEATED = st.tuples(st.lists(TOKENS, max_size=4).map(b"".join), st.integers(1, 20_000)).map(
    lambda each: pickled(each[0] * each[1])
)


@st.composite
def changed(draw: Any) -> bytes:
    """Return a stored value of which some bytes are changed or missing."""
    data = bytearray(draw(WRITTEN))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


def as_json(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


WRITTEN = VALUES.map(lambda value: pickle.dumps(value, 4)) | VALUES.map(as_json)
BYTES = st.binary() | OPERATIONS | REPEATED | WRITTEN | changed()


def check_text(error: Exception) -> None:
    """Check that an error is short."""
    assert len(str(error)) < 2000, str(error)[:3000]


@each
@given(BYTES)
def read_pickle(data: bytes) -> None:
    """Read a pickle, which is a value that can be written, or refused."""
    try:
        value = PLAIN.loadb(data)
    except (UnsafeBytesError, pickle.UnpicklingError) as error:
        check_text(error)
    else:
        assert repr(PLAIN.loadb(PLAIN.dumpb(value))) == repr(value)
        # Also if it has been recognized as a small one, which isn't checked otherwise.
        _check_operations(data, len(data))
        _check_tree(value, len(data))
        assert len(json.dumps(value)) <= 40 * len(data)


@each
@given(BYTES)
def read_result(data: bytes) -> None:
    """Read a result."""
    for serializer in SERIALIZERS:
        try:
            error = decode_result(serializer, "k", data).error
            assert error is None or isinstance(error, Exception)
        except ResultDecodeError as refusal:
            check_text(refusal)


@each
@given(BYTES)
def read_progress(data: bytes) -> None:
    """Read a progress."""
    for serializer in SERIALIZERS:
        try:
            decode_progress(serializer, "k", data)
        except ResultDecodeError as refusal:
            check_text(refusal)


@each
@given(BYTES)
def read_schedule(data: bytes) -> None:
    """Read a schedule, and ask when it is due, as a scheduler does."""
    for serializer in SERIALIZERS:
        try:
            schedule = decode_schedule(serializer, "k", data)
            check_schedule(schedule)
        except (ScheduleDecodeError, InvalidScheduleError) as refusal:
            check_text(refusal)
            continue
        if kind_of(schedule) == "cron":
            with suppress(OverflowError):
                next_cron(schedule, NOW)
        assert due_ms(schedule) >= 0
        assert interval_ms(schedule) >= 0


@each
@given(st.binary() | st.text("0123456789٣²-", max_size=6000).map(str.encode))
def read_letter(data: bytes) -> None:
    """Read a dead letter."""
    letter = read_dead_letter("q", "1-1", dict.fromkeys((*DEAD_LETTER_FIELDS, "data"), data))
    assert letter.data == data


@each
@given(st.binary() | st.lists(st.text("0123456789٣²-ab"), max_size=8).map(" ".join).map(str.encode))
def read_registration(data: bytes) -> None:
    """Read what a worker has registered, and a message of a queue."""
    worker = worker_stats("w", 1, data.decode(errors="backslashreplace"), 1_700_000_000_000)
    assert worker.registered == (worker.lease_age is not None)
    task = QueuedTask(queue_name="q", id="", data=data, load=partial(FORMATTER.loads, data))
    assert (task.problem is None) == (task.task_id is not None)


READERS = (read_pickle, read_result, read_progress, read_schedule, read_letter, read_registration)


def main() -> None:
    """Run all readers."""
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for read in READERS:
        signal.alarm(TIME)
        read()
        print(read.__name__, flush=True)


if __name__ == "__main__":
    main()
