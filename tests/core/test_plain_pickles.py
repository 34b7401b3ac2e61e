"""The default serializer reads the pickles that it writes, and no others."""

import copyreg
import pickle
import random
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from taskiq import TaskiqResult
from taskiq.serializers import PickleSerializer

from taskiq_redis._core import plain_pickles
from taskiq_redis._core.plain_pickles import (
    KEYS_SIZE,
    MAX_DEPTH,
    MAX_NUMBERS,
    MIN_OPERATIONS,
    PlainPickleSerializer,
    _check_operations,
)
from taskiq_redis.exceptions import UnexpectedPickleError, UnsafeBytesError
from tests.core.pickles import ATTACKS, BOMBS, REFUSED, detonate, long, pickled, text

PLAIN = PlainPickleSerializer()


@pytest.mark.smoke
@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS)
def test_pickle_that_imports_something_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeBytesError):
        PLAIN.loadb(data)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_other_malicious_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        PLAIN.loadb(data)


@pytest.mark.smoke
@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_pickle_that_takes_long_or_much_memory_is_refused(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        PLAIN.loadb(data)


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        ("GLOBAL and REDUCE", "os.system"),
        ("STACK_GLOBAL", "os.system"),
        ("a builtin of Python 2", "__builtin__.eval"),
        ("a dotted name", "os.path.join"),
        ("a decimal", "decimal.Decimal"),
    ],
)
def test_refusal_has_the_name_and_advice(attack: str, name: str) -> None:
    with pytest.raises(UnsafeBytesError, match=f"would import {name}, but") as caught:
        PLAIN.loadb(ATTACKS[attack])
    assert caught.value.name == name
    assert "serializer=PickleSerializer()" in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"c" + b"x" * 1_000_000 + b"\nname\n.", b"ca secret\nvalue\n.", b"csecret"], ids=len
)
def test_refusal_quotes_nothing_else_than_names(data: bytes) -> None:
    with pytest.raises(UnsafeBytesError) as caught:
        PLAIN.loadb(data)
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)


#: extension code of copyreg for private use
CODE = 0xF1


@pytest.fixture
def extension() -> Iterator[bytes]:
    """A registered extension code."""
    names = (detonate.__module__, detonate.__name__)
    copyreg.add_extension(*names, CODE)
    yield b"\x82" + bytes([CODE])
    copyreg.remove_extension(*names, CODE)


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", [b"\x80\x02", b"\x80\x04"], ids=["old", "new"])
def test_registered_extension_is_refused(extension: bytes, protocol: bytes) -> None:
    with pytest.raises(UnsafeBytesError, match="copyreg extension"):
        PLAIN.loadb(protocol + extension + b")R.")


def test_cached_extension_is_refused(extension: bytes) -> None:
    assert pickle.loads(pickled(extension)) is detonate
    with pytest.raises(UnsafeBytesError):
        PLAIN.loadb(pickled(extension))


PLAIN_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    255,
    256,
    65_536,
    -(2**31),
    2**31,
    2**63,
    2**70,
    -(2**3000),
    1.5,
    float("inf"),
    "",
    "x" * 255,
    "x" * 256,
    "ü☃" * 100_000,
    "\ud800",
    [],
    [1, [2, [3]]],
    {},
    {"a": {"b": None}, "": []},
    {"a": 1},
    ["a"],
    [f"text {number % 300}" for number in range(3000)],
    [{"id": number, "name": "x" * (number % 400), "ratio": number / 7} for number in range(3000)],
    {f"key {number}": [number, 2**64 + number] for number in range(2000)},
    [2**200] * 300,
]


def test_results_of_all_sizes_are_read() -> None:
    for size in (*range(70), *range(250, 260), 800, 2000):
        value = {"is_err": False, "value": "x" * size, "k" * size: [1.5, None], "labels": {"a": 1}}
        assert PLAIN.loadb(pickle.dumps(value, 4)) == value


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("value", PLAIN_VALUES, ids=lambda value: repr(value)[:30])
def test_plain_values_are_read(value: Any, protocol: int) -> None:
    assert PLAIN.loadb(pickle.dumps(value, protocol)) == value


def simple_result(value: bytes) -> bytes:
    """Return the pickle of a result whose return value has been replaced by these operations."""
    fields: dict[str, Any] = {"is_err": False, "log": None, "return_value": 12345678}
    fields |= {"execution_time": 0.5, "labels": {}, "error": None}
    data = pickle.dumps(fields, protocol=4)
    before, after = data.split(b"J" + (12345678).to_bytes(4, "little"))
    return before + value + after


