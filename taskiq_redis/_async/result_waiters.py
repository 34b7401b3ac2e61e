"""Who waits for results is told when they are there."""

import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from taskiq_redis._async.connection import Connection, execute
from taskiq_redis._async.subscription import Subscription
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.redis_errors import REDIS_ERRORS, Outage, strip_tracebacks, translate
from taskiq_redis._core.wire import as_str
from taskiq_redis._runtime.aio import (
    BackgroundTask,
    Event,
    OneShot,
    as_connection_loss,
    drop_connections,
    sleep,
)
from taskiq_redis.exceptions import TaskIQRedisError

#: s; how often it is looked whether something has arrived of which nobody told, such as the results
#: of a worker of 1.2.4
LOOK_INTERVAL = 0.8
#: s; the same for users who may not subscribe: what taskiq does
REFUSED_INTERVAL = 0.2
#: most keys of one look
LOOKED_AT = 1000
#: s; how long the subscription stays when nobody waits any more
LINGER = 5.0
#: s; how long a silent server may take to say that it is there
PONG_WAIT = 5.0
#: s; after which a user who may not subscribe tries again, as the rights may have changed
REFUSED_FOR = 60.0

logger = logging.getLogger("taskiq_redis")


class Waiter:
    """What one caller waits for."""

    def __init__(self) -> None:
        self._turn = OneShot()
        # Each is put there and taken in one step: those who tell may do it at any moment.
        self._news: deque[str] = deque()

    def tell(self, key: str) -> None:
        """Let the caller look at a key."""
        self._news.append(key)
        self._turn.come()

    async def wait(self, timeout: float) -> set[str]:
        """Wait `timeout` seconds at most, and return the keys that should be looked at."""
        await self._turn.wait(timeout)
        # Before the news is taken: what comes from now on ends the next wait.
        self._turn = OneShot()
        return {self._news.popleft() for _ in range(len(self._news))}


