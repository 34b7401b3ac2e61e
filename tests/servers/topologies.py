"""Where a topology is, and what can be wrong with it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "cluster", "sentinel"]
Address = tuple[str, int]
KINDS: tuple[Kind, ...] = ("single", "cluster", "sentinel")
HOST = "127.0.0.1"
MASTER = "mymaster"
SLOTS = 16384


class ServerError(Exception):
    """A server did not start, or the environment asks for something that makes no sense."""


class Unavailable(ServerError):  # noqa: N818 - as `Skipped`, it is not a failure by itself
    """No source of servers fits on this machine."""


@dataclass(frozen=True)
class Topology:
    """Where a running topology is, in a form that can be sent to another process."""

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
        """The version of the server as numbers; Valkey counts on from 7.2 on its own."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())
