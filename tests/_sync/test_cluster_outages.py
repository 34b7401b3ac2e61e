# Generated from tests/_async/test_cluster_outages.py by scripts/unasync.py; edit that.

"""Clusters with a dead shard, or whose nodes get new addresses."""

from functools import partial

import pytest
from redis.crc import key_slot

from taskiq_redis.exceptions import ServerUnavailableError
from tests._sync.support import Listener, build, message, opened, result
from tests._threads import wait_until
from tests.faults.endpoint import moving_cluster, primaries_only
from tests.servers import SLOTS, Topology, probe

pytestmark = [pytest.mark.full]


def test_nodes_with_new_addresses_are_found(name: str) -> None:
    with moving_cluster() as cluster:
        broker = build(cluster.topology, "stream", queue_name=name)
        with Listener(broker) as listener:
            broker.kick(message(b"before"))
            wait_until(partial(listener.has, b"before"))
            cluster.move()
            broker.kick(message(b"after"))
            wait_until(partial(listener.has, b"before", b"after"))


def _queue_on(primary: int) -> str:
    """Return a name of a queue on one of three primaries."""
    names = (f"queue-{number}" for number in range(SLOTS))
    return next(name for name in names if key_slot(name.encode()) * 3 // SLOTS == primary)


def test_healthy_shard_is_used_while_another_one_is_dead() -> None:
    # By default, redis-py asks the primary of the first slots about the server's commands.
    dead, healthy = _queue_on(0), _queue_on(1)
    with primaries_only() as nodes:
        topology = Topology(kind="cluster", url=nodes[1].url)
        broker = build(topology, "stream", queue_name=healthy, kick_timeout=1)
        with Listener(broker) as listener:
            for number, queue_name in enumerate([dead, healthy]):
                broker.kick(message(b"%d" % number, queue_name=queue_name))
            nodes[0].kill()
            with pytest.raises(ServerUnavailableError):
                broker.kick(message(b"lost", queue_name=dead))
            broker.kick(message(b"2"))
            with opened(topology, "stream", queue_name=healthy) as other:
                other.kick(message(b"3"))
            wait_until(partial(listener.has, b"1", b"2", b"3"))
        with Listener(build(topology, "stream", queue_name=healthy)) as listener:
            with opened(topology, "stream", queue_name=healthy) as other:
                other.kick(message(b"4"))
            wait_until(partial(listener.has, b"4"))


def test_pipelines_find_the_new_primary_of_a_slot() -> None:
    queue = _queue_on(0)
    ids = [f"{number}" for number in range(2)]
    with primaries_only() as nodes:
        topology = Topology(kind="cluster", url=nodes[1].url)
        with opened(topology, "results", prefix_str=f"{{{queue}}}") as backend:
            assert backend.get_results(ids) == {}
            with probe(nodes[1].url) as new, probe(nodes[2].url) as other:
                nodes[0].kill()
                node_id = new.execute_command("CLUSTER MYID")
                for node in (new, other):
                    slot = key_slot(queue.encode())
                    node.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id)
            with opened(topology, "results", prefix_str=f"{{{queue}}}") as sender:
                sender.set_result(ids[0], result(1))
            assert list(backend.get_results(ids)) == ids[:1]
