"""Blocking clients for tests that inspect Redis."""

import threading
from contextlib import ExitStack
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster

from taskiq_redis._drivers.blocking import disconnect
from tests.servers.probes import sentinel_client
from tests.servers.topologies import Topology

_CLIENTS: dict[object, ExitStack] = {}
_CLIENT_OF: dict[object, Any] = {}
_CLIENTS_LOCK = threading.Lock()


def client_of(topology: Topology) -> Any:
    """Return a blocking client of redis-py for this topology, one per process; it returns bytes.

    It is a `Redis`, or a `RedisCluster` with the same commands. It must not be closed.
    """
    key = topology.sentinels or topology.url
    with _CLIENTS_LOCK:
        if key not in _CLIENTS:
            with ExitStack() as stack:
                _CLIENT_OF[key] = _open_client(topology, stack)
                _CLIENTS[key] = stack.pop_all()
        return _CLIENT_OF[key]


def _open_client(topology: Topology, stack: ExitStack) -> Redis | RedisCluster:
    client: Redis | RedisCluster
    if topology.kind == "cluster":
        client = RedisCluster.from_url(topology.url, socket_timeout=5)
        stack.callback(disconnect, client)
    elif topology.kind == "sentinel":
        sentinel = stack.enter_context(sentinel_client(topology.sentinels))
        client = sentinel.master_for(topology.master_name, redis_class=Redis)
    else:
        client = Redis.from_url(topology.url, socket_timeout=5)
    stack.callback(client.close)
    return client


def close_client(key: object) -> None:
    """Close the client of a topology whose servers are gone."""
    with _CLIENTS_LOCK:
        _CLIENT_OF.pop(key, None)
        stack = _CLIENTS.pop(key, None)
    if stack is not None:
        stack.close()


def close_clients() -> None:
    """Close all clients that `client_of` opened."""
    for key in list(_CLIENTS):
        close_client(key)


def keys_of(topology: Topology, pattern: str = "*") -> list[str]:
    """Return the names of all keys that match, on all primaries, sorted."""
    found = client_of(topology).scan_iter(match=pattern, count=1000)
    return sorted({key.decode(errors="surrogateescape") for key in found})


def delete_keys(topology: Topology, pattern: str) -> None:
    """Delete all keys that match, one by one, since keys of a cluster may be in several slots."""
    client = client_of(topology)
    for key in keys_of(topology, pattern):
        client.unlink(key.encode(errors="surrogateescape"))
