# Generated from tests/_async/test_waiting_on_clusters.py by scripts/unasync.py; edit that.

"""BackgroundWait for results on a cluster whose slots move."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests._sync.support import BackgroundWait, opened, result
from tests._threads import wait_until
from tests.servers import LocalCluster, Topology, client_of, close_client

pytestmark = [pytest.mark.full]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster that no other test uses."""
    with LocalCluster() as servers:
        yield servers
        close_client(servers.topology)


def names_at(topology: Topology, name: str, count: int) -> list[str]:
    """Return names of keys, each on a different primary."""
    client = client_of(topology)
    found: dict[str, str] = {}
    number = 0
    while len(found) < count:
        key = f"{name}:{number}"
        found.setdefault(client.get_node_from_key(key).name, key)
        number += 1
    return list(found.values())


def names_on_first_and_other_node(cluster: LocalCluster, name: str) -> tuple[str, str]:
    """Return the name of a key on the first node, and of one on a node that may be stopped.

    The first node has to stay: a new client of the cluster knows only its address.
    """
    client, found = client_of(cluster.topology), names_at(cluster.topology, name, 3)
    first = cluster.primaries[0].port
    stays = next(key for key in found if client.get_node_from_key(key).port == first)
    return stays, next(key for key in found if key != stays)


def test_waiter_is_notified_after_its_slot_has_moved(cluster: LocalCluster, name: str) -> None:
    topology = cluster.topology
    with opened(topology, "results") as backend, opened(topology, "results") as writer:
        here, other = names_at(topology, name, 2)
        with BackgroundWait(backend, here, other) as waiting:
            move_slot(topology, here, to=other)
            for task_id in (here, other):
                writer.set_result(task_id, result(1))
            wait_until(waiting.done)


def move_slot(topology: Topology, key: str, to: str) -> None:
    """Move the empty slot of a key to the node of another key."""
    client = client_of(topology)
    target = client.get_node_from_key(to)
    node_id = client.execute_command("CLUSTER MYID", target_nodes=target)
    slot = client.keyslot(key)
    for node in client.get_primaries():
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", as_text(node_id), target_nodes=node)


def as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_waiter_is_notified_by_the_promoted_replica(cluster: LocalCluster, name: str) -> None:
    topology = cluster.topology
    with opened(topology, "results") as backend, opened(topology, "results") as writer:
        _, task_id = names_on_first_and_other_node(cluster, name)
        node = cluster.node_at(client_of(topology).get_node_from_key(task_id).port)
        with BackgroundWait(backend, task_id) as waiting:
            node.kill()
            writer.set_result(task_id, result(1))
            wait_until(waiting.done)
