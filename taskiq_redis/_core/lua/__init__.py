"""The Lua scripts, one per file."""

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Script:
    """The source of a script, and the name under which Redis keeps it."""

    source: str
    sha: str


def load(*names: str) -> Script:
    """Read a script from files ``name.lua``: those that it needs, and its own as the last."""
    source = "\n".join(_read(name) for name in names)
    return Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324 - Redis' choice


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
