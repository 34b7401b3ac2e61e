"""Replies of redis-py in all their shapes, and IDs of stream entries."""

from typing import Any

import pytest

from taskiq_redis._core.wire import (
    StreamEntry,
    as_bytes,
    as_str,
    earliest_id,
    entries_of,
    fields_of,
    id_after,
    read_entries,
)


def test_as_bytes_and_as_str() -> None:
    assert as_bytes(b"\xff") == b"\xff"
    assert as_bytes("ü") == "ü".encode()
    assert as_str("ü") == "ü"
    assert as_str("ü".encode()) == "ü"
    assert as_str(b"a\xffb") == "a\\xffb"


A1 = StreamEntry("a", "1-0", {"data": b"x"})
A2 = StreamEntry("a", "2-0", {"data": b"y", "more": b"\xff"})
B1 = StreamEntry("b", "1-0", {"data": b"z"})


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("reply", "entries"),
    [
        pytest.param([], [], id="RESP2, nothing"),
        pytest.param({}, [], id="RESP3, nothing"),
        pytest.param(None, [], id="a timeout"),
        pytest.param({b"a": [[]]}, [], id="RESP3, a stream without entries"),
        pytest.param([[b"a", []]], [], id="RESP2, a stream without entries"),
        pytest.param(
            [[b"a", [(b"1-0", {b"data": b"x"}), (b"2-0", {b"data": b"y", b"more": b"\xff"})]]],
            [A1, A2],
            id="RESP2",
        ),
        pytest.param(
            {b"a": [[(b"1-0", {b"data": b"x"}), (b"2-0", {b"data": b"y", b"more": b"\xff"})]]},
            [A1, A2],
            id="RESP3, an extra list",
        ),
        pytest.param(
            {b"a": [(b"1-0", {b"data": b"x"}), (b"2-0", {b"data": b"y", b"more": b"\xff"})]},
            [A1, A2],
            id="RESP3, without legacy responses",
        ),
        pytest.param(
            [[b"a", [[b"1-0", {b"data": b"x"}]]], [b"b", [[b"1-0", {b"data": b"z"}]]]],
            [A1, B1],
            id="lists in place of tuples",
        ),
        pytest.param(
            {"a": [("1-0", {"data": "x"})], "b": [("1-0", {"data": "z"})]},
            [A1, B1],
            id="a client that decodes",
        ),
        pytest.param(
            [(b"a", [(b"1-0", None), (b"2-0", {})])],
            [StreamEntry("a", "1-0", {}), StreamEntry("a", "2-0", {})],
            id="deleted entries of a read from an id",
        ),
        pytest.param(
            {b"a": [[(b"1-0", None)]]}, [StreamEntry("a", "1-0", {})], id="deleted, an extra list"
        ),
        pytest.param([[b"a", [(None, None)]]], [], id="no entry"),
        pytest.param(
            {b"\xff": [(b"1-0", {b"\xfe": b"x"})]},
            [StreamEntry("\\xff", "1-0", {"\\xfe": b"x"})],
            id="names that aren't UTF-8",
        ),
    ],
)
def test_read_entries_accepts_every_shape_of_reply(reply: Any, entries: list[StreamEntry]) -> None:
    assert read_entries(reply) == entries


@pytest.mark.smoke
def test_fields_of_a_flat_list() -> None:
    assert fields_of([]) == {}
    assert fields_of([b"data", b"x", "\xe4", "y"]) == {"data": b"x", "\xe4": b"y"}


def test_deleted_entry_has_no_fields() -> None:
    assert entries_of("a", [(b"1-0", {b"data": b"x"}), ("2-0", None), (None, None)]) == [
        A1,
        StreamEntry("a", "2-0", {}),
    ]


@pytest.mark.parametrize(
    ("entry_id", "following"),
    [("1-0", "1-1"), ("10-9", "10-10"), (f"5-{2**64 - 1}", "6-0"), ("0-0", "0-1")],
)
def test_id_after(entry_id: str, following: str) -> None:
    assert id_after(entry_id) == following


def test_earliest_id_compares_numbers() -> None:
    assert earliest_id(["10-2", "9-10", "9-9", "100-0"]) == "9-9"
