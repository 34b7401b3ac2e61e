"""Where Redis is: what a user tells about one server, a cluster, or a master behind sentinels.

Of redis-py's options, ``decode_responses`` has no effect: what is read here need not be text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from taskiq_redis._core.checks import check_types
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
        check_types(self)
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
        check_types(self)
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
        check_types(self)
        for address in self.sentinels:
            _check_address(address)
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


def _check_url(url: Any, schemes: tuple[str, ...]) -> None:
    """Refuse what redis-py can't read; its own error would be late, or show part of a password."""
    begins = f"It begins with {' or '.join(f'{name}://' for name in schemes)}."
    if not url:
        raise InvalidOptionError(option="url", problem="it is empty", advice=begins)
    scheme, separator, _ = str(url).partition("://")
    if not isinstance(url, str) or not separator or scheme not in schemes:
        raise InvalidOptionError(
            option="url", problem="it is not the URL of a Redis server", advice=begins
        )
    problem = _problem_of(url)
    if problem is not None:
        raise InvalidOptionError(
            option="url",
            problem=problem,
            advice=(
                "It looks like redis://user:password@host:6379/0; in a user or password, quote "
                "other characters than letters and digits (urllib.parse.quote)."
            ),
        )


def _problem_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "its host is malformed"
    if parts.scheme == "unix":
        return None if parts.path else "it names no socket"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "its port is not a number from 1 to 65535"
    database = parts.path.strip("/")
    return "its database is not a number" if database and not database.isdecimal() else None


def _check_address(address: Any) -> None:
    pair = isinstance(address, tuple | list) and len(address) == 2
    if not pair or not isinstance(address[0], str) or not str(address[1]).isdecimal():
        raise InvalidOptionError(
            option="sentinels",
            problem=f"{address!r} is not the (host, port) of one",
            advice='Give a list such as [("localhost", 26379)].',
        )


def _check_pool_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise InvalidOptionError(
            option="max_connection_pool_size",
            problem=f"{size} connections are too few",
            advice="Give at least 1, or leave it out.",
        )


def _without_password(url: str) -> str:
    """Return a URL without user, password and options, for logs."""
    scheme, _, rest = url.partition("://")
    # Options go first, as their values may have an @; then all up to the last @, as a password that
    # isn't quoted may have any character.
    address = re.split(r"\?(?=\w+=)", rest)[0].rpartition("@")[2].strip()
    return f"{scheme}://{re.split('[?#]', address)[0]}"
