"""What a test and the programs that it starts agree on: servers, names, options."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Any

from tests._async.support import build
from tests.servers import Topology

#: the environment variable that it travels in
VARIABLE = "TASKIQ_REDIS_TEST_SETTING"
#: what a module of tasks gets when a test imports it; nothing listens there
NOWHERE = Topology(kind="single", url="redis://127.0.0.1:1")


@dataclass(frozen=True)
class Setting:
    """Makes the same objects in the test and in its programs.

    Args:
        topology: the servers.
        name: queue, prefix of results and schedules, and name of all connections of the programs.
        mechanism: which kind of broker.
        options: what the broker gets besides.
        retries: options of the retry middleware, for programs that have one.
        records: the file to which `record` appends.
    """

    topology: Topology = NOWHERE
    name: str = "e2e"
    mechanism: str = "stream"
    options: dict[str, Any] = field(default_factory=dict)
    retries: dict[str, Any] = field(default_factory=dict)
    records: str = os.devnull

    def broker(self, **options: Any) -> Any:
        """Make a broker with a result backend."""
        options = {"queue_name": self.name, "client_name": self.name, **self.options, **options}
        broker = build(self.topology, self.mechanism, **options)
        return broker.with_result_backend(self.results())

    def results(self) -> Any:
        """Make a result backend."""
        return build(self.topology, "results", prefix_str=self.name, client_name=self.name)

    def source(self, mechanism: str) -> Any:
        """Make a schedule source, `keys` or `indexed`."""
        # On a cluster, the keys of the indexed one share a hash slot.
        prefix = f"{{{self.name}}}:{mechanism}"
        return build(self.topology, mechanism, prefix=prefix, client_name=self.name)

    def environment(self) -> dict[str, str]:
        """Return what lets a program find it."""
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}


def read_setting() -> Setting:
    """Return what the test wants of this program; in the test itself, something to import by."""
    if VARIABLE not in os.environ:
        return Setting()
    values = json.loads(os.environ[VARIABLE])
    topology = values.pop("topology")
    topology["sentinels"] = tuple((host, port) for host, port in topology["sentinels"])
    return Setting(topology=Topology(**topology), **values)


SETTING = read_setting()
