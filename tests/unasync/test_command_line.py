"""The command that writes and checks the twins."""

import importlib.util
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unasync.support import (
    DEEP_TWIN,
    FILES,
    SOURCE,
    TEST_SOURCE,
    TEST_TWIN,
    TWINS,
    run_lenient,
    run_script,
    snapshot,
    unasync,
    write_tree,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a small tree and its twins."""
    write_tree(tmp_path, FILES)
    assert run_lenient(tmp_path)[0] == 0
    return tmp_path


def test_each_source_gets_its_twin(root: Path) -> None:
    files = snapshot(root)

    assert set(files) == set(FILES) | TWINS
    assert files[DEEP_TWIN].decode() == textwrap.dedent("""\
        # Generated from taskiq_redis/_async/deep/module.py by scripts/unasync.py; edit that.

        from collections.abc import Iterator


        # Ünïcödé
        def f(x) -> Iterator[int]:
            for y in x:
                yield y()
        """)
    assert files["taskiq_redis/_sync/__init__.py"].count(b"\n") == 1


def test_second_run_changes_nothing(root: Path) -> None:
    before = snapshot(root)

    assert run_lenient(root) == (0, "")
    assert run_lenient(root, "--check") == (0, "")
    assert snapshot(root) == before


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x = 1\n")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def windows_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def add_beside(path: Path) -> None:
    (path.parent / "orphan.py").write_text("x = 1\n")


def add_folder_beside(path: Path) -> None:
    (path.parent / "more").mkdir()
    (path.parent / "more" / "data.json").write_text("{}")


CHANGES = {
    "appended": (append, DEEP_TWIN, "differs"),
    "truncated": (truncate, DEEP_TWIN, "differs"),
    "other line ends": (windows_lines, DEEP_TWIN, "differs"),
    "missing": (Path.unlink, TEST_TWIN, "missing"),
    "module without source": (add_beside, "taskiq_redis/_sync/deep/orphan.py", "has no source"),
    "file without source": (
        add_folder_beside,
        "taskiq_redis/_sync/deep/more/data.json",
        "has no source",
    ),
}


@pytest.mark.parametrize(("change", "path", "state"), CHANGES.values(), ids=CHANGES)
def test_check_reports_damaged_twin_and_write_repairs_it(
    root: Path, change: Callable[[Path], None], path: str, state: str
) -> None:
    whole = snapshot(root)
    change(root / (path if path in TWINS else DEEP_TWIN))
    damaged = snapshot(root)

    code, output = run_lenient(root, "--check")

    assert code == 1
    assert f"{path}: {state}" in output.splitlines()
    assert snapshot(root) == damaged
    assert run_lenient(root)[0] == 0
    assert snapshot(root) == whole
    assert not (root / "taskiq_redis/_sync/deep/more").exists()


def test_check_shows_diff(root: Path) -> None:
    append(root / DEEP_TWIN)

    assert "-x = 1" in run_lenient(root, "--check")[1].splitlines()


def test_check_reports_changed_source(root: Path) -> None:
    append(root / TEST_SOURCE)

    code, output = run_lenient(root, "--check")

    assert code == 1
    assert f"{TEST_TWIN}: differs" in output
    assert "+x = 1" in output.splitlines()


def test_twin_of_removed_source_is_removed(root: Path) -> None:
    shutil.rmtree(root / "taskiq_redis/_async/deep")

    assert run_lenient(root, "--check")[0] == 1
    assert run_lenient(root)[0] == 0
    assert not (root / "taskiq_redis/_sync/deep").exists()


def test_twins_of_removed_tree_are_reported(root: Path) -> None:
    shutil.rmtree(root / "tests/_async")

    assert run_lenient(root, "--check") == (1, f"{TEST_TWIN}: has no source\n")


def test_caches_are_ignored(root: Path) -> None:
    for tree in ("_async", "_sync"):
        write_tree(root, {f"taskiq_redis/{tree}/__pycache__/module.pyc": "x"})

    assert run_lenient(root, "--check") == (0, "")


@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("tests/_async/test_bad.py", "x = 1\nimport asyncio\n", ":2: don't import asyncio"),
        ("tests/_async/data.json", "{}", ":1: not a Python file"),
        ("tests/_async/test_bad.py", "x = '\\N{NO SUCH}'", ":1: not valid Python"),
    ],
)
def test_nothing_is_written_if_a_source_is_refused(
    root: Path, path: str, text: str, message: str, arguments: tuple[str, ...]
) -> None:
    append(root / "taskiq_redis/_async/deep/module.py")
    (root / path).write_text(text)
    before = snapshot(root)

    code, output = run_lenient(root, *arguments)

    assert code == 2
    assert f"{path}{message}" in output
    assert snapshot(root) == before


def test_unused_rules_are_errors_by_default(root: Path) -> None:
    code, output = run_script(root, "--check")

    assert code == 2
    assert all("no source needs the rule" in line for line in output.splitlines())


def test_root_without_trees_is_an_error(tmp_path: Path) -> None:
    assert run_lenient(tmp_path)[0] == 2


def test_missing_ruff_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {SOURCE: ""})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert unasync.main(["--root", str(tmp_path), "--allow-unused-rules"]) == 2
    assert "ruff isn't installed" in capsys.readouterr().err