class ResultListener:
    """Tells callers when keys are written, over one connection for all of them (SUBSCRIBE).

    Args:
        connection: where the keys are. What is published has the key's name for its channel.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._guard = ForkSafeLock()
        # The reader looks at it as it is: whoever has the guard may be interrupted by a signal
        # handler that waits for a key.
        self._waiting: dict[str, tuple[Waiter, ...]] = {}
        self._stopped = False
        self._reader: BackgroundTask | None = None
        self._client: Redis | None = None
        #: once it listens, so that no caller waits for it to connect
        self._subscription: Subscription | None = None
        #: s; when the reader went on for the last time
        self._went_on = 0.0
        #: s; until when it isn't tried, as this user may not subscribe
        self._refused_until: float | None = None
        self._outage = Outage(logger, f"Waiting for results on {connection.server}")

    @property
    def listens(self) -> bool:
        """Whether callers are told.

        Not if the reader is stuck, as a signal handler that waits may have interrupted a thread
        which has what the reader needs.
        """
        stuck = time.monotonic() - self._went_on > 2 * LOOK_INTERVAL
        return self._subscription is not None and not stuck

    @property
    def refused(self) -> bool:
        """Whether this user may not subscribe."""
        return self._refused_until is not None and time.monotonic() < self._refused_until

    @property
    def interval(self) -> float:
        """How long a caller may wait until it looks by itself, in seconds."""
        return REFUSED_INTERVAL if self.refused else LOOK_INTERVAL

    async def expect(self, keys: Collection[str], arrival: Waiter) -> None:
        """Begin to wait for keys.

        Args:
            keys: what to wait for.
            arrival: is told of each, also as soon as it is listened for.
        """
        for key in keys:
            with self._guard:
                self._waiting[key] = (*self._waiting.get(key, ()), arrival)
            if self._listens_to(key):
                # It may have been told of just before.
                arrival.tell(key)
        self.start()
        await self._subscribe()

    def forget(self, keys: Collection[str], arrival: Waiter) -> None:
        """End waiting for keys.

        Args:
            keys: what was waited for, or not.
            arrival: what was told.
        """
        for key in keys:
            with self._guard:
                others = tuple(each for each in self._waiting.get(key, ()) if each is not arrival)
                if others:
                    self._waiting[key] = others
                else:
                    self._waiting.pop(key, None)

    def start(self) -> None:
        """Begin to listen, if that isn't done; callers are told when it is."""
        with self._guard:
            if self._reader or self._stopped or self.refused or not self._waiting:
                return
            reader = self._reader = BackgroundTask(self._read, "taskiq-redis-results")
        try:
            reader.start()
        except BaseException:
            # It may run all the same.
            reader.interrupt()
            self._forget(reader)
            raise

    def _forget(self, reader: BackgroundTask) -> None:
        with self._guard:
            if self._reader is reader:
                self._reader = None

    async def _subscribe(self) -> None:
        """Subscribe to what is waited for, and leave the channels for which nobody waits."""
        subscription = self._subscription
        if subscription is None:
            return
        try:
            await subscription.listen()
        except (*REDIS_ERRORS, TypeError, RuntimeError) as error:
            if not isinstance(error, REDIS_ERRORS) and as_connection_loss(error) is None:
                raise
            # The reader, which sees it as well, connects again.
            strip_tracebacks(error)

    def _listens_to(self, key: str) -> bool:
        subscription = self._subscription
        return subscription is not None and key in subscription.channels

    def _wanted(self) -> frozenset[str]:
        # A list is made in one step, but a tuple or a set isn't before Python 3.12.
        return frozenset(list(self._waiting))

    async def _read(self, stopping: Event) -> None:
        try:
            while not stopping.is_set() and not self._ends():
                try:
                    await self._listen(stopping)
                except NoPermissionError as error:
                    self._refuse(error)
                except (*REDIS_ERRORS, TaskIQRedisError, TypeError, RuntimeError) as error:
                    await sleep(self._interrupted(error))
        except BaseException:
            with self._guard:
                self._reader = None
            raise

    async def _listen(self, stopping: Event) -> None:
        """Tell callers what comes, until nobody has waited for a while."""
        channel = next(iter(list(self._waiting)), "")
        # Whichever node of a cluster that is at, it hears what is published on any.
        client = self._client = await self._connection.make_subscriber(channel)
        try:
            subscription = Subscription(client, self._wanted, PONG_WAIT)
            await subscription.listen()
            if subscription.channels:
                self._went_on = time.monotonic()
                self._subscription = subscription
                # For those who came meanwhile.
                await self._subscribe()
                await self._receive(subscription, stopping)
        finally:
            # Unless another reader has begun, after a start that was interrupted.
            if self._client is client:
                self._client = self._subscription = None
            await self._connection.close_client(client)

    async def _receive(self, subscription: Subscription, stopping: Event) -> None:
        needed = time.monotonic()
        look_at = needed + LOOK_INTERVAL
        while not stopping.is_set() and time.monotonic() - needed < LINGER:
            # What comes meanwhile doesn't put off the next look.
            reply = await subscription.receive(max(0.0, look_at - time.monotonic()))
            self._outage.succeeded()
            self._went_on = time.monotonic()
            if reply is not None:
                self._tell(reply)
            if self._waiting:
                needed = time.monotonic()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_INTERVAL
                await self._look()
                await self._subscribe()

    def _tell(self, reply: Any) -> None:
        """Tell callers that a key was written, or that it is listened to from now on."""
        if reply["type"] in ("message", "subscribe"):
            self._tell_all([as_str(reply["channel"])])

    async def _look(self) -> None:
        """Look whether something has arrived of which nobody told (EXISTS)."""
        keys = list(self._waiting)
        for first in range(0, len(keys), LOOKED_AT):
            chunk = keys[first : first + LOOKED_AT]
            if self._connection.sharded or await self._any_exists(chunk):
                self._tell_all(chunk)

    async def _any_exists(self, keys: Sequence[str]) -> bool:
        try:
            return bool(
                await self._connection.call(
                    lambda client: execute(client, "EXISTS", *keys), key=keys, retry_timeout=0
                )
            )
        except TaskIQRedisError:
            # Whoever waits looks, and hears why.
            return True

    def _tell_all(self, keys: Collection[str]) -> None:
        for key in keys:
            for arrival in self._waiting.get(key, ()):
                arrival.tell(key)

    def _refuse(self, error: NoPermissionError) -> None:
        refused_before = self._refused_until is not None
        self._refused_until = time.monotonic() + REFUSED_FOR
        self._tell_all(list(self._waiting))
        if not refused_before:
            logger.warning(
                "Results are looked for again and again, as this user may not subscribe to "
                "channels of their names: %s",
                error,
            )

    def _interrupted(self, error: BaseException) -> float:
        """Log an outage, and return the seconds until the next try."""
        if isinstance(error, (TypeError, RuntimeError)):
            loss = as_connection_loss(error)
            if loss is None:
                raise error
            error = loss
        told = translate(error, str(self._connection.server))
        strip_tracebacks(error)
        return self._outage.failed(told)

    def _ends(self) -> bool:
        """Tell whether the reader isn't needed any more; the next caller starts another."""
        with self._guard:
            if self.refused or not self._waiting:
                self._reader = None
            return self._reader is None

    async def stop(self) -> None:
        """End the subscription; those who still wait look by themselves."""
        with self._guard:
            self._stopped = True
            reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    def drop_connections(self) -> None:
        """Let go of the connection, of which the owner is gone."""
        if self._client is not None:
            drop_connections(self._client)
