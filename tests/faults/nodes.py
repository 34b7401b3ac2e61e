"""What is done to the servers of a test."""

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
    """End all that hold data in good order, start them later, and return when they were back."""
    nodes = data_nodes(servers)
    # Together, as a master that ends waits for replicas that lag behind.
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
    """Let none of them answer for some time, and return when they do again."""
    nodes = data_nodes(servers)
    for node in nodes:
        node.pause()
    time.sleep(seconds)
    for node in nodes:
        node.resume()
    return time.time()


@contextmanager
def cutting(servers: Any, interval: float = 0.5) -> Iterator[list[int]]:
    """Cut all connections of clients now and then; what it yields is how many each time."""
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
    done = 0
    for kind in ("normal", "pubsub"):
        # A node may be starting, or gone.
        with suppress(RedisError):
            done += client.client_kill_filter(_type=kind, skipme=True)
    return done


@dataclass
class Failover:
    """When a replica took the place of a primary, in seconds of Unix time.

    Args:
        began: when that was wanted.
        promoted: when the replica was a primary.
    """

    began: float
    promoted: float
    #: when the former one was back as a replica
    ended: float = 0.0


@contextmanager
def fail_over(servers: Any, key: str, how: str) -> Iterator[Failover]:
    """Make a replica take the place of the primary of a key, which comes back in the end.

    Args:
        servers: a cluster, or servers under sentinels.
        key: whose primary.
        how: whether that is `killed`, `ended` in good order, or goes on and is `told`.
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
    """Tell whether a node is a primary, and everybody who could ask hears so."""
    if _ask(node, "ROLE")[0] != "master":
        return False
    if isinstance(servers, LocalCluster):
        return _ask(node, "CLUSTER INFO")["cluster_state"] == "ok"
    return servers.master() is node


def _ask(node: ServerProcess, *command: str) -> Any:
    with probe(node.url) as client:
        return client.execute_command(*command)
