# Generated from taskiq_redis/_async/result_waiters.py by scripts/unasync.py; edit that.

"""Wait for results: workers publish when they store one, and one subscription receives that."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

from redis import Redis
from redis.exceptions import NoPermissionError

from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.redis_errors import Outage, strip_tracebacks
from taskiq_redis._core.wire import as_str
from taskiq_redis._drivers.blocking import disconnect, drop_connections
from taskiq_redis._runtime.blocking import BackgroundTask, Event, OneShot, sleep
from taskiq_redis._sync.connection import Connection, execute, known_error
from taskiq_redis._sync.subscription import Subscription
from taskiq_redis.exceptions import ServerUnavailableError, TaskIQRedisError

#: s; interval between checks for results that were stored without a notification, such as those of
#: workers on 1.2.4
CHECK_INTERVAL = 0.8
#: s; interval between checks of a user who may not subscribe, as in taskiq's own polling
POLL_INTERVAL = 0.2
#: maximum number of keys per check
CHECKED_KEYS = 1000
#: s; how long the subscription stays open after the last waiter
KEEP_OPEN = 5.0
#: s; timeout for the reply to PING, which is sent to a silent server
PONG_TIMEOUT = 5.0
#: s; a user who may not subscribe tries again after this time, as the ACL may have changed
RETRY_REFUSED_AFTER = 60.0
#: s; how long one read is retried
READ_RETRY_TIMEOUT = 60.0

logger = logging.getLogger("taskiq_redis")

T = TypeVar("T")
#: called with the key of a result that may be stored, and whether that was published
OnStored = Callable[[str, bool], None]
#: returns the values that are stored; gets the keys, and how long to retry, in s
Read = Callable[[Sequence[str], float], dict[str, T]]


class ResultListener:
    """Notifies waiters when their results are stored, over one connection (SUBSCRIBE).

    Args:
        connection: where the results are. The channel of a result has the name of its key.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = ForkSafeLock()
        # Changed under the lock, and read without it.
        #: by key, the waiters, and whether the listener checks the key for them
        self._waiters: dict[str, dict[OnStored, bool]] = {}
        self._stopped = False
        self._reader: BackgroundTask | None = None
        self._client: Redis | None = None
        #: None while it connects, so that no caller waits for that
        self._subscription: Subscription | None = None
        #: s; by the monotonic clock, until when a user who may not subscribe doesn't try
        self._refused_until: float | None = None
        self._outage = Outage(logger, f"Waiting for results on {connection.server}")

    @property
    def is_listening(self) -> bool:
        """Whether waiters are notified at the moment."""
        return self._subscription is not None

    @property
    def refused(self) -> bool:
        """Whether this user may not subscribe."""
        return self._refused_until is not None and time.monotonic() < self._refused_until

    @property
    def interval(self) -> float:
        """Interval after which a waiter has to check for its result, in s."""
        return POLL_INTERVAL if self.refused else CHECK_INTERVAL

    def add(self, keys: Collection[str], notify: OnStored, *, checked: bool = True) -> None:
        """Notify a waiter of keys from now on.

        Args:
            keys: the Redis keys of results.
            notify: called with a key when its result is stored, and once when its channel is
                subscribed.
            checked: whether to look for results that were stored without a notification, too.
        """
        for key in keys:
            with self._lock:
                self._waiters.setdefault(key, {})[notify] = checked
            if self._is_subscribed(key):
                # It may have been published before the waiter was added.
                notify(key, False)  # noqa: FBT003 - the parameters of `OnStored`
        self.start()
        self._update_subscription()

    def remove(self, keys: Collection[str], notify: OnStored) -> None:
        """Notify a waiter of keys no longer.

        Args:
            keys: the Redis keys of results.
            notify: as given to `add`.
        """
        for key in keys:
            with self._lock:
                waiters = self._waiters.get(key, {})
                waiters.pop(notify, None)
                if not waiters:
                    self._waiters.pop(key, None)

    def start(self) -> None:
        """Start the reader, unless it runs, has no waiters, or may not subscribe."""
        with self._lock:
            if self._reader or self._stopped or self.refused or not self._waiters:
                return
            reader = self._reader = BackgroundTask(self._run, "taskiq-redis-results")
        try:
            reader.start()
        except BaseException:
            # If a signal handler raised this, the reader may have started nevertheless.
            reader.interrupt()
            with self._lock:
                if self._reader is reader:
                    self._reader = None
            raise

    def _update_subscription(self) -> None:
        """Subscribe to the channels of waiters, and unsubscribe from others."""
        subscription = self._subscription
        if subscription is None:
            return
        try:
            subscription.update()
        except Exception as error:
            if known_error(error) is None:
                raise
            # The reader gets an error as well, and reconnects.
            strip_tracebacks(error)

    def _is_subscribed(self, key: str) -> bool:
        subscription = self._subscription
        return subscription is not None and key in subscription.channels

    def _channels(self) -> frozenset[str]:
        # Copied to a list first: that is atomic, but making a set isn't before Python 3.12.
        return frozenset(list(self._waiters))

    def _run(self, stopping: Event) -> None:
        """Keep a subscription open while there are waiters."""
        try:
            while not stopping.is_set() and not self._stop_if_unneeded():
                try:
                    self._listen(stopping)
                except NoPermissionError as error:
                    self._refuse(error)
                except Exception as error:  # noqa: BLE001 - code of the user may raise anything
                    sleep(self._outage.record_failure(self._connection.outage(error)))
        except BaseException:
            with self._lock:
                self._reader = None
            raise

    def _listen(self, stopping: Event) -> None:
        """Subscribe and notify waiters, until there have been none for a while."""
        channel = next(iter(list(self._waiters)), "")
        client = self._client = self._connection.make_subscriber(channel)
        try:
            subscription = Subscription(client, self._channels, PONG_TIMEOUT)
            subscription.update()
            if subscription.channels:
                self._subscription = subscription
                # Waiters may have been added during the first update.
                self._update_subscription()
                self._receive(subscription, stopping)
        finally:
            # After an interrupted start, another reader may have set them.
            if self._client is client:
                self._client = self._subscription = None
            disconnect(client)

    def _receive(self, subscription: Subscription, stopping: Event) -> None:
        last_needed = time.monotonic()
        check_at = last_needed + CHECK_INTERVAL
        while not stopping.is_set() and time.monotonic() - last_needed < KEEP_OPEN:
            # A fixed time, so that notifications don't postpone the next check.
            message = subscription.receive(max(0.0, check_at - time.monotonic()))
            self._outage.record_success()
            if message is not None and message["type"] in ("message", "subscribe"):
                published = message["type"] == "message"
                self._notify([as_str(message["channel"])], published=published)
            if self._waiters:
                last_needed = time.monotonic()
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + CHECK_INTERVAL
                self._check()
                self._update_subscription()

    def _check(self) -> None:
        """Look for results that were stored without a notification (EXISTS)."""
        # Copied, as other threads add and remove waiters.
        keys = [key for key, waiters in list(self._waiters.items()) if any(list(waiters.values()))]
        for first in range(0, len(keys), CHECKED_KEYS):
            chunk = keys[first : first + CHECKED_KEYS]
            if self._connection.sharded or self._any_exists(chunk):
                self._notify(chunk)

    def _any_exists(self, keys: Sequence[str]) -> bool:
        try:
            return bool(
                self._connection.call(
                    lambda client: execute(client, "EXISTS", *keys), key=keys, retry_timeout=0
                )
            )
        except TaskIQRedisError:
            # The waiters read the keys, and get the error.
            return True

    def _notify(self, keys: Collection[str], *, published: bool = False) -> None:
        for key in keys:
            # Copied, as other threads add and remove waiters.
            for notify in list(self._waiters.get(key, ())):
                notify(key, published)

    def _refuse(self, error: NoPermissionError) -> None:
        refused_before = self._refused_until is not None
        self._refused_until = time.monotonic() + RETRY_REFUSED_AFTER
        self._notify(list(self._waiters))
        if not refused_before:
            logger.warning(
                "Result notifications are off (SUBSCRIBE refused: %s); waiters poll instead. "
                "Grant SUBSCRIBE and the channels, which have the names of the results' keys.",
                error,
            )

    def _stop_if_unneeded(self) -> bool:
        """End the reader if it has no waiters or may not subscribe; return whether it ended."""
        with self._lock:
            if self.refused or not self._waiters:
                self._reader = None
            return self._reader is None

    def stop(self) -> None:
        """End the subscription; remaining waiters check by themselves."""
        with self._lock:
            self._stopped = True
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()

    def drop(self) -> None:
        """Close the socket at once, since its process or process has ended."""
        if self._client is not None:
            drop_connections(self._client)


