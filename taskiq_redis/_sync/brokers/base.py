# Generated from taskiq_redis/_async/brokers/base.py by scripts/unasync.py; edit that.

"""What all brokers have in common: a connection, and a listener that no outage ends."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from taskiq import AckableMessage, BrokerMessage

from taskiq_redis._core.addresses import Server
from taskiq_redis._core.checks import check_name
from taskiq_redis._core.options import QueueOptions, check_side_keys
from taskiq_redis._core.redis_errors import REDIS_ERRORS, Outage, strip_tracebacks, translate
from taskiq_redis._runtime.blocking import (
    Event,
    as_connection_loss,
    current_owner,
    is_owner_gone,
    sleep,
)
from taskiq_redis._sync.connection import connect
from taskiq_redis._sync.loop_local import LoopLocal
from taskiq_redis._sync.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.result_backend import SyncResultBackend

T = TypeVar("T")
Message = bytes | AckableMessage

logger = logging.getLogger("taskiq_redis")


class Reader(ABC, Generic[T]):
    """Fetches for one listener, on a connection of its own."""

    @abstractmethod
    def fetch(self) -> list[T]:
        """Wait a bounded time for messages, and return those that came."""

    @abstractmethod
    def close(self) -> None:
        """Close its connection."""


class ReconnectingReader(Reader[T]):
    """A reader that no outage ends: it is logged once, and waited out.

    Args:
        opens: makes the reader, as soon as Redis lets it.
        server: where Redis is.
        names: what is read, for the log.
    """

    def __init__(
        self, opens: Callable[[], Reader[T]], server: Server, names: Iterable[str]
    ) -> None:
        self._opens = opens
        self._server = str(server)
        self._names = tuple(names)
        what = ", ".join(map(repr, self._names))
        self._outage = Outage(logger, f"Listening to {what} on {self._server}")
        self._reader: Reader[T] | None = None

    def fetch(self) -> list[T]:
        """Wait a bounded time for messages, or for the next try."""
        try:
            messages = self._fetch()
        except REDIS_ERRORS as error:
            told = translate(error, self._server, *self._names)
            strip_tracebacks(error)
            sleep(self._outage.failed(told))
            return []
        self._outage.succeeded()
        return messages

    def _fetch(self) -> list[T]:
        try:
            if self._reader is None:
                self._reader = self._opens()
            return self._reader.fetch()
        except (TypeError, RuntimeError) as error:
            loss = as_connection_loss(error)
            if loss is None:
                raise
            raise loss from None

    def close(self) -> None:
        """Close the reader, if there is one."""
        if self._reader is not None:
            self._reader.close()


class BaseBroker(SyncBroker):
    """A broker on Redis; a subclass says how a message is sent and read.

    Args:
        server: where Redis is.
        options: the options of the mechanism.
        task_id_generator: makes the ids of new tasks; by default random hexadecimal ones.
        result_backend: where results go; better set by `with_result_backend`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "listen" in vars(cls) and cls.open_reader is BaseBroker.open_reader:
            raise TypeError(
                f"{cls.__name__} has a `listen` of its own: inherit from the public class for "
                "lists, ListQueue..., whose constructor is that of the base class in 1.2.4."
            )

    def __init__(
        self,
        server: Server,
        options: QueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(result_backend=result_backend, task_id_generator=task_id_generator)
        self.connection = connect(server)
        self.queue_name: str = options.queue_name
        self.kick_timeout: float = options.kick_timeout
        #: set when the listeners have to end
        self._stopping = LoopLocal(Event)
        self._check_queue("queue_name", self.queue_name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} queue {self.queue_name!r} on {self.connection.server}>"

    def _check_queue(self, option: str, name: str) -> None:
        """Refuse the name of a queue that can't be on this kind of server."""
        check_name(option, name)
        if self.connection.sharded:
            check_side_keys(option, name)

    def startup(self) -> None:
        """Run taskiq's startup hooks; a worker also connects.

        Raises:
            CommandRefusedError: Redis lets nobody in with this password.
        """
        super().startup()
        if self.is_worker_process:
            self.connection.check()

    def shutdown(self) -> None:
        """End the listeners, run taskiq's shutdown hooks and close the connections.

        Listeners and connections of another process go on until that is shut down.
        """
        stopping = self._stopping.pop()
        if stopping is not None:
            stopping.set()
        try:
            super().shutdown()
        finally:
            self.connection.close()

    def kick(self, message: BrokerMessage) -> None:
        """Send a message to the queue that its label ``queue_name`` names, or else to this one's.

        What returned was sent once. An outage is waited out for `kick_timeout`.

        Args:
            message: what taskiq's formatter made; only its bytes travel.

        Raises:
            InvalidOptionError: the task's id, or the name of the queue, can't be that of a key.
            ValueTooLargeError: the message has more bytes than the server takes.
            ServerUnavailableError: Redis couldn't be reached for so long. The message was sent once
                or not at all.
            CommandRefusedError: Redis doesn't take it, because of a key's type or an ACL.
        """
        self.send(self._queue_of(message), message)

    def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages in as few round trips as possible, those of each queue in their order.

        Args:
            messages: what taskiq's formatter made.

        Raises:
            InvalidOptionError: a task's id, or the name of a queue, can't be that of a key. None
                was sent.
            ValueTooLargeError: a message has more bytes than the server takes.
            ServerUnavailableError: Redis couldn't be reached for `kick_timeout`. Each message was
                sent once or not at all.
            CommandRefusedError: Redis doesn't take one; it may have taken others.
        """
        by_queue: dict[str, list[BrokerMessage]] = {}
        for message in messages:
            by_queue.setdefault(self._queue_of(message), []).append(message)
        for queue_name, of_queue in by_queue.items():
            self.send_many(queue_name, of_queue)

    def _queue_of(self, message: BrokerMessage) -> str:
        """Return the name of the queue that a message is for, if it can be sent."""
        queue_name: str = message.labels.get("queue_name") or self.queue_name
        self._check_queue("queue_name", queue_name)
        # A worker could store its result nowhere.
        check_name("task_id", message.task_id)
        return queue_name

    def listen(self) -> Generator[Message, None, None]:
        """Yield messages until `shutdown`, or until the caller closes the generator.

        Whatever Redis does meanwhile is logged once per outage, and waited out.
        """
        stopping, owner = self._stopping.get(), current_owner()
        reader = ReconnectingReader(self.open_reader, self.connection.server, [self.queue_name])
        try:
            while not stopping.is_set():
                for message in reader.fetch():
                    yield message
        finally:
            # In a child that was forked meanwhile, it is the parent's.
            if not is_owner_gone(owner):
                reader.close()
                if stopping.is_set():
                    # A shutdown that didn't wait for this has closed what was needed once more.
                    self.connection.close()

    @abstractmethod
    def send(self, queue_name: str, message: BrokerMessage) -> None:
        """Send the bytes of a message to a queue, once or, if this raises, at most once."""

    def send_many(self, queue_name: str, messages: Sequence[BrokerMessage]) -> None:
        """Send messages to a queue, each once or, if this raises, at most once."""
        for message in messages:
            self.send(queue_name, message)

    @abstractmethod
    def open_reader(self) -> Reader[Message]:
        """Make what fetches the messages of one listener."""


class BaseRedisBroker(OnSingleNode, BaseBroker):
    """A broker on one Redis server."""


class BaseRedisClusterBroker(OnCluster, BaseBroker):
    """A broker on a Redis Cluster."""


class BaseSentinelBroker(OnSentinel, BaseBroker):
    """A broker on the master that sentinels name."""
