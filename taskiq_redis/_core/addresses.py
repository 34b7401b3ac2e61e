"""Addresses and connection options: of one server, a cluster, or a master behind sentinels.

redis-py's option ``decode_responses`` has no effect, as messages and results need not be text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from taskiq_redis._core.checks import check_types
from taskiq_redis._core.redaction import shown, without_password
from taskiq_redis.exceptions import InvalidOptionError

#: port of a server whose URL has none
DEFAULT_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, repr=False)
class SingleNode:
    """One Redis server.

    Args:
        url: ``redis://[[user]:[password]@]host[:port][/db]``, ``rediss://`` for TLS, or
            ``unix://[user:password@]/path.sock``. Its query may hold any connection option.
        max_connection_pool_size: maximum number of connections for commands; None for 50. A command
            waits up to `timeout` (20 s) for a free one.
        connection_kwargs: options of ``redis.asyncio.BlockingConnectionPool``; they override
            defaults.
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
        return f"Redis at {without_password(self.url)}"


@dataclass(frozen=True, repr=False)
class Cluster:
    """A Redis Cluster.

    Args:
        url: address of any node, as for `SingleNode`, but without ``/db``.
        max_connection_pool_size: maximum number of connections per node. At most 50 commands, or
            this number if it is smaller, are executed at a time.
        connection_kwargs: options of ``redis.asyncio.RedisCluster``; they override defaults.
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
        return f"Redis Cluster at {without_password(self.url)}"


@dataclass(frozen=True, repr=False)
class SentinelMaster:
    """A master that sentinels monitor.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored.
        sentinel_kwargs: connection options for the sentinels; None for the ``socket_`` options of
            `connection_kwargs`. Without ``retry``, an error moves on to the next sentinel.
        max_connection_pool_size: maximum number of connections to the master; None for 50.
        connection_kwargs: connection options for the master; they override defaults.
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
                advice="Give (host, port) of at least one sentinel.",
            )
        check_types(self)
        given: Any = self.sentinels
        for address in [given] if isinstance(given, str) else given:
            _check_address(address)
        if not self.master_name:
            raise InvalidOptionError(
                option="master_name",
                problem="it is empty",
                advice="Give the name in `sentinel monitor` in the sentinels' configuration.",
            )
        _check_pool_size(self.max_connection_pool_size)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        sentinels = ", ".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"Redis master {self.master_name!r} of the sentinels {sentinels}"


Server = SingleNode | Cluster | SentinelMaster


def _check_url(url: Any, schemes: tuple[str, ...]) -> None:
    """Check a URL; redis-py's error would come late, or show a part of the password."""
    advice = f"Give a URL that begins with {' or '.join(f'{name}://' for name in schemes)}."
    if not url:
        raise InvalidOptionError(option="url", problem="it is empty", advice=advice)
    scheme, separator, _ = str(url).partition("://")
    if not isinstance(url, str) or not separator or scheme not in schemes:
        raise InvalidOptionError(
            option="url", problem="it is not the URL of a Redis server", advice=advice
        )
    problem = _url_problem(url)
    if problem is not None:
        raise InvalidOptionError(
            option="url",
            problem=problem,
            advice=(
                "Give a URL such as redis://user:password@host:6379/0, with special characters in "
                "user and password quoted (urllib.parse.quote)."
            ),
        )


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "its host is malformed"
    if parts.scheme == "unix":
        return None if parts.path else "it has no path of a socket"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "its port is not a number from 1 to 65535"
    database = parts.path.strip("/")
    return "its database is not a number" if database and not database.isdecimal() else None


def _check_address(address: Any) -> None:
    is_pair = isinstance(address, tuple | list) and len(address) == 2
    if not is_pair or not isinstance(address[0], str) or not str(address[1]).isdecimal():
        problem = f"{shown(address)} is not the (host, port) of a sentinel"
    elif "@" in address[0] or "://" in address[0]:
        problem = f"{shown(address[0])} is not the name or address of a host"
    else:
        return
    raise InvalidOptionError(
        option="sentinels",
        problem=problem,
        advice=(
            'Give a list such as [("localhost", 26379)], and passwords of the sentinels in '
            "`sentinel_kwargs`."
        ),
    )


def _check_pool_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise InvalidOptionError(
            option="max_connection_pool_size",
            problem=f"{size} is too small",
            advice="Give at least 1, or leave the option out.",
        )


def startup_addresses(
    parsed: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[tuple[str, int], ...]:
    """Return the hosts and ports at which a cluster is configured.

    Args:
        parsed: options of its URL.
        options: other options of redis-py's client.
    """
    nodes = [(node.host, int(node.port)) for node in options.get("startup_nodes") or ()]
    if "host" in parsed:
        nodes.append((parsed["host"], parsed.get("port", DEFAULT_PORT)))
    return tuple(nodes)
