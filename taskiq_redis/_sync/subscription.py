# Generated from taskiq_redis/_async/subscription.py by scripts/unasync.py; edit that.

"""What listens to channels, and notices when their server isn't there any more."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    TimeoutError as RedisTimeoutError,
)

from taskiq_redis._core.locks import Entrance
from taskiq_redis._runtime.blocking import cancellable

#: s; after so long a silence the server is asked whether it is still there
PING_AFTER = 5.0


class Subscription:
    """Listens to channels over one connection; after a fault it is of no more use.

    One task reads what comes; any may change the channels.

    Args:
        client: its connection is the only one of this client, which the reader closes.
        wanted: tells what to listen to.
        pong_wait: s; how long the server may take to say that it is there.
    """

    def __init__(
        self, client: Redis, wanted: Callable[[], frozenset[str]], pong_wait: float
    ) -> None:
        self.client = client
        #: the channels that it was told to listen to
        self.channels: frozenset[str] = frozenset()
        self._wanted = wanted
        self._pubsub = _pubsub(client)
        self._pong_wait = pong_wait
        #: what has to be sent; what comes in is read by the reader alone
        self._due: deque[Callable[[], Any]] = deque()
        self._sending = Entrance()
        self._broken = False
        #: s; when the server was last heard of
        self._heard = time.monotonic()
        #: s; when it was asked whether it is there, if it hasn't been heard of since
        self._asked: float | None = None

    def listen(self) -> None:
        """Listen to the channels that are wanted, and no other (SUBSCRIBE, UNSUBSCRIBE).

        It doesn't wait for others who are sending: they go on with this.
        """
        self._send_after_others(self._change)

    def _send_after_others(self, send: Callable[[], Any]) -> None:
        if send not in self._due:
            self._due.append(send)
        # Who sends may be the thread that this signal handler has interrupted.
        while self._due and self._sending.enter():
            try:
                self._check_usable()
                # Somebody else may have sent all of it meanwhile.
                if self._due:
                    cancellable(self._due.popleft())
            except BaseException:
                # It isn't known what was sent. Others would wait until it has connected again.
                self._broken = True
                raise
            finally:
                self._sending.leave()

    def _change(self) -> None:
        channels = self._wanted()
        new, old = channels - self.channels, self.channels - channels
        if new:
            self._pubsub.subscribe(*new)
        if old:
            self._pubsub.unsubscribe(*old)
        self.channels = channels

    def _check_usable(self) -> None:
        if self._broken:
            raise RedisConnectionError("the subscription was interrupted")

    def receive(self, wait: float) -> Any:
        """Return what came next from the server, or None after `wait` seconds."""
        try:
            reply = cancellable(partial(self._next_reply, wait))
            self._check_usable()
            self._check_server(heard=reply is not None)
        except BaseException:
            self._broken = True
            raise
        return reply

    def _next_reply(self, wait: float) -> Any:
        try:
            return self._pubsub.get_message(timeout=wait)
        except NoPermissionError:
            if self._asked is None:
                raise
            # The server is there, although this user may not ask for that.
            return {"type": "pong"}

    def _check_server(self, heard: bool) -> None:
        """Make sure that a silent server is there (PING): nothing else would tell that it isn't."""
        now = time.monotonic()
        if heard:
            self._heard, self._asked = now, None
        elif self._asked is not None:
            if now - self._asked > self._pong_wait:
                raise RedisTimeoutError(f"no reply to PING for {self._pong_wait:.0f} s")
        elif now - self._heard > PING_AFTER:
            self._asked = now
            self._send_after_others(self._pubsub.ping)


def _pubsub(client: Any) -> Any:
    """Return a new subscriber; the method is untyped in redis-py."""
    return client.pubsub()
