"""The setting that a test shares with its programs: servers, names, options."""

import dataclasses
import json
import os
from dataclasses import dataclass, field, replace
from typing import Any

from tests._async.support import build, connections_named, on_all_nodes
from tests.servers import Topology

#: environment variable that holds the setting
VARIABLE = "TASKIQ_REDIS_TEST_SETTING"
#: servers of task modules that a test imports; nothing listens there
NOWHERE = Topology(kind="single", url="redis://127.0.0.1:1")


@dataclass(frozen=True)
class Setting:
    """Makes equal brokers and sources in a test and in its programs.

    Args:
        topology: the servers.
        name: queue, and prefix of results, schedules and the names of connections.
        mechanism: kind of broker.
        options: more arguments of the broker.
        results: more arguments of the result backend.
        extras: options for the task module itself.
        records: path of the file for `record`.
        role: `test`, or a kind of program such as `worker`; part of the names of connections.
    """

    topology: Topology = NOWHERE
    name: str = "e2e"
    mechanism: str = "stream"
    options: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    records: str = os.devnull
    role: str = "test"

    def _build(self, mechanism: str, **options: Any) -> Any:
        return build(self.topology, mechanism, client_name=f"{self.name}:{self.role}", **options)

    def broker(self) -> Any:
        """Make a broker with a result backend."""
        broker = self._build(self.mechanism, queue_name=self.name, **self.options)
        # Without an expiry time, a worker logs a warning.
        expiry = {} if "result_px_time" in self.results else {"result_ex_time": 3600}
        results = self._build("results", prefix_str=self.name, **expiry, **self.results)
        return broker.with_result_backend(results)

    def source(self, mechanism: str) -> Any:
        """Make a schedule source, `keys` or `indexed`."""
        # On a cluster, the keys of an indexed source share a hash slot.
        prefix = f"{{{self.name}}}:{mechanism}"
        return self._build(mechanism, prefix=prefix)

    def connections(self) -> set[str]:
        """Return the connections of the programs."""
        return connections_named(self.topology, f"{self.name}:program")

    def is_read(self) -> bool:
        """Return whether a program is reading a stream."""
        nodes = on_all_nodes(self.topology, lambda node: node.client_list())
        doing = {(client["name"], client["cmd"]) for clients in nodes for client in clients}
        return any((f"{self.name}:program", what) in doing for what in ("xreadgroup", "xautoclaim"))

    def environment(self) -> dict[str, str]:
        """Return the environment variables that hold this setting."""
        role = "program" if self.role == "test" else self.role
        return {VARIABLE: json.dumps(dataclasses.asdict(replace(self, role=role)))}


def read_setting() -> Setting:
    """Return the setting from the environment; in a test, a default that allows imports."""
    if VARIABLE not in os.environ:
        return Setting()
    values = json.loads(os.environ[VARIABLE])
    topology = values.pop("topology")
    topology["sentinels"] = tuple((host, port) for host, port in topology["sentinels"])
    return Setting(topology=Topology(**topology), **values)


SETTING = read_setting()
