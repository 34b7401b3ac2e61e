# Generated from tests/_async/test_moving_slots.py by scripts/unasync.py; edit that.

"""Queues in a hash slot that was left moving, where Redis refuses commands with two keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterError, ConnectionError as RedisConnectionError

from taskiq_redis._core import refusals
from taskiq_redis._sync.brokers import producer as producers
from taskiq_redis._sync.connection import evaluate
from tests._sync.support import message, opened, redis_of, take
from tests._threads import together, wait_until
from tests.servers import Topology

on_cluster = pytest.mark.parametrize("topology", ["cluster"], indirect=True)


@contextmanager
def moving(topology: Topology, key: str) -> Iterator[None]:
    """Leave the slot of a key migrating from one node, and importing to another one."""
    cluster, slot = redis_of(topology), key_slot(key.encode())
    owner = cluster.get_node_from_key(key)
    other = next(node for node in cluster.get_primaries() if node != owner)
    nodes = [cluster.get_redis_connection(node) for node in (owner, other)]
    source, target = (node.execute_command("CLUSTER MYID") for node in nodes)
    nodes[1].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source)
    nodes[0].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target)
    try:
        yield
    finally:
        _delete_keys(other, slot)
        for node in nodes:
            node.execute_command("CLUSTER SETSLOT", slot, "STABLE")


def _delete_keys(node: Any, slot: int) -> None:
    """Delete what a node has got of a slot that isn't its own."""
    with Redis(host=node.host, port=node.port, single_connection_client=True) as client:
        keys: Any = client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        for key in keys:
            client.execute_command("ASKING")
            client.delete(key)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let refused scripts be tried again soon."""
    monkeypatch.setattr(refusals, "MIN_REFUSED_PAUSE", 0.1)
    monkeypatch.setattr(refusals, "MAX_REFUSED_PAUSE", 0.2)


@on_cluster
@pytest.mark.full
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("mechanism", "exists"), [("list", False), ("stream", True)])
def test_queue_in_moving_slot_is_written_and_read(
    topology: Topology, name: str, mechanism: str, exists: bool
) -> None:
    with (
        opened(topology, mechanism, queue_name=name) as broker,
        opened(topology, mechanism, queue_name=name) as worker,
    ):
        if exists:
            # By another producer, so that the queue exists, and not the keys of this one.
            worker.kick(message(b"before"))
        with moving(topology, name):
            together(*[partial(broker.kick, message(b"%d" % n)) for n in range(6)])
            # Workers can't move it now, and fetch others all the same.
            broker.kick(message(b"later", delay=0.01))
            broker.kick_many([message(b"6"), message(b"7")])
            sent = [*([b"before"] if exists else []), *[b"%d" % n for n in range(8)]]
            assert sorted(take(worker, len(sent))) == sorted(sent)
        producer = broker._producer.get()

        def sends_exactly_once() -> bool:
            broker.kick(message(b"after"))
            return (name, False) not in producer._moving

        wait_until(sends_exactly_once)


@on_cluster
def test_redirected_command_follows_asking_on_the_same_connection(
    topology: Topology, name: str
) -> None:
    with opened(topology, "results", prefix_str=f"{{{name}}}") as backend:
        client = backend._connection.client

        def run(*command: str) -> None:
            client.execute_command(*command)

        # Both nodes have several connections.
        backend._connection.call(lambda client: client.ping())
        together(*[partial(client.ping, target_nodes="primaries") for _ in range(4)])
        with moving(topology, name):
            calls = [partial(run, "SET", f"{{{name}}}:{n}", "1") for n in range(20)]
            together(*calls)
            together(*calls)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_batch_that_may_have_been_added_is_not_sent_by_plain_commands(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = ClusterError("TTL exhausted.")
    failures: list[Exception] = [RedisConnectionError("lost"), moves, moves]

    def fail_first(*args: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return evaluate(*args)

    monkeypatch.setattr(producers, "evaluate", fail_first)
    with opened(topology, "list", queue_name=name) as broker:
        broker.kick(message(b"a"))
        assert not failures
        assert not broker._producer.get()._moving
        assert redis_of(topology).lrange(name, 0, -1) == [b"a"]