SIMPLE = [None, True, 1, 300, 70000, -1, 1.5, "", "x", "\xe9" * 100, {"a": 1}, {}, [1, "b"]]


@pytest.mark.parametrize("value", SIMPLE)
def test_result_with_a_small_value_needs_no_further_check(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_pickles, "_SMALL", None)
    result = TaskiqResult(is_err=False, return_value=value, execution_time=0.5, labels={})
    serializer = PlainPickleSerializer()
    data = serializer.dumpb(result.model_dump(mode="json"))
    assert serializer.loadb(data)["return_value"] == value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"K",
        b"N0N",
        b"h\x00",
        b"K\x01K\x02",
        b"\x8c\x01",
        b"\x8c\x02x\x94",
        b"\x8c\x01x\x94N",
        b"\x8c\x00\x94\x8c\x00\x94",
        b"cos\nsystem\n",
        b"}\x94}\x94",
        b"}\x94(K\x01K\x02u",
        b"}\x94\x8c\x01a\x94h\x00s",
    ],
)
def test_other_operations_are_no_small_value(value: bytes) -> None:
    assert not plain_pickles._is_simple_result(simple_result(value))
    assert plain_pickles._is_simple_result(simple_result(b"\x8c\x01x\x94"))


def test_values_of_the_pickler_in_python_are_read() -> None:
    pickler: Any = pickle._dumps  # type: ignore[attr-defined]
    for value in PLAIN_VALUES:
        assert PLAIN.loadb(pickler(value, 4)) == value


@pytest.mark.smoke
def test_bytes_are_those_of_taskiq_s_serializer() -> None:
    for value in PLAIN_VALUES:
        assert PLAIN.dumpb(value) == PickleSerializer().dumpb(value)


OTHER_VALUES: list[Any] = [b"bytes", (), (1,), {1: 2}, {None: 1}, {(): 1}, set(), [bytearray(b"x")]]


@pytest.mark.parametrize("value", OTHER_VALUES, ids=repr)
def test_values_that_no_result_or_schedule_has_are_refused(value: Any) -> None:
    with pytest.raises(UnsafeBytesError):
        PLAIN.loadb(pickle.dumps(value, 4))


@pytest.mark.parametrize("protocol", range(4))
def test_older_protocols_are_refused(protocol: int) -> None:
    with pytest.raises(UnexpectedPickleError, match="another protocol"):
        PLAIN.loadb(pickle.dumps({"a": 1}, protocol))


def test_depth_is_limited() -> None:
    for depth, allowed in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False)):
        value: Any = []
        for _ in range(depth - 1):
            value = {"inner": value}
        if allowed:
            assert PLAIN.loadb(pickle.dumps(value, 4)) == value
        else:
            with pytest.raises(UnexpectedPickleError, match="in each other"):
                PLAIN.loadb(pickle.dumps(value, 4))


@pytest.mark.parametrize(
    "value",
    [
        [None] * (MIN_OPERATIONS + 2000),
        [[]] * 1,
        [[] for _ in range(MIN_OPERATIONS + 2000)],
    ],
    ids=["None", "one list", "lists"],
)
def test_number_of_values_is_limited(value: list[Any]) -> None:
    data = pickle.dumps(value, 4)
    assert PLAIN.loadb(data) == value
    if len(value) > 1:
        with pytest.raises(UnexpectedPickleError, match="more than 100,000 values"):
            PlainPickleSerializer(1000).loadb(data)
    assert PlainPickleSerializer(None).loadb(data) == value


def test_long_texts_count_as_one_value() -> None:
    value = ["x" * 300 + str(number) for number in range(MIN_OPERATIONS // 10)]
    assert PlainPickleSerializer(1000).loadb(pickle.dumps(value, 4)) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"(",
        b"e",
        b"u",
        b"](Ne(",
        b"}(" + text("a") + b"u",
        b"}(Nu",
        b"](Nu",
        b"N(Ne",
        text("a") + b"(Ne",
        b"h\x00",
        b"j\x00\x00\x00\x00",
        b"]\x94" + b"j\x00\x00\x00\x00" + b"a",
        b"\x8c\xffx",
        b"\x8c\x01\xff",
        b"X\xff\xff\xff\xffx",
        long(2**80)[:-3],
        b"G\x00\x00",
        b"\x94",
        b"0",
        b"2",
        b"N.N",
    ],
    ids=repr,
)
def test_corrupt_pickle_is_refused(body: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        PLAIN.loadb(pickled(body))


def test_truncated_and_changed_pickles_are_refused_or_plain() -> None:
    data = pickle.dumps({"a": [1, 2.5, "b", None, True], "c": {"d": 2**70, "e": "x" * 300}}, 4)
    for length in range(len(data)):
        with pytest.raises(pickle.UnpicklingError):
            PLAIN.loadb(data[:length])
    generator = random.Random(7)
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 3)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        try:
            value = PLAIN.loadb(bytes(changed))
        except (UnsafeBytesError, pickle.UnpicklingError):
            continue
        # What is read can be written, and is the same.
        assert repr(PLAIN.loadb(PLAIN.dumpb(value))) == repr(value)


