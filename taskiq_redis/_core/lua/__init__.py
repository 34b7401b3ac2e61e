"""The Lua scripts, one per file."""

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Script:
    """The source of a script, and the name under which Redis keeps it."""

    source: str
    sha: str


def load(name: str) -> Script:
    """Read the script of that name from the file ``name.lua``."""
    source = resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis' choice
