# Generated from taskiq_redis/_async/subscription.py by scripts/unasync.py; edit that.

"""A subscription to channels that notices when its server is gone."""

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
from taskiq_redis._runtime.blocking import cancellable

#: s; after this long a silence the server is pinged
PING_AFTER = 5.0


class Subscription:
    """Subscribes to channels over one connection; after an error it can't be used any more.

    One task reads; any task may change the channels.

    Args:
        client: a client of its own, which the reader closes.
        wanted: returns the channels to subscribe to.
        pong_timeout: s; timeout for the reply to PING.
    """

    def __init__(
        self, client: Redis, wanted: Callable[[], frozenset[str]], pong_timeout: float
    ) -> None:
        self.client = client
        #: the channels for which SUBSCRIBE was sent
        self.channels: frozenset[str] = frozenset()
        self._wanted = wanted
        self._pubsub = _pubsub_of(client)
        self._pong_timeout = pong_timeout
        self._lock = ForkSafeLock()
        #: commands to send; replies are read by the reader alone
        self._due: list[Callable[[], Any]] = []
        #: whether a task is sending them
        self._sending = False
        self._broken = False
        #: times by the monotonic clock of the last reply, and of a PING without a reply
        self._last_reply = time.monotonic()
        self._pinged: float | None = None

    def update(self) -> None:
        """Subscribe to the wanted channels, and unsubscribe from others.

        If another task is sending, that task does it: a caller with a deadline must not wait for a
        slow server.
        """
        self._send(self._change_channels)

    def _send(self, command: Callable[[], Any]) -> None:
        with self._lock:
            if command not in self._due:
                self._due.append(command)
            if self._sending:
                return
            self._sending = True
        try:
            self._check_usable()
            while (due := self._next_due()) is not None:
                cancellable(due)
        except BaseException:
            # It is unknown what was sent. Callers wait until the reader has reconnected.
            self._broken, self._sending = True, False
            raise

    def _next_due(self) -> Callable[[], Any] | None:
        with self._lock:
            if self._due:
                return self._due.pop(0)
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

    def _check_usable(self) -> None:
        if self._broken:
            raise RedisConnectionError("the subscription was interrupted")

    def receive(self, timeout: float) -> Any:
        """Return the next message of redis-py's PubSub, or None after `timeout` seconds."""
        try:
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
            # The server is there, although this user may not PING it.
            return {"type": "pong"}

    def _check_server(self, replied: bool) -> None:
        """Ping a silent server, since a dead one would go unnoticed (PING)."""
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
