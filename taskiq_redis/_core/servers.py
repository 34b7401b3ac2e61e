"""Where Redis is: what a user tells about one server, a cluster, or a master behind sentinels.

Of redis-py's options, ``decode_responses`` has no effect: what is read here need not be text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq_redis.exceptions import InvalidOptionError

_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, repr=False)
class SingleNode:
    """One Redis server.

    Args:
        url: ``redis://[[user]:[password]@]host[:port][/db]``, ``rediss://`` for TLS, or
            ``unix://[user:password@]/path.sock``; its query may hold any connection option.
        max_connection_pool_size: most connections for commands at a time; default 50. A command
            waits up to `timeout` (20 s) for one.
        connection_kwargs: go to ``redis.asyncio.BlockingConnectionPool``, and win over defaults.
    """

    url: str
    max_connection_pool_size: int | None = None
    connection_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url, _SCHEMES)
        _check_pool_size(self.max_connection_pool_size)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return f"Redis at {_without_password(self.url)}"


@dataclass(frozen=True, repr=False)
class Cluster:
    """A Redis Cluster.

    Args:
        url: the address of any of its nodes, as for `SingleNode`; a cluster has no ``/db``.
        max_connection_pool_size: most connections per node; commands over 50 at a time, or over
            this number if it is smaller, wait for their turn.
        connection_kwargs: go to ``redis.asyncio.RedisCluster``, and win over defaults.
    """

    url: str
    max_connection_pool_size: int | None = None
    connection_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url, ("redis", "rediss"))
        _check_pool_size(self.max_connection_pool_size)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return f"Redis Cluster at {_without_password(self.url)}"


@dataclass(frozen=True, repr=False)
class SentinelMaster:
    """The master that a group of sentinels watches.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: the name under which they know the master.
        min_other_sentinels: a sentinel that sees fewer others than this isn't believed.
        sentinel_kwargs: connection options for the sentinels; by default the ``socket_`` options
            of `connection_kwargs`. Without a ``retry`` in them, the next sentinel is asked instead.
        max_connection_pool_size: most connections to the master at a time; default 50.
        connection_kwargs: connection options for the master; they win over defaults.
    """

    sentinels: Sequence[tuple[str, int]]
    master_name: str
    min_other_sentinels: int = 0
    sentinel_kwargs: Mapping[str, Any] | None = None
    max_connection_pool_size: int | None = None
    connection_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sentinels:
            raise InvalidOptionError(
                option="sentinels",
                problem="it is empty",
                advice="Give the (host, port) of at least one sentinel.",
            )
        if not self.master_name:
            raise InvalidOptionError(
                option="master_name",
                problem="it is empty",
                advice="Give the name that `sentinel monitor` has in the sentinels' configuration.",
            )
        _check_pool_size(self.max_connection_pool_size)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        sentinels = ", ".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"Redis master {self.master_name!r} of the sentinels {sentinels}"


Server = SingleNode | Cluster | SentinelMaster


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    scheme, separator, _ = str(url or "").partition("://")
    if not separator or scheme not in schemes:
        raise InvalidOptionError(
            option="url",
            problem="it is not the URL of a Redis server" if url else "it is empty",
            advice=f"It begins with {' or '.join(f'{name}://' for name in schemes)}.",
        )


def _check_pool_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise InvalidOptionError(
            option="max_connection_pool_size",
            problem=f"{size} connections are too few",
            advice="Give at least 1, or leave it out.",
        )


def _without_password(url: str) -> str:
    """Shorten a URL to what may stand in a log: no user, no password, no options."""
    scheme, _, rest = url.partition("://")
    # From the last @ on, as a password that isn't quoted may have any character.
    address = rest.rpartition("@")[2]
    return f"{scheme}://{re.split('[?#]', address)[0]}"
