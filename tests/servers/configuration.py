"""The configuration and the files of each server process of a topology."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.servers.topologies import HOST, MASTER, SLOTS, Kind


@dataclass(frozen=True)
class Plan:
    """The port, the configuration and the prepared files of one server process."""

    port: int
    config: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    sentinel: bool = False

    def all_files(self) -> dict[str, str]:
        """Return the contents of each file in the directory where the server starts."""
        return {"server.conf": "".join(f"{line}\n" for line in self.config), **self.files}

    def arguments(self) -> list[str]:
        """Return the command line after the name of the executable."""
        return ["server.conf", "--sentinel"] if self.sentinel else ["server.conf"]


def data_plan(
    port: int,
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
    files: Mapping[str, str] | None = None,
) -> Plan:
    """Plan a server that holds data; it persists nothing unless `extra` says otherwise."""
    config = {
        "bind": bind,
        "port": str(port),
        "protected-mode": "no",
        "save": '""',
        "appendonly": "no",
        # Replicas are ready in tenths of a second instead of up to six seconds: the primary doesn't
        # wait for more replicas, and they load the data without a file on disk.
        "repl-diskless-sync-delay": "0",
        "repl-diskless-load": "swapdb",
        "repl-ping-replica-period": "1",
        **(extra or {}),
    }
    return Plan(port, tuple(f"{key} {value}" for key, value in config.items()), files or {})


def cluster_plans(
    ports: Sequence[int],
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
) -> list[Plan]:
    """Plan three primaries, then their replicas; all know each other from the start."""
    ids = [secrets.token_hex(20) for _ in ports]
    extra = {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-announce-ip": HOST,
        **(extra or {}),
    }
    return [
        data_plan(port, extra, bind=bind, files={"nodes.conf": _nodes_conf(ports, ids, index)})
        for index, port in enumerate(ports)
    ]


def _nodes_conf(ports: Sequence[int], ids: Sequence[str], myself: int) -> str:
    lines = []
    for index, (port, node_id) in enumerate(zip(ports, ids, strict=True)):
        of = index % 3
        flags = "master" if index < 3 else "slave"
        flags = f"myself,{flags}" if index == myself else flags
        first, last = SLOTS * of // 3, SLOTS * (of + 1) // 3 - 1
        role = f"- 0 0 {of + 1} connected {first}-{last}"
        if index >= 3:
            role = f"{ids[of]} 0 0 {of + 1} connected"
        lines.append(f"{node_id} {HOST}:{port}@{port + 10_000} {flags} {role}\n")
    return "".join([*lines, "vars currentEpoch 3 lastVoteEpoch 0\n"])


#: ms without a reply until a failover; the slow one doesn't happen on a busy machine
SLOW_FAILOVER, FAST_FAILOVER = 60_000, 500


def sentinel_plans(
    ports: Sequence[int],
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
    down_after: int = SLOW_FAILOVER,
) -> list[Plan]:
    """Plan a master, its replica and the sentinels; all know each other from the start."""
    master, replica, *sentinels = ports
    ids = {port: secrets.token_hex(20) for port in sentinels}
    return [
        data_plan(master, extra, bind=bind),
        data_plan(replica, {"replicaof": f"{HOST} {master}", **(extra or {})}, bind=bind),
        *(
            Plan(p, _sentinel_conf(p, master, replica, ids, bind, down_after), {}, True)
            for p in sentinels
        ),
    ]


def _sentinel_conf(
    port: int,
    master: int,
    replica: int,
    ids: Mapping[int, str],
    bind: str,
    down_after: int,
) -> tuple[str, ...]:
    return (
        f"bind {bind}",
        f"port {port}",
        "protected-mode no",
        f"sentinel myid {ids[port]}",
        f"sentinel monitor {MASTER} {HOST} {master} 2",
        f"sentinel down-after-milliseconds {MASTER} {down_after}",
        f"sentinel failover-timeout {MASTER} 5000",
        f"sentinel known-replica {MASTER} {HOST} {replica}",
        *(
            f"sentinel known-sentinel {MASTER} {HOST} {other} {other_id}"
            for other, other_id in ids.items()
            if other != port
        ),
    )


def plans_for(kind: Kind, ports: Sequence[int], *, bind: str = HOST) -> list[Plan]:
    """Plan the processes of one topology on the given ports."""
    if kind == "cluster":
        return cluster_plans(ports, bind=bind)
    if kind == "sentinel":
        return sentinel_plans(ports, bind=bind)
    return [data_plan(port, bind=bind) for port in ports]


PORTS_NEEDED: dict[Kind, int] = {"single": 1, "cluster": 6, "sentinel": 5}
