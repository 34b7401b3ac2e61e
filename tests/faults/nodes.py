"""Faults of servers: restarts, freezes, cut connections, failovers."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from signal import SIGTERM
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.servers import MASTER, SLOTS, THREAD_PREFIX, LocalCluster, ServerProcess, probe
from tests.waiting import wait_until


def data_nodes(servers: Any) -> list[ServerProcess]:
    """Return the processes that hold data."""
    if isinstance(servers, ServerProcess):
        return [servers]
    return list(servers.processes if isinstance(servers, LocalCluster) else servers.data)


def restart(servers: Any, seconds: float) -> float:
    """Stop all data nodes in order, start them later, and return the time of readiness."""
    nodes = data_nodes(servers)
    # At the same time, because a master that shuts down waits for lagging replicas.
    for node in nodes:
        os.kill(node.pid, SIGTERM)
    for node in nodes:
        node.stop()
    time.sleep(seconds)
    for node in nodes:
        node.launch()
    servers.wait_ready()
    return time.time()


def freeze(servers: Any, seconds: float) -> float:
    """Pause all data nodes for some time, and return the time at which they resume."""
    nodes = data_nodes(servers)
    for node in nodes:
        node.pause()
    time.sleep(seconds)
    for node in nodes:
        node.resume()
    return time.time()


@contextmanager
def cutting(servers: Any, interval: float = 0.5) -> Iterator[list[int]]:
    """Cut all client connections at an interval, and yield the list of numbers of cut connections."""
    cut: list[int] = []
    stopping = threading.Event()

    def cut_all() -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(probe(node.url)) for node in data_nodes(servers)]
            while not stopping.wait(interval):
                cut.append(sum(_cut(client) for client in clients))

    thread = threading.Thread(target=cut_all, name=f"{THREAD_PREFIX}-cutting")
    thread.start()
    try:
        yield cut
    finally:
        stopping.set()
        thread.join()


def _cut(client: Any) -> int:
    """Cut all but the connections of sentinels, which may start a failover without them."""
    done = 0
    for kind in ("normal", "pubsub"):
        # A node may be starting or stopped.
        with suppress(RedisError):
            for connection in client.client_list(_type=kind):
                if not connection["name"].startswith("sentinel-"):
                    done += client.client_kill_filter(_id=connection["id"], skipme=True)
    return done


@dataclass
class Failover:
    """The times of a failover, in seconds of Unix time.

    Args:
        began: start of the failover.
        promoted: time at which the replica was a primary.
    """

    began: float
    promoted: float
    #: time at which the former primary was back as a replica
    ended: float = 0.0


@contextmanager
def fail_over(servers: Any, key: str, how: str) -> Iterator[Failover]:
    """Fail over from the primary of a key to its replica; the primary returns in the end.

    Args:
        servers: cluster, or servers with sentinels.
        key: Redis key whose primary is replaced.
        how: `killed`, `ended` in order, or `manual` for a live primary.
    """
    old, new = _primary_and_replica(servers, key)
    began = time.time()
    if how == "killed":
        old.kill()
    elif how == "ended":
        old.stop()
    elif isinstance(servers, LocalCluster):
        _ask(new, "CLUSTER", "FAILOVER")
    else:
        _ask(servers.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
    wait_until(lambda: _is_primary(servers, new))
    change = Failover(began, time.time())
    yield change
    old.launch()
    servers.wait_ready()
    wait_until(lambda: _ask(old, "ROLE")[0] != "master")
    change.ended = time.time()


def _primary_and_replica(servers: Any, key: str) -> tuple[ServerProcess, ServerProcess]:
    if isinstance(servers, LocalCluster):
        index = next(n for n in range(3) if key_slot(key.encode()) < SLOTS * (n + 1) // 3)
        return servers.primaries[index], servers.replicas[index]
    old = servers.master()
    return old, next(node for node in servers.data if node is not old)


def _is_primary(servers: Any, node: ServerProcess) -> bool:
    """Return whether a node is a primary, and the cluster or the sentinels report it."""
    if _ask(node, "ROLE")[0] != "master":
        return False
    if isinstance(servers, LocalCluster):
        return _ask(node, "CLUSTER INFO")["cluster_state"] == "ok"
    return servers.master() is node


def _ask(node: ServerProcess, *command: str) -> Any:
    with probe(node.url) as client:
        return client.execute_command(*command)