class Waiter(Generic[T]):
    """Waits for the values of some keys, for one caller.

    Args:
        keys: the Redis keys of the values.
        read: reads the values that are stored.
        deadline: time by the monotonic clock at which the caller stops waiting.
    """

    def __init__(self, keys: Iterable[str], read: Read[T], deadline: float) -> None:
        #: the values found so far, by key
        self.values: dict[str, T] = {}
        #: the keys without a value so far, in the caller's order
        self.missing = dict.fromkeys(keys)
        self._read = read
        self._deadline = deadline
        self._wakeup = OneShot()
        # append() and popleft() are atomic, as another thread may call `notify`.
        self._notified: deque[str] = deque()

    def notify(self, key: str, published: bool) -> None:  # noqa: ARG002 - see `OnStored`
        """Let the caller read a key."""
        self._notified.append(key)
        self._wakeup.set()

    def read(self, keys: Iterable[str]) -> None:
        """Read the values of keys that are missing."""
        missing = [key for key in keys if key in self.missing]
        retry_timeout = max(0.0, min(READ_RETRY_TIMEOUT, self._deadline - time.monotonic()))
        try:
            found = self._read(missing, retry_timeout)
        except ServerUnavailableError:
            if retry_timeout == 0 or time.monotonic() < self._deadline:
                raise
            # It waited for a batch of other callers until the deadline. Another read follows.
            return
        for key, value in found.items():
            self.values[key] = value
            del self.missing[key]

    def wait(self, listener: ResultListener) -> None:
        """Wait until no value is missing, or until the deadline.

        Args:
            listener: notifies this waiter.
        """
        keys = tuple(self.missing)
        try:
            listener.add(keys, self.notify)
            check_at = time.monotonic() + listener.interval
            while self.missing and (now := time.monotonic()) < self._deadline:
                if now < check_at:
                    stored = self._wait_notified(min(self._deadline, check_at) - now)
                else:
                    # The ACL may have changed, so that it may subscribe.
                    listener.start()
                    stored = set() if listener.is_listening else set(self.missing)
                    check_at = time.monotonic() + listener.interval
                self.read(stored)
                listener.remove([key for key in stored if key not in self.missing], self.notify)
        finally:
            listener.remove(keys, self.notify)

    def _wait_notified(self, timeout: float) -> set[str]:
        """Wait for notifications, `timeout` seconds at most, and return their keys."""
        self._wakeup.wait(timeout)
        # Replaced before the keys are taken, so that a later notification ends the next wait.
        self._wakeup = OneShot()
        return {self._notified.popleft() for _ in range(len(self._notified))}
