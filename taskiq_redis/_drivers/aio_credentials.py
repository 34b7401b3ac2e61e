"""Credential providers of the user, for asyncio clients of redis-py."""

from collections.abc import Awaitable, Callable, Generator
from functools import lru_cache, partial
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection

from taskiq_redis._core.credentials import credentials_in
from taskiq_redis._core.redis_errors import REDIS_ERRORS, as_outage
from taskiq_redis._drivers.credentials import ProviderProxy
from taskiq_redis._runtime.aio import Owner, current_owner

AnyClient = TypeVar("AnyClient", bound=Redis | RedisCluster)


class SafeProvider(ProviderProxy):
    """A credential provider whose exceptions redis-py understands.

    After any other one, redis-py would go on with the connection, without a user.

    Args:
        provider: the user's credential provider, of any kind.
    """

    async def get_credentials_async(self) -> Any:
        """Return the credentials; raise unknown exceptions of the provider as outages."""
        try:
            return await self._provider.get_credentials_async()
        except REDIS_ERRORS:
            raise
        except Exception as error:
            raise as_outage(error, unsent=True) from error

    async def get_newest(self, token: Any) -> Any:
        """Return the credentials in the newest token, or else those that the provider returns.

        Args:
            token: the token.
        """
        return credentials_in(token) or await self.get_credentials_async()


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
    subscriptions: another task may be waiting for a message on the connection.

    Args:
        client: a client that has no connections.
    """
    provider = find_rotating(client)
    if provider is None or provider.rotation is None:
        return client
    if isinstance(client, RedisCluster):
        nodes: Any = client.nodes_manager
        kind = _following(nodes.connection_kwargs["connection_class"])
        for options in (client.connection_kwargs, nodes.connection_kwargs):
            options["connection_class"] = kind
        for node in nodes.startup_nodes.values():
            node.connection_class = kind
    else:
        pool: Any = client.connection_pool
        pool.connection_class = _following(pool.connection_class)
        pool.release = partial(_authenticate_and, pool.release)
    provider.rotation.add_client(client, partial(_IdleConnections, current_owner()))
    return client


async def _authenticate_and(release: Callable[[Any], Awaitable[None]], connection: Any) -> None:
    """Authenticate again, if needed, and put a connection back into its pool.

    The next command on it may be long after the token has expired.

    Args:
        release: the method of the pool.
        connection: the connection.
    """
    try:
        await connection.authenticate()
    finally:
        await release(connection)


class _FollowingConnection(AbstractConnection):
    """A connection that authenticates again before a command, if credentials were replaced."""

    credential_provider: Any
    #: the token that it has used
    _token: Any = None
    #: whether it is authenticating, with commands of its own in flight
    _is_busy = False

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect.

        Args:
            args: as in redis-py.
            options: as in redis-py.
        """
        if not self.is_connected:
            # Before the provider is asked, so that a rotation meanwhile isn't missed.
            self._token = self.credential_provider.rotation.token
        self._is_busy = True
        try:
            await super().connect_check_health(*args, **options)
        finally:
            self._is_busy = False

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command.

        Args:
            command: its bytes.
            check_health: whether to send a PING first, if a health check is due.
        """
        if self._token is not self.credential_provider.rotation.token:
            await self.authenticate()
        await super().send_packed_command(command, check_health)

    async def authenticate(self) -> None:
        """Authenticate again (AUTH), unless the token was used; if that fails, disconnect.

        The next command connects again then, with the provider's credentials.
        """
        token = self.credential_provider.rotation.token
        if self._is_busy or not self.is_connected or token is self._token:
            return
        self._token = token
        self._is_busy = True
        try:
            credentials = await self.credential_provider.get_newest(token)
            await self.send_command("AUTH", *credentials, check_health=False)
            await self.read_response()
        except BaseException as error:
            await self.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_busy = False


@lru_cache
def _following(kind: Any) -> Any:
    """Return a subclass of a connection class that follows a rotation."""
    return type(kind.__name__, (_FollowingConnection, kind), {"__doc__": kind.__doc__})


class _IdleConnections:
    """Authenticates the idle connections of a client, if it is awaited on their event loop.

    Args:
        owner: owner of the connections.
        client: the client.
    """

    def __init__(self, owner: Owner, client: Any) -> None:
        self._owner = owner
        self._client = client

    def __await__(self) -> Generator[Any, Any, None]:
        if current_owner() == self._owner:
            yield from self._authenticate().__await__()

    async def _authenticate(self) -> None:
        if isinstance(self._client, RedisCluster):
            caches = self._client.nodes_manager
            for node in (*caches.nodes_cache.values(), *caches.startup_nodes.values()):
                for _ in range(len(node._free)):
                    if node._free:
                        await _authenticate_and_release(node)
            return
        pool = self._client.connection_pool
        idle, available = getattr(pool, "_idle", []), pool._available_connections
        for _ in range(len(idle)):
            if idle:
                await pool.release(idle.pop(0))
        for _ in range(len(available)):
            if available:
                connection = available.pop(0)
                pool._in_use_connections.add(connection)
                await pool.release(connection)


async def _authenticate_and_release(node: Any) -> None:
    connection = node._free.popleft()
    try:
        await connection.authenticate()
    finally:
        node.release(connection)
