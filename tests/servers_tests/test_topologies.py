"""Topologies that all other tests share."""

import pickle

import pytest
from redis.sentinel import Sentinel

from tests import servers
from tests.servers import SLOTS, Topology, client_of, delete_keys, keys_of


def test_topology_accepts_reads_and_writes(topology: Topology, name: str) -> None:
    client = client_of(topology)

    assert client.set(name, "value")
    assert client.get(name) == b"value"


def test_topology_describes_itself(topology: Topology) -> None:
    assert topology.url.startswith(("redis://", "rediss://"))
    assert topology.nodes
    assert topology.source in servers.SOURCES
    assert topology.flavour in {"redis", "valkey"}
    assert topology.version_info >= (6, 2)
    assert pickle.loads(pickle.dumps(topology)) == topology


def test_keys_of_and_delete_keys_cover_all_primaries(topology: Topology, name: str) -> None:
    client = client_of(topology)
    expected = sorted(f"{name}:{number}" for number in range(20))
    for key in expected:
        client.set(key, 1)
    client.set(f"other:{name}", 1)

    assert keys_of(topology, f"{name}:*") == expected
    delete_keys(topology, f"{name}:*")
    assert keys_of(topology, f"*{name}*") == [f"other:{name}"]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_cluster_covers_all_slots(topology: Topology) -> None:
    client = client_of(topology)

    assert client.cluster_info(target_nodes="random")["cluster_state"] == "ok"
    assert all(client.keyslot(str(number)) < SLOTS for number in range(10))
    assert set(client.nodes_manager.slots_cache) == set(range(SLOTS))
    assert len(topology.nodes) >= 3


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
def test_sentinels_know_the_master(topology: Topology) -> None:
    sentinel = Sentinel(list(topology.sentinels), socket_timeout=5)
    try:
        assert sentinel.discover_master(topology.master_name) == topology.nodes[0]
        assert sentinel.discover_slaves(topology.master_name)
    finally:
        for client in sentinel.sentinels:
            client.close()


_LEFTOVER: list[tuple[Topology, str]] = []


class TestCleaning:
    """Two tests in order; the second checks that the key of the first one was deleted."""

    @pytest.mark.parametrize("topology", ["single"], indirect=True)
    def test_key_is_left_behind(self, topology: Topology, name: str) -> None:
        client_of(topology).set(f"prefix:{name}:suffix", 1)
        _LEFTOVER.append((topology, name))

    def test_left_key_was_deleted(self) -> None:
        for topology, name in _LEFTOVER:
            assert keys_of(topology, f"*{name}*") == []


def test_addresses_are_parsed_and_formatted() -> None:
    assert servers.parse_addresses("a:1, b:2,") == (("a", 1), ("b", 2))
    assert servers.node_url(("h", 1), "rediss://u:p@x:9/2?a=b") == "rediss://u:p@h:1/2?a=b"
    assert servers.node_url(("h", 1)) == "redis://h:1"
