"""The Lua scripts: their headers, their use, and that they compile."""

import hashlib
import re
from pathlib import Path

import pytest

import taskiq_redis
from taskiq_redis._core import lua
from tests.servers import Topology, client_of

PACKAGE = Path(taskiq_redis.__file__).parent
SCRIPTS = sorted(path.stem for path in (PACKAGE / "_core" / "lua").glob("*.lua"))

#: files with functions for other scripts, which name them in their headers
LIBRARIES = {
    "dead_letter_limits",
    "group_progress",
    "producer_sequence",
    "queue_state",
    "schedule_index",
    "schedule_put",
    "scheduler_registration",
    "task_records",
}


#: number of keys that `schedule_index.lua` describes for the scripts that need it
INDEX_KEYS = 6


def needs(name: str) -> list[str]:
    """Return the names of the libraries that a script needs."""
    return re.findall(r"^-- Needs (\w+)\.lua\.$", parts(name)[0], re.MULTILINE)


def parts(name: str) -> tuple[str, str]:
    """Return the header and the code of a script."""
    header, _, code = lua.load(name).source.partition("\n\n")
    return header, code


@pytest.mark.smoke
def test_scripts_are_found() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_header_begins_with_a_description(name: str) -> None:
    header, code = parts(name)
    lines = header.splitlines()
    assert all(line.startswith("--") for line in lines)
    assert re.fullmatch(r"-- [A-Z].*[.,]", lines[0])
    assert code.strip()
    assert name in LIBRARIES or re.search(r"^-- Returns ", header, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_header_lists_all_keys_and_arguments(name: str, table: str) -> None:
    header, code = parts(name)
    described = re.findall(rf"^-- ({table}(?:\[\d+\])?)  ", header, re.MULTILINE)
    assert len(set(described)) == len(described)
    # Either each by its number, or the whole table.
    if described != [table]:
        shared = INDEX_KEYS - 1 if table == "KEYS" and "schedule_index" in needs(name) else 0
        numbers = [1, *range(2 + shared, len(described) + 1 + shared)][: len(described)]
        assert described == [f"{table}[{number}]" for number in numbers]
        used = set(re.findall(rf"{table}\[\d+\]", code))
        # Unless a loop reads the last ones.
        if not re.search(rf"[#(]{table}\b|{table}\[[a-z]", code):
            assert used | {f"{table}[1]"} == set(described) | {f"{table}[1]"}
        assert used <= set(described)
    # A library may get them from the scripts that need it.
    assert name in LIBRARIES or bool(described) == (
        table in code or "schedule_index" in needs(name)
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_twins_load_the_script(name: str) -> None:
    for twin in ("_async", "_sync"):
        sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / twin).rglob("*.py")]
        calls = re.findall(r"lua\.load\((.*)\)", "\n".join(sources))
        needed = needs(name)
        if name in LIBRARIES:
            assert any(f'"{name}", ' in call for call in calls)
        else:
            assert ", ".join(f'"{each}"' for each in [*needed, name]) in calls


@pytest.mark.parametrize("suffix", ["lua", "py"])
def test_comments_name_scripts_that_exist(suffix: str) -> None:
    named = {
        name
        for path in PACKAGE.rglob(f"*.{suffix}")
        # Not attributes, such as in `taskiq_redis._core.lua`.
        for name in re.findall(r"(?<![.\w])(\w+)\.lua\b", path.read_text(encoding="utf-8"))
    }
    # The placeholder in the docstring of `lua.load`.
    assert named - {"name"} <= set(SCRIPTS)


@pytest.mark.smoke
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_scripts_compile_and_have_the_sha_of_redis(topology: Topology) -> None:
    for name in SCRIPTS:
        script = lua.load(*needs(name), name)
        assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
        assert client_of(topology).script_load(script.source) == script.sha


def test_missing_script_raises_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        lua.load("missing")
