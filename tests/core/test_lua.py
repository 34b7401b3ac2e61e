"""The Lua scripts: each says what it takes, and is used."""

import hashlib
import re
from pathlib import Path

import pytest

import taskiq_redis
from taskiq_redis._core import lua
from tests.servers import Topology, client_of

PACKAGE = Path(taskiq_redis.__file__).parent
SCRIPTS = sorted(path.stem for path in (PACKAGE / "_core" / "lua").glob("*.lua"))

#: what other scripts begin with, as they say in their headers
LIBRARIES = {"group_progress", "producer_sequence"}


def parts(name: str) -> tuple[str, str]:
    """Return the header of a script, and what follows it."""
    header, _, code = lua.load(name).source.partition("\n\n")
    return header, code


@pytest.mark.smoke
def test_there_are_scripts() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_begins_with_what_it_does(name: str) -> None:
    header, code = parts(name)
    lines = header.splitlines()
    assert all(line.startswith("--") for line in lines)
    assert re.fullmatch(r"-- [A-Z].*[.,]", lines[0])
    assert code.strip()
    assert name in LIBRARIES or re.search(r"^-- Returns ", header, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_a_script_names_its_keys_and_arguments(name: str, table: str) -> None:
    header, code = parts(name)
    described = re.findall(rf"^-- ({table}(?:\[\d+\])?)  ", header, re.MULTILINE)
    assert len(set(described)) == len(described)
    # Either each by its number, or the whole table as one.
    if described != [table]:
        assert described == [f"{table}[{number + 1}]" for number in range(len(described))]
        numbered = set(re.findall(rf"{table}\[\d+\]", code))
        # A loop over the rest, as the header says of the last one.
        if not re.search(rf"[#(]{table}\b|{table}\[[a-z]", code):
            assert numbered == set(described)
        assert numbered <= set(described)
    assert bool(described) == (table in code)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_used_by_both_twins(name: str) -> None:
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
def test_a_script_compiles_and_has_the_name_that_redis_gives_it(topology: Topology) -> None:
    for name in SCRIPTS:
        needed = re.findall(r"^-- Needs (\w+)\.lua\.$", parts(name)[0], re.MULTILINE)
        script = lua.load(*needed, name)
        assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
        assert client_of(topology).script_load(script.source) == script.sha


def test_a_script_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        lua.load("missing")
