"""Credentials that a provider replaces while connections are open."""

import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from taskiq_redis._core.locks import ForkSafeLock

logger = logging.getLogger("taskiq_redis")

#: authenticates the idle connections of a client
Authenticate = Callable[[Any], Awaitable[None] | None]


class Rotation:
    """The newest token of a streaming credential provider, for all connections that use it.

    A connection compares the token with the one it has used, and authenticates again before its
    next command: this needs no list of connections, and works on any thread and event loop.

    Args:
        provider: the user's credential provider.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        #: the newest token, or None if the provider has not replaced any
        self.token: Any = None
        #: by client, the function that authenticates its idle connections
        self._clients: weakref.WeakKeyDictionary[Any, Authenticate] = weakref.WeakKeyDictionary()
        self._lock = ForkSafeLock()
        # A provider may keep one callback only, so this is the only one of this process.
        provider.on_next(self.receive)
        provider.on_error(self.record_error)

    def add_client(self, client: Any, authenticate: Authenticate) -> None:
        """Authenticate the idle connections of a client at each rotation.

        Args:
            client: a redis-py client.
            authenticate: called with the client; its return value is awaited, unless it is None.
        """
        with self._lock:
            self._clients[client] = authenticate

    def receive(self, token: Any) -> "CallbackResult":
        """Record a new token, as the callback for `on_next`.

        Providers call it on an event loop and await the result, or on a thread and ignore it.

        Args:
            token: a `redis.auth.token.TokenInterface`.
        """
        self.token = token
        with self._lock:
            clients = list(self._clients.items())
        results = [authenticate(client) for client, authenticate in clients]
        return CallbackResult([result for result in results if result is not None])

    def record_error(self, error: Exception) -> "CallbackResult":
        """Log that there are no new credentials, as the callback for `on_error`.

        Args:
            error: the provider's error.
        """
        logger.warning(
            "The credential provider %s has no new credentials, and connections keep theirs: %s",
            type(self._provider).__qualname__,
            error,
        )
        return CallbackResult([])


class CallbackResult(Coroutine[Any, Any, None]):
    """The result of a callback, which its caller may ignore, await, or make a task.

    Args:
        awaitables: awaited one after the other; not coroutines, which warn if nothing awaits them.
    """

    def __init__(self, awaitables: list[Awaitable[None]]) -> None:
        self._steps = _await_all(awaitables)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._steps

    def send(self, value: Any) -> Any:
        """Go on with a value."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """Leave out the rest."""
        self._steps.close()


def _await_all(awaitables: list[Awaitable[None]]) -> Generator[Any, Any, None]:
    for awaitable in awaitables:
        yield from awaitable.__await__()


#: by the `id` of the user's provider, to which its rotation refers
_rotations: "weakref.WeakValueDictionary[int, Rotation]" = weakref.WeakValueDictionary()
_lock = ForkSafeLock()


def rotation_of(provider: Any) -> Rotation:
    """Return the rotation of a streaming credential provider, the same one for all its users.

    Args:
        provider: the user's credential provider.
    """
    with _lock:
        rotation = _rotations.get(id(provider))
        if rotation is None:
            rotation = _rotations[id(provider)] = Rotation(provider)
        return rotation


def credentials_in(token: Any) -> tuple[str, str] | None:
    """Return the username and the password in a token; None if the provider has to be asked.

    Args:
        token: token of the provider.
    """
    try:
        username, password = token.try_get("oid"), token.get_value()
    except Exception:  # noqa: BLE001 - code of the user may raise anything
        return None
    return (username, password) if username and password else None
