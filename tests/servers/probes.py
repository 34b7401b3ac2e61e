"""Checks whether servers are ready, and which nodes and versions they have."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.sentinel import Sentinel

from tests.servers.configuration import Plan
from tests.servers.topologies import HOST, MASTER, SLOTS, Address, Kind, Topology


def node_url(address: Address, like: str = "redis://") -> str:
    """Return the URL of another node, with the scheme, user and password of `like`."""
    parts = urlsplit(like)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address[0]}:{address[1]}"))


@contextlib.contextmanager
def probe(url: str) -> Iterator[Redis]:
    """Open a client of one node, with short timeouts."""
    client = Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True, protocol=2
    )
    try:
        yield client
    finally:
        client.close()


def single_is_ready(url: str) -> bool:
    """Return whether the server answers and has loaded its data."""
    with probe(url) as client:
        return bool(client.ping())


def cluster_is_ready(addresses: Iterable[Address], like: str = "redis://") -> bool:
    """Return whether each node serves or redirects all slots and each replica is in step.

    For some seconds more, a node may leave replicas out of CLUSTER SLOTS, until it knows their
    offset; a test that reads from replicas has to wait for that itself.
    """
    return all(_cluster_node_is_ready(node_url(address, like)) for address in addresses)


def _cluster_node_is_ready(url: str) -> bool:
    with probe(url) as client:
        state: Any = client.execute_command("CLUSTER INFO")
        replication: Any = client.info("replication")
    return (
        state["cluster_state"] == "ok"
        and int(state["cluster_slots_ok"]) == SLOTS
        and replication.get("master_link_status", "up") == "up"
    )


def sentinels_are_ready(sentinels: Iterable[Address], master_name: str = MASTER) -> bool:
    """Return whether each sentinel sees the master, a replica in step and the other sentinels."""
    addresses = list(sentinels)
    return all(_sentinel_is_ready(a, master_name, len(addresses) - 1) for a in addresses)


def _sentinel_is_ready(address: Address, master_name: str, others: int) -> bool:
    with probe(node_url(address)) as client:
        master: Any = client.sentinel_master(master_name)
        replicas: Any = client.sentinel_slaves(master_name)
    return (
        _flags(master) == {"master"}
        and master["num-other-sentinels"] >= others
        and any(_flags(r) == {"slave"} and r["master-link-status"] == "ok" for r in replicas)
    )


def _flags(state: Mapping[str, Any]) -> set[str]:
    flags = state["flags"]
    return set(flags.split(",") if isinstance(flags, str) else flags)


def plans_are_ready(kind: Kind, plans: Sequence[Plan]) -> bool:
    """Return whether the servers started from these plans are ready as a topology."""
    if kind == "sentinel":
        return sentinels_are_ready((HOST, plan.port) for plan in plans if plan.sentinel)
    if kind == "cluster":
        return cluster_is_ready((HOST, plan.port) for plan in plans)
    return single_is_ready(node_url((HOST, plans[0].port)))


def describe(
    kind: Kind,
    source: str,
    *,
    url: str = "",
    sentinels: Sequence[Address] = (),
    master_name: str = "",
) -> Topology:
    """Ask running servers for their nodes and version, and return their topology."""
    if kind == "sentinel":
        nodes = _sentinel_nodes(sentinels, master_name)
        url = node_url(nodes[0])
    elif kind == "cluster":
        nodes = _cluster_nodes(url)
    else:
        parts = urlsplit(url)
        nodes = [(parts.hostname or HOST, parts.port or 6379)]
    flavour, version = _version_of(url)
    return Topology(
        kind, url, tuple(sentinels), master_name, tuple(nodes), source, flavour, version
    )


def describe_plans(kind: Kind, plans: Sequence[Plan], source: str) -> Topology:
    """Return the topology of the servers started from these plans."""
    sentinels = tuple((HOST, plan.port) for plan in plans if plan.sentinel)
    if kind == "sentinel":
        return describe(kind, source, sentinels=sentinels, master_name=MASTER)
    return describe(kind, source, url=node_url((HOST, plans[0].port)))


def _cluster_nodes(url: str) -> list[Address]:
    with probe(url) as client:
        nodes: Any = client.execute_command("CLUSTER NODES")
    # Primaries first. Unlike CLUSTER SLOTS, CLUSTER NODES lists all replicas from the start.
    names = sorted(nodes, key=lambda name: "master" not in nodes[name]["flags"])
    return [(host, int(port)) for host, _, port in (name.rpartition(":") for name in names)]


def _sentinel_nodes(sentinels: Sequence[Address], master_name: str) -> list[Address]:
    with sentinel_client(sentinels) as client:
        return [client.discover_master(master_name), *client.discover_slaves(master_name)]


@contextlib.contextmanager
def sentinel_client(sentinels: Sequence[Address]) -> Iterator[Sentinel]:
    client = Sentinel(list(sentinels), socket_timeout=5)
    try:
        yield client
    finally:
        for connection in client.sentinels:
            connection.close()


def _version_of(url: str) -> tuple[str, str]:
    with probe(url) as client:
        info: Any = client.info("server")
    if "valkey_version" in info:
        return "valkey", info["valkey_version"]
    return "redis", info["redis_version"]