def test_dict_with_many_numbers_as_keys_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which slots a dict tries for a number can be foreseen, so that it can take minutes."""
    numbers = [number.to_bytes(4, "little") for number in range(30_000)]
    monkeypatch.setattr(pickle, "loads", lambda data: pytest.fail("the dict was made"))
    for begin, operation, end in (
        (b"", b"J", b"N"),
        (b"", b"\x8a\x04", b"]"),
        (b"", b"G\0\0\0\0", b"N"),
        (b"", b"J", b"\x94N"),
        (b"\x8c\x01aN", b"J", b"N"),
    ):
        pairs = b"".join(operation + number + end for number in numbers)
        with pytest.raises(UnexpectedPickleError, match="keys that are no text"):
            PLAIN.loadb(pickled(b"}\x94(" + begin + pairs + b"u"))


@pytest.mark.parametrize("protocol", [4, 5])
def test_large_pickle_with_numbers_of_all_kinds_is_read(protocol: int) -> None:
    numbers = [0, 255, 256, 70_000, -1, 1.5, float("inf"), 2**40, -(2**80), 2**3000]
    rows: list[dict[str, Any]] = [
        {"numbers": numbers, "text": "KMJG\x8a" * (length % 120), "none": None, "empty": {}}
        for length in range(5000)
    ]
    value = {"rows": [{**row, "numbers": [*numbers]} for row in rows], "é" * 70_000: ["é" * 300]}
    data = pickle.dumps(value, protocol)
    assert len(data) > 2 * MAX_NUMBERS
    assert PLAIN.loadb(data) == value


def test_value_that_could_not_be_read_again_is_not_written() -> None:
    serializer = PlainPickleSerializer(max_size=1_000_000)
    assert serializer.loadb(serializer.dumpb([1] * 90_000)) == [1] * 90_000
    with pytest.raises(UnexpectedPickleError, match="more than 100,000 values"):
        serializer.dumpb([1] * 110_000)


def test_rows_that_share_their_keys_need_no_further_check(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": number, "name": str(number)} for number in range(1500)]
    data = pickle.dumps({"rows": rows, "error": None}, 4)
    monkeypatch.setattr(plain_pickles, "_check_operations", None)
    assert PLAIN.loadb(data) == pickle.loads(data)


@pytest.mark.parametrize("index", [0, 1, 9])
def test_shared_container_is_no_key(index: int) -> None:
    data = pickled(b"}\x94(" + text("a") + b"]\x94h" + bytes([index]) + b"Nu")
    with pytest.raises(pickle.UnpicklingError):
        PLAIN.loadb(data)


#: numbers that could be keys of a dict
NUMBERS = [b"J" + number.to_bytes(4, "little") for number in range(MAX_NUMBERS + 5000)]


@pytest.mark.parametrize(
    "operations",
    [
        [b"}\x94(" + number + b"Nu" for number in NUMBERS],
        [b"}\x94(", *(number + b"]\x94" for number in NUMBERS), b"u"],
        [b"}\x94(", text("a") + b"]\x94", *(number + text("a") for number in NUMBERS), b"u"],
        [b"}\x94(", text("a") * 2, *(number + text("a") for number in NUMBERS), b"u"],
        [b"}\x94(", *NUMBERS, b"u"],
        [b"}\x94(", text("a"), *NUMBERS, b"Nu"],
        [b"}\x94", *(number + b"Ns" for number in NUMBERS)],
        [b"}\x94", *(number + b"}\x94s" for number in NUMBERS)],
        [b"]\x94(}\x94(u", *(b"h\x02" + number + b"}\x94s" for number in NUMBERS), b"e"],
        [b"}\x94(", text("k") + b"X\0\0\0\0", *(n + text("a") for n in NUMBERS), b"u"],
        [b"}\x94(X\0\0\0\0", text("k"), *(n + text("a") for n in NUMBERS), b"u"],
        [b"]\x94(", *(n + b"\x94" for n in NUMBERS), b"e}\x94(h\x02N" + b"h\x03N" * 25_000 + b"u"],
        [b"}\x94(K\x01\x94N" + b"h\x02N" * KEYS_SIZE + b"u"],
        [b"}\x94(", *(text("a") + b"K\x01" + n + b"K\x01" for n in NUMBERS), b"u"],
        [b"}\x94(", *(text("a") + b"K\x01" * 3 + n + b"K\x01" for n in NUMBERS), b"u"],
    ],
    ids=range(15),
)
def test_dict_of_numbers_is_never_made_whatever_the_operations(operations: list[bytes]) -> None:
    data = pickled(b"]\x94(" + b"".join(operations) + b"e")
    assert inserted_numbers(data) > 0
    with suppress(UnexpectedPickleError):
        _check_operations(data, len(data))
        assert inserted_numbers(data) <= MAX_NUMBERS


@pytest.mark.parametrize("key", [b"\x88", b"\x89", b"N", text(""), b"X\0\0\0\0", text("a")])
def test_dict_that_tries_the_slots_of_many_numbers_is_never_made(key: bytes) -> None:
    items = [number + text("v") for number in NUMBERS[: MAX_NUMBERS - 3000]]
    data = pickled(b"}\x94(" + b"".join(items) + (key + text("v")) * 200_000 + b"u")
    with pytest.raises(UnexpectedPickleError, match="has keys that are no text"):
        _check_operations(data, len(data))


def test_refused_pickles_leave_nothing_in_memory() -> None:
    before = repr(plain_pickles._STAND_INS)
    for operations in (b"(" + text("a") + b"e", text("a") + b"a", b"K\x01" + text("a") + b"s"):
        with pytest.raises((pickle.UnpicklingError, UnexpectedPickleError)):
            plain_pickles._check_keys(pickled(b"](K\x01" + operations + b"e"))
    assert repr(plain_pickles._STAND_INS) == before


@pytest.mark.parametrize("count", range(1, 10))
def test_one_of_several_numbers_in_a_dict_is_a_key(count: int) -> None:
    end = b"u" if count % 2 else text("b") + b"u"
    data = pickled(b"}\x94(" + text("a") + b"K\x01" * count + end)
    refused = nullcontext() if count == 1 else pytest.raises(UnexpectedPickleError)
    with refused:
        plain_pickles._check_keys(data)


PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class Watched(dict[Any, Any]):
    """A dict that counts the numbers that become its keys."""

    numbers = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if not isinstance(key, str):
            Watched.numbers += 1


class WatchedUnpickler(PythonUnpickler):
    """The unpickler in Python, with such dicts."""

    dispatch = {  # noqa: RUF012
        **PythonUnpickler.dispatch,
        pickle.EMPTY_DICT[0]: lambda self: self.append(Watched()),
    }


def inserted_numbers(data: bytes) -> int:
    """Return how many numbers become keys while a pickle is read, also if that fails."""
    Watched.numbers = 0
    with suppress(Exception):
        WatchedUnpickler(BytesIO(data)).load()
    return Watched.numbers


OPERATIONS = st.lists(
    st.sampled_from(
        [
            *(b"}\x94", b"}\x94(", b"]\x94", b"]\x94(", b"}", b"](", b"u", b"u(", b"e", b"e("),
            *(b"s", b"a", b"h\x00", b"h\x01", b"h\x02", b"h\x03", b"K\x01", b"K\x02", b"N"),
            *(b"M\x01\x01", b"G" + bytes(8), long(2**40), long(2**80), b"\x94", b"\x88"),
            *(b"K\x03" * 2, b"K\x04" * 3, b"K\x05" * 4, b"K\x06" * 5, b"J\0\0\0\0" * 6),
            *(text("a"), text("a") + b"\x94", text("b") + b"\x94", b"X\1\0\0\0y"),
            *(b"\x95" + bytes(8), b"}\x94" + text("a") + b"\x94", text("c") + b"\x94K\x03"),
        ]
    ),
    min_size=2,
    max_size=25,
).map(b"".join)


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(OPERATIONS)
def test_check_of_keys_finds_every_number_that_becomes_a_key(operations: bytes) -> None:
    data = pickled(b"}\x94(" + text("a") + b"\x94]\x94(" + operations)
    with suppress(pickle.UnpicklingError, UnsafeBytesError):
        _check_operations(data, len(data))
        plain_pickles._check_keys(data)
        assert inserted_numbers(data) == 0
