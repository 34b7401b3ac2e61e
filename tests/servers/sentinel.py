"""A master and its replica under sentinels, as local processes."""

import functools
from collections.abc import Mapping
from typing import Any

from tests.servers.clients import close_client
from tests.servers.configuration import SLOW_FAILOVER, sentinel_plans
from tests.servers.probes import describe, probe, sentinel_client, sentinels_are_ready
from tests.servers.processes import LocalGroup, ServerProcess
from tests.servers.topologies import MASTER, Address, Topology
from tests.waiting import wait_until


class LocalSentinel(LocalGroup):
    """A master, its replica and three sentinels.

    Args:
        extra: configuration for the data nodes.
        down_after: ms without an answer until a failover, `FAST_FAILOVER` for tests of it.
    """

    def __init__(
        self, extra: Mapping[str, str] | None = None, down_after: int = SLOW_FAILOVER
    ) -> None:
        make_plans = functools.partial(sentinel_plans, extra=extra, down_after=down_after)
        super().__init__(make_plans, "sentinel")
        self.data, self.sentinels = self.processes[:2], self.processes[2:]

    def start(self) -> None:
        """Start the master, then the replica, then the sentinels."""
        # A replica that finds no master running connects again only after a second.
        for process in self.data:
            process.start()
        wait_until(self._replica_is_in_step, what="a replica in step")
        super().start()

    def _replica_is_in_step(self) -> bool:
        with probe(self.data[1].url) as client:
            replication: Any = client.info("replication")
        return replication["master_link_status"] == "up"

    def is_ready(self) -> bool:
        """Return whether the sentinels see a master, a replica in step and each other."""
        return sentinels_are_ready(self._sentinel_addresses())

    def _sentinel_addresses(self) -> tuple[Address, ...]:
        return tuple(process.address for process in self.sentinels)

    def master(self) -> ServerProcess:
        """Return the process that the sentinels name as the master."""
        with sentinel_client(self._sentinel_addresses()) as client:
            return self.node_at(client.discover_master(MASTER))

    @property
    def topology(self) -> Topology:
        """The sentinels and the current master."""
        source, addresses = self.data[0].source, self._sentinel_addresses()
        return describe("sentinel", source, sentinels=addresses, master_name=MASTER)

    def close(self) -> None:
        """End all processes for good and remove their files."""
        super().close()
        close_client(self._sentinel_addresses())
