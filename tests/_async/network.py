"""A network that cuts off schedule sources at chosen commands."""

from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from tests._async.support import on_all_nodes, opened
from tests.faults.proxy import ENDS, CutOff, Proxies, faulty_network
from tests.servers import Topology

#: what can happen to a command; after a crash, there are no others
FAULTS = ("lose the request", "lose the reply", "crash")


class Crash(Exception):  # noqa: N818 - it is no error of the package
    """Ends a call of a simulated process that would wait for Redis."""


class Network:
    """Builds sources whose commands can be cut off.

    Args:
        topology: the servers.
        proxies: proxies in front of the servers.
        cut: chooses the commands that are cut off.
        name: part of all keys.
    """

    def __init__(self, topology: Topology, proxies: Proxies, cut: CutOff, name: str) -> None:
        self.topology = topology
        self.cut = cut
        self.prefix = f"{{{name}}}:app"
        self._proxies = proxies

    @asynccontextmanager
    async def through(
        self, mechanism: str, fault: str = "pass", number: int = 1, **options: Any
    ) -> Any:
        """Build a source that connects through the proxies, and shut it down at the end.

        Args:
            mechanism: kind of the source.
            fault: what happens to a command; see `CutOff.arm`.
            number: number of the command, from 1.
            options: of the source.
        """
        if self.topology.kind == "cluster":
            options["address_remap"] = self._proxies.remap
        options = {"prefix": self.prefix, **options}
        async with opened(self._proxies.topology, mechanism, **options) as source:
            if fault in ENDS:
                # A process that has crashed doesn't try again.
                options = {"retry_timeout": 0} if fault == "crash" else {}
                source._connection.call = partial(call_once, source._connection.call, options)
            self.cut.arm(fault, number)
            yield source

    def directly(self, mechanism: str, **options: Any) -> Any:
        """Build a source that connects directly, and shut it down at the end."""
        return opened(self.topology, mechanism, **{"prefix": self.prefix, **options})

    def disarm(self) -> bool:
        """Cut off no more commands, and return whether one was."""
        hit = self.cut.hit
        self.cut.disarm()
        return hit

    def flush_scripts(self) -> None:
        """Let all servers forget all scripts."""
        on_all_nodes(self.topology, lambda node: node.script_flush())


def call_once(call: Any, always: dict[str, Any], command: Any, **options: Any) -> Any:
    """Run a command, and retry it only if the source says for how long.

    Args:
        call: function that runs it.
        always: options that the source can't change.
        command: the command.
        options: options that the source gives.
    """
    return call(command, **{"retry_timeout": 0, **options, **always})


@contextmanager
def build_network(topology: Topology, name: str) -> Iterator[Network]:
    """Put proxies in front of servers."""
    cut = CutOff(name)
    with faulty_network(topology, cut) as proxies:
        yield Network(topology, proxies, cut, name)
