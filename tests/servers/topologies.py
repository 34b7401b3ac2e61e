"""The addresses of a topology, and errors of servers."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "cluster", "sentinel"]
Address = tuple[str, int]
KINDS: tuple[Kind, ...] = ("single", "cluster", "sentinel")
HOST = "127.0.0.1"
MASTER = "mymaster"
SLOTS = 16384


class ServerError(Exception):
    """A server did not start, or an environment variable has an invalid value."""


class Unavailable(ServerError):  # noqa: N818 - as `Skipped`, it is not a failure by itself
    """No source of servers is available on this machine."""


@dataclass(frozen=True)
class Topology:
    """The addresses and the version of a running topology; it can be pickled."""

    kind: Kind
    url: str
    sentinels: tuple[Address, ...] = ()
    master_name: str = ""
    nodes: tuple[Address, ...] = ()
    source: str = ""
    flavour: str = ""
    version: str = ""

    @property
    def version_info(self) -> tuple[int, ...]:
        """The version of the server as numbers; those of Redis and Valkey differ after 7.2."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())
