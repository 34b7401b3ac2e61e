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
LIBRARIES = {"group_progress", "producer_sequence"}


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
        assert described == [f"{table}[{number + 1}]" for number in range(len(described))]
        numbered = set(re.findall(rf"{table}\[\d+\]", code))
        # Unless a loop reads the last ones.
        if not re.search(rf"[#(]{table}\b|{table}\[[a-z]", code):
            assert numbered == set(described)
        assert numbered <= set(described)
    assert bool(described) == (table in code)


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_twins_load_the_script(name: str) -> None:
    for twin in ("_async", "_sync"):
        sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / twin).rglob("*.py")]
        calls = re.findall(r"lua\.load\((.*)\)", "\n".join(sources))
        needed = re.findall(r"^-- Needs (\w+)\.lua\.$", parts(name)[0], re.MULTILINE)
        if name in LIBRARIES:
            assert any(call.startswith(f'"{name}", ') for call in calls)
        else:
            assert ", ".join(f'"{each}"' for each in [*needed, name]) in calls


@pytest.mark.smoke
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_scripts_compile_and_have_the_sha_of_redis(topology: Topology) -> None:
    for name in SCRIPTS:
        needed = re.findall(r"^-- Needs (\w+)\.lua\.$", parts(name)[0], re.MULTILINE)
        script = lua.load(*needed, name)
        assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
        assert client_of(topology).script_load(script.source) == script.sha


def test_missing_script_raises_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        lua.load("missing")
