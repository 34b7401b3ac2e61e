# Generated from taskiq_redis/_async/subscription.py by scripts/unasync.py; edit that.

"""A subscription to channels, which pings a silent server to notice a lost connection."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    TimeoutError as RedisTimeoutError,
)

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._drivers.blocking import find_rotating
from taskiq_redis._runtime.blocking import cancellable

#: s; a server that sent nothing for this long is pinged
PING_AFTER = 5.0


class Subscription:
    """Subscribes to channels over one connection; after an error it can't be used any more.

    One task reads; any task may change the channels.

    Args:
        client: a client for this subscription only, which the reader closes.
        wanted: returns the channels to subscribe to.
        pong_timeout: s; timeout for the reply to PING.
    """

    def __init__(
        self, client: Redis, wanted: Callable[[], frozenset[str]], pong_timeout: float
    ) -> None:
        self.client = client
        #: the channels for which SUBSCRIBE was sent
        self.channels: frozenset[str] = frozenset()
        self._provider = find_rotating(client)
        #: the token that it has used; see `Rotation`
        self._token = self._newest_token()
        self._wanted = wanted
        self._pubsub = _pubsub_of(client)
        self._pong_timeout = pong_timeout
        self._lock = ForkSafeLock()
        #: commands to send; only the reader reads their replies
        self._unsent: list[Callable[[], Any]] = []
        #: whether a task is sending them
        self._sending = False
        self._broken = False
        #: times by the monotonic clock of the last reply, and of a PING without a reply
        self._last_reply = time.monotonic()
        self._pinged: float | None = None

    def update(self) -> None:
        """Subscribe to the wanted channels, and unsubscribe from others.

        If another task is sending, leave it to that task: a caller with a deadline must not wait
        for a slow server.
        """
        self._send(self._change_channels)

    def _send(self, command: Callable[[], Any]) -> None:
        with self._lock:
            if command not in self._unsent:
                self._unsent.append(command)
            if self._sending:
                return
            self._sending = True
        try:
            self._check_usable()
            while (unsent := self._next_unsent()) is not None:
                cancellable(unsent)
        except BaseException:
            # Commands may have been sent or not, so the reader has to reconnect.
            self._broken, self._sending = True, False
            raise

    def _next_unsent(self) -> Callable[[], Any] | None:
        with self._lock:
            if self._unsent:
                return self._unsent.pop(0)
            self._sending = False
            return None

    def _change_channels(self) -> None:
        wanted = self._wanted()
        new, old = wanted - self.channels, self.channels - wanted
        if new:
            self._pubsub.subscribe(*new)
        if old:
            self._pubsub.unsubscribe(*old)
        self.channels = wanted

    def _newest_token(self) -> Any:
        provider = self._provider
        return None if provider is None or provider.rotation is None else provider.rotation.token

    def _authenticate(self) -> None:
        """Authenticate again (AUTH), since credentials were replaced.

        By RESP 2, a subscribed connection can't: it is replaced when the server closes it.
        """
        provider, connection = self._provider, self._pubsub.connection
        self._token = self._newest_token()
        if provider is not None and int(connection.get_protocol()) >= 3:
            credentials = provider.get_newest(self._token)
            connection.send_command("AUTH", *credentials, check_health=False)

    def _check_usable(self) -> None:
        if self._broken:
            raise RedisConnectionError("the subscription was interrupted")

    def receive(self, timeout: float) -> Any:
        """Return the next message of redis-py's PubSub, or None after `timeout` seconds."""
        try:
            if self._token is not self._newest_token():
                self._send(self._authenticate)
            message = cancellable(partial(self._read_message, timeout))
            self._check_usable()
            self._check_server(replied=message is not None)
        except BaseException:
            self._broken = True
            raise
        return message

    def _read_message(self, timeout: float) -> Any:
        try:
            return self._pubsub.get_message(timeout=timeout)
        except NoPermissionError:
            if self._pinged is None:
                raise
            # The server answers, although this user may not PING it.
            return {"type": "pong"}

    def _check_server(self, replied: bool) -> None:
        """Ping a silent server, since a lost connection would go unnoticed (PING)."""
        now = time.monotonic()
        if replied:
            self._last_reply, self._pinged = now, None
        elif self._pinged is not None:
            if now - self._pinged > self._pong_timeout:
                raise RedisTimeoutError(f"no reply to PING for {self._pong_timeout:.0f} s")
        elif now - self._last_reply > PING_AFTER:
            self._pinged = now
            self._send(self._pubsub.ping)


def _pubsub_of(client: Any) -> Any:
    """Return a new PubSub; the method is untyped in redis-py."""
    return client.pubsub()
