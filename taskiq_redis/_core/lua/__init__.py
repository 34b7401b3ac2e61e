"""The Lua scripts, one per file."""

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Script:
    """The source of a script and its SHA-1 digest, for EVALSHA."""

    source: str
    sha: str


def load(*names: str) -> Script:
    """Load a script from files ``name.lua``: the files with its functions, then its own file."""
    source = "\n".join(_read(name) for name in names)
    return Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis requires it


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
