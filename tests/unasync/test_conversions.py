"""What the generator converts."""

import textwrap
from pathlib import Path

import pytest

from tests.unasync.samples import CODE, PROSE, TESTS
from tests.unasync.support import SOURCE, TEST_SOURCE, twin_of


def check(root: Path, source: str, expected: str, path: str = SOURCE) -> None:
    twin = twin_of(root, source, path)
    assert twin == textwrap.dedent(expected).strip("\n")


@pytest.mark.parametrize(("source", "expected"), CODE.values(), ids=CODE)
def test_code_is_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected)


@pytest.mark.parametrize(("source", "expected"), PROSE.values(), ids=PROSE)
def test_docstrings_and_comments_are_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected)


@pytest.mark.parametrize(("source", "expected"), TESTS.values(), ids=TESTS)
def test_test_modules_are_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected, TEST_SOURCE)


@pytest.mark.parametrize("literal", ['Literal["a", "b"]', 'typing.Literal["a"] | None'])
def test_literal_types_are_not_refused_as_string_annotations(tmp_path: Path, literal: str) -> None:
    assert twin_of(tmp_path, f"x: {literal}") == f"x: {literal}"


def test_forbidden_names_can_be_imported_from_pair(tmp_path: Path) -> None:
    source = "from taskiq_redis._runtime.aio import gather\n\nx = gather()"

    assert twin_of(tmp_path, source) == source.replace("aio", "blocking")
