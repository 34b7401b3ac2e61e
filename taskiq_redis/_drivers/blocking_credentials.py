"""Credential providers of the user, for blocking clients, with the names of `aio_credentials`."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from queue import Queue
from typing import Any, TypeVar

from redis import Redis, RedisCluster
from redis.connection import AbstractConnection, Connection

from taskiq_redis._core.credentials import credentials_in
from taskiq_redis._core.redis_errors import REDIS_ERRORS, as_outage
from taskiq_redis._drivers.credentials import ProviderProxy

AnyClient = TypeVar("AnyClient", bound=Redis | RedisCluster)


class SafeProvider(ProviderProxy):
    """A credential provider whose exceptions redis-py understands.

    After any other one, redis-py would go on with the connection, without a user.

    Args:
        provider: the user's credential provider, of any kind.
    """

    def get_credentials(self) -> Any:
        """Return the credentials; raise unknown exceptions of the provider as outages."""
        try:
            return self._provider.get_credentials()
        except REDIS_ERRORS:
            raise
        except Exception as error:
            raise as_outage(error, unsent=True) from error

    def get_newest(self, token: Any) -> Any:
        """Return the credentials in the newest token, or else those that the provider returns.

        Args:
            token: the token.
        """
        return credentials_in(token) or self.get_credentials()


def find_rotating(client: Any) -> SafeProvider | None:
    """Return the credential provider of a client, or None if credentials stay the same.

    Args:
        client: a redis-py client that this package made.
    """
    options = client.nodes_manager if isinstance(client, RedisCluster) else client.connection_pool
    provider: Any = options.connection_kwargs.get("credential_provider")
    # Not `isinstance`, which asks for the class of the user's provider.
    if type(provider) is not SafeProvider or provider.rotation is None:
        return None
    return provider


def follow_rotation(client: AnyClient) -> AnyClient:
    """Let the connections of a new client authenticate again when credentials are replaced.

    redis-py does that only for some pools, and not before a command. Don't call this for clients of
    subscriptions: another thread may be waiting for a message on the connection.

    Args:
        client: a client that has no connections, except those that a cluster client makes at once.
    """
    provider = find_rotating(client)
    if provider is None or provider.rotation is None:
        return client
    if isinstance(client, RedisCluster):
        nodes: Any = client.nodes_manager
        options = nodes.connection_kwargs
        options["connection_class"] = _following(options.get("connection_class", Connection))
    for pool in _pools_of(client):
        pool.connection_class = _following(pool.connection_class)
        pool.release = partial(_authenticate_and, pool.release)
        # Those of a cluster client, which has loaded its slots.
        pool.disconnect()
        pool.reset()
    provider.rotation.add_client(client, _authenticate_idle)
    return client


def _pools_of(client: Any) -> list[Any]:
    if not isinstance(client, RedisCluster):
        return [client.connection_pool]
    nodes = tuple(client.nodes_manager.nodes_cache.values())
    return [node.redis_connection.connection_pool for node in nodes if node.redis_connection]


def _authenticate_and(release: Callable[[Any], None], connection: Any) -> None:
    """Authenticate again, if needed, and put a connection back into its pool.

    The next command on it may be long after the token has expired.

    Args:
        release: the method of the pool.
        connection: the connection.
    """
    try:
        connection.authenticate()
    finally:
        release(connection)


class _FollowingConnection(AbstractConnection):
    """A connection that authenticates again before a command, if credentials were replaced."""

    credential_provider: Any
    _sock: Any
    disconnect: Any
    send_command: Any
    #: the token that it has used
    _token: Any = None
    #: whether it is authenticating, with commands of its own in flight
    _is_busy = False

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect.

        Args:
            args: as in redis-py.
            options: as in redis-py.
        """
        if not self._sock:
            # Before the provider is asked, so that a rotation meanwhile isn't missed.
            self._token = self.credential_provider.rotation.token
        self._is_busy = True
        try:
            super().connect_check_health(*args, **options)
        finally:
            self._is_busy = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command.

        Args:
            command: its bytes.
            check_health: whether to send a PING first, if a health check is due.
        """
        if self._token is not self.credential_provider.rotation.token:
            self.authenticate()
        send: Any = super().send_packed_command  # untyped in redis-py, like all of it
        send(command, check_health)

    def authenticate(self) -> None:
        """Authenticate again (AUTH), unless the token was used; if that fails, disconnect.

        The next command connects again then, with the provider's credentials.
        """
        token = self.credential_provider.rotation.token
        if self._is_busy or not self._sock or token is self._token:
            return
        self._token = token
        self._is_busy = True
        try:
            credentials = self.credential_provider.get_newest(token)
            self.send_command("AUTH", *credentials, check_health=False)
            self.read_response()
        except BaseException as error:
            self.disconnect()
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_busy = False


@cache
def _following(kind: Any) -> Any:
    """Return a subclass of a connection class that follows a rotation."""
    return type(kind.__name__, (_FollowingConnection, kind), {"__doc__": kind.__doc__})


def _authenticate_idle(client: Any) -> None:
    """Authenticate on the idle connections of a client, one after the other."""
    for pool in _pools_of(client):
        seen: set[Any] = set()
        while (connection := _take_idle(pool, seen)) is not None:
            seen.add(connection)
            _authenticate_and(pool.release, connection)


def _take_idle(pool: Any, seen: set[Any]) -> Any:
    """Take an idle connection that was not seen, or None, as if it was in use now."""
    # redis-py's pool has `_available_connections`. redis-py's blocking pool has the last list, and
    # the pool of this package the last two.
    if hasattr(pool, "_available_connections"):
        with pool._lock:
            connection = _remove(pool._available_connections, seen)
            if connection is not None:
                pool._in_use_connections.add(connection)
            return connection
    connection = _remove(getattr(pool, "_idle", []), seen)
    if connection is None and isinstance(pool.pool, Queue):
        with pool.pool.mutex:
            return _remove(pool.pool.queue, seen)
    return connection


def _remove(idle: list[Any], seen: set[Any]) -> Any:
    for connection in tuple(idle):
        if connection is not None and connection not in seen:
            # Unless another thread was faster.
            with suppress(ValueError):
                idle.remove(connection)
                return connection
    return None
