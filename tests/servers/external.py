"""Servers that run already, named by environment variables."""

import os

from tests.servers.probes import describe
from tests.servers.topologies import MASTER, Address, Kind, Topology

ENVIRONMENT: dict[Kind, str] = {
    "single": "TEST_REDIS_URL",
    "cluster": "TEST_REDIS_CLUSTER_URL",
    "sentinel": "TEST_REDIS_SENTINELS",
}


class ExternalGroup:
    """Servers that run already, named by environment variables."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def start(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    @property
    def topology(self) -> Topology:
        """The servers that the environment names."""
        if self.kind == "sentinel":
            sentinels = parse_addresses(os.environ["TEST_REDIS_SENTINELS"])
            master = os.environ.get("TEST_REDIS_MASTER") or MASTER
            return describe("sentinel", "env", sentinels=sentinels, master_name=master)
        return describe(self.kind, "env", url=os.environ[ENVIRONMENT[self.kind]])


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Parse "host:port,host:port"."""
    pairs = (part.strip().rpartition(":") for part in text.split(",") if part.strip())
    return tuple((host, int(port)) for host, _, port in pairs)
