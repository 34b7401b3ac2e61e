"""A cluster of local processes."""

import functools
from collections.abc import Mapping

from tests.servers.configuration import cluster_plans
from tests.servers.probes import cluster_is_ready, describe
from tests.servers.processes import LocalGroup
from tests.servers.topologies import Topology


class LocalCluster(LocalGroup):
    """Three primaries and three replicas; `extra` is configuration for each node."""

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(functools.partial(cluster_plans, extra=extra), "cluster")
        self.primaries, self.replicas = self.processes[:3], self.processes[3:]

    def is_ready(self) -> bool:
        """Return whether each node sees all slots and its replicas."""
        return cluster_is_ready([process.address for process in self.processes])

    @property
    def topology(self) -> Topology:
        """The cluster, seen from the first node that runs."""
        first = next(process for process in self.processes if process.running)
        return describe("cluster", first.source, url=first.url)
