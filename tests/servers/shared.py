"""The servers that all tests of a process share, from the first available source."""

import os
import traceback
from contextlib import ExitStack
from typing import Protocol

from tests.servers.cluster import LocalCluster
from tests.servers.containers import DockerGroup, docker_answers
from tests.servers.external import ENVIRONMENT, ExternalGroup
from tests.servers.processes import ServerProcess
from tests.servers.sentinel import LocalSentinel
from tests.servers.sources import SOURCES, forced_source, local_executable, nothing_found
from tests.servers.topologies import Kind, ServerError, Topology, Unavailable


class Group(Protocol):
    """A topology from any source, as `Servers` uses it."""

    @property
    def topology(self) -> Topology:
        """The running topology."""

    def start(self) -> None:
        """Start it and wait until it can be used."""

    def close(self) -> None:
        """End it."""


def group_for(kind: Kind) -> Group:
    """Return the topology from the first available source, not yet started."""
    forced = forced_source()
    sources = SOURCES if forced is None else (forced,)
    for source in sources:
        group = _group_from(source, kind)
        if group is not None:
            return group
    raise Unavailable(nothing_found(sources))


def _group_from(source: str, kind: Kind) -> Group | None:
    if source == "env":
        return ExternalGroup(kind) if os.environ.get(ENVIRONMENT[kind]) else None
    if source == "docker":
        return DockerGroup(kind) if docker_answers() else None
    try:
        found, _ = local_executable()
    except Unavailable:
        return None
    if found != source:
        return None
    if kind == "sentinel":
        return LocalSentinel()
    return LocalCluster() if kind == "cluster" else ServerProcess()


class Servers:
    """Starts each topology at most once, on first use, and ends them together."""

    def __init__(self) -> None:
        self._answers: dict[Kind, Topology | ServerError] = {}
        self._groups = ExitStack()

    def topology(self, kind: Kind) -> Topology:
        """Return the running topology of this kind."""
        return topology_from(self.answer(kind))

    def answer(self, kind: Kind) -> Topology | ServerError:
        """Return the topology, or the error of its failed start, which is not tried again."""
        if kind not in self._answers:
            self._answers[kind] = self._start(kind)
        return self._answers[kind]

    def _start(self, kind: Kind) -> Topology | ServerError:
        try:
            group = group_for(kind)
            self._groups.callback(group.close)
            group.start()
            answer: Topology | ServerError = group.topology
        except ServerError as exc:
            answer = exc
        except Exception:
            answer = ServerError(f"the {kind} topology did not start\n{traceback.format_exc()}")
        return answer

    def close(self) -> None:
        """End all topologies."""
        self._groups.close()


def topology_from(answer: Topology | ServerError) -> Topology:
    """Return the topology of an answer, or raise its error."""
    if isinstance(answer, Topology):
        return answer
    # A new object each time: the traceback of a raised one would grow from test to test.
    raise type(answer)(*answer.args)
