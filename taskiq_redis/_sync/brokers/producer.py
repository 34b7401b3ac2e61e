# Generated from taskiq_redis/_async/brokers/producer.py by scripts/unasync.py; edit that.

"""How messages get into a queue exactly once: in numbered batches, one under way at a time."""

import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from taskiq import BrokerMessage

from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.delays import DELAY, delay_of, note_declared, unique
from taskiq_redis._core.keys import delayed_key, producer_key
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.lua import Script
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.redis_errors import is_about_the_key
from taskiq_redis._sync.batcher import Batch, Batcher, Request, refusal_of
from taskiq_redis._sync.brokers.base import BaseBroker
from taskiq_redis._sync.brokers.delays import AddCommand
from taskiq_redis._sync.connection import Connection, execute_words
from taskiq_redis._sync.loop_local import LoopLocal
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import CommandRefusedError

T = TypeVar("T")

ENQUEUE = lua.load("producer_sequence", "enqueue")
DELAY_BATCH = lua.load("producer_sequence", "delay")

#: how many queues a producer remembers, before it forgets those to which it sends nothing now
MANY_QUEUES = 1000

logger = logging.getLogger("taskiq_redis")


class PendingMessage(Request):
    """A message on its way into a queue.

    Args:
        data: the message.
        deadline: when the caller wants to hear of it at the latest, by the monotonic clock.
        delay: s; how long the message waits before it comes into the queue.
    """

    __slots__ = ("data", "delay")

    def __init__(self, data: bytes, deadline: float, delay: float = 0.0) -> None:
        super().__init__(deadline, len(data))
        self.data = data
        self.delay = delay


class Destination(ABC):
    """A key that messages are added to.

    Args:
        queue_name: the queue that they are for.
        command: returns what adds a message to it.
    """

    #: adds a batch, once
    script: Script
    #: whether adding one message twice by a plain command does no harm
    repeatable: bool

    def __init__(self, queue_name: str, command: Callable[[], AddCommand]) -> None:
        self.queue_name = queue_name
        self.command = command

    @property
    @abstractmethod
    def key(self) -> str:
        """Its name."""

    @abstractmethod
    def arguments(self, kicks: list[PendingMessage]) -> list[str | bytes | int]:
        """Return what the script is told about a batch."""

    @abstractmethod
    def plain_command(self, kick: PendingMessage) -> list[str | bytes | int]:
        """Return a command that adds one message."""


class QueueKey(Destination):
    """A queue itself: a stream or a list."""

    script = ENQUEUE
    repeatable = False

    @property
    def key(self) -> str:
        """Its name."""
        return self.queue_name

    def arguments(self, kicks: list[PendingMessage]) -> list[str | bytes | int]:
        """Return the command, and the messages (XADD or LPUSH)."""
        return [" ".join(map(str, self.command().words)), *(kick.data for kick in kicks)]

    def plain_command(self, kick: PendingMessage) -> list[str | bytes | int]:
        """Return XADD or LPUSH."""
        name, arguments = self.command()
        return [name, self.queue_name, *arguments, kick.data]


class DelayedKey(Destination):
    """The sorted set of what is to be in a queue later."""

    script = DELAY_BATCH
    repeatable = True

    @property
    def key(self) -> str:
        """Its name."""
        return delayed_key(self.queue_name)

    def arguments(self, kicks: list[PendingMessage]) -> list[str | bytes | int]:
        """Return how long each message waits, in ms, and what waits (ZADD)."""
        return [part for kick in kicks for part in (round(kick.delay * 1000), kick.data)]

    def plain_command(self, kick: PendingMessage) -> list[str | bytes | int]:
        """Return ZADD, with the time of this computer's clock."""
        due = round((time.time() + kick.delay) * 1000)
        return ["ZADD", self.key, due, kick.data]


class QueueProducer(Batcher[PendingMessage]):
    """Sends messages to one key, and numbers the batches under an id of its own.

    So Redis knows what it has added already.

    Args:
        connection: where the key is.
        destination: the key.
    """

    def __init__(self, connection: Connection, destination: Destination) -> None:
        super().__init__(connection, destination.key)
        self.destination = destination
        own_key = producer_key(destination.queue_name, secrets.token_hex(8))
        self._keys = [destination.key, own_key]

    def send(self, batch: Batch[PendingMessage], retry_timeout: float) -> None:
        """Add a batch (EVALSHA); it is all added, or all refused."""
        arguments = self.destination.arguments(batch.entries)
        self._connection.run_script(
            self.destination.script,
            self._keys,
            [batch.number, *arguments],
            size=max([kick.size for kick in batch.entries]),
            retry_timeout=retry_timeout,
        )

    def send_apart(self, entry: PendingMessage) -> None:
        """Send a message under an id of its own: the number of a batch would overtake another.

        Args:
            entry: what to send.
        """
        QueueProducer(self._connection, self.destination).run(entry)


class Producer:
    """Sends the messages of one process to any queue.

    Args:
        connection: where the queues are.
        command: returns what adds a message.
    """

    def __init__(self, connection: Connection, command: Callable[[], AddCommand]) -> None:
        self._connection = connection
        self._command = command
        self._guard = ForkSafeLock()
        self._producers: dict[tuple[type[Destination], str], QueueProducer] = {}
        self._scripts_refused = False

    def send(self, queue_name: str, data: bytes, retry_timeout: float, delay: float = 0.0) -> None:
        """Add a message to a queue: exactly once, or at most once if this raises.

        Args:
            queue_name: the queue.
            data: the message.
            retry_timeout: s; how long to try.
            delay: s; how long the message waits before it comes into the queue.
        """
        producer = self._queue_producer(DelayedKey if delay else QueueKey, queue_name)
        kick = _kick(data, time.monotonic() + retry_timeout, delay)
        if self._scripts_refused:
            self._send_plainly(producer.destination, [kick])
            return
        refusal = refusal_of(lambda: producer.run(kick))
        if refusal is not None:
            self._send_after(refusal, producer.destination, [kick])

    def send_many(
        self, queue_name: str, delayed: Sequence[tuple[bytes, float]], retry_timeout: float
    ) -> None:
        """Add messages to a queue, in their order: each exactly once, or at most if this raises.

        Args:
            queue_name: the queue.
            delayed: each message, and for how many seconds it waits.
            retry_timeout: s; how long to try.
        """
        deadline = time.monotonic() + retry_timeout
        for kind, later in ((QueueKey, False), (DelayedKey, True)):
            kicks = [
                _kick(data, deadline, delay) for data, delay in delayed if bool(delay) == later
            ]
            producer = self._queue_producer(kind, queue_name)
            refusal = None
            if not self._scripts_refused:
                refusal = refusal_of(partial(producer.run_all, kicks))
            if refusal is not None:
                refused = [kick for kick in kicks if kick.error is not None]
                self._send_after(refusal, producer.destination, refused)
            elif self._scripts_refused:
                self._send_plainly(producer.destination, kicks)

    def _send_after(
        self,
        refusal: CommandRefusedError,
        destination: Destination,
        kicks: Sequence[PendingMessage],
    ) -> None:
        """Do without the script that was refused."""
        self._send_plainly(destination, kicks)
        if not is_about_the_key(refusal):
            self._stop_scripts(destination.queue_name, refusal)

    def _queue_producer(self, kind: type[Destination], queue_name: str) -> QueueProducer:
        producer = self._producers.get((kind, queue_name))
        return producer or self._new_queue_producer(kind, queue_name)

    def _new_queue_producer(self, kind: type[Destination], queue_name: str) -> QueueProducer:
        with self._guard:
            if len(self._producers) >= MANY_QUEUES:
                self._producers = {
                    key: producer for key, producer in self._producers.items() if not producer.idle
                }
            producer = QueueProducer(self._connection, kind(queue_name, self._command))
            return self._producers.setdefault((kind, queue_name), producer)

    def _send_plainly(self, destination: Destination, kicks: Sequence[PendingMessage]) -> None:
        """Add messages by the bare command; after a lost reply, one can't always be tried again."""
        for kick in kicks:
            command = destination.plain_command(kick)
            self._connection.call(
                partial(execute_words, command),
                key=destination.key,
                size=kick.size,
                repeatable=destination.repeatable,
                retry_timeout=kick.time_left(),
            )

    def _stop_scripts(self, queue_name: str, refusal: CommandRefusedError) -> None:
        with self._guard:
            refused_before, self._scripts_refused = self._scripts_refused, True
        if not refused_before:
            logger.warning(
                "Messages are sent by plain commands, as the script for that is refused: %s "
                "So one whose reply is lost isn't sent again. To change that, give this user the "
                "right to EVAL, EVALSHA and SET, and to the keys %s.",
                refusal,
                producer_key(queue_name, "*"),
            )


def _kick(data: bytes, deadline: float, delay: float) -> PendingMessage:
    return PendingMessage(unique(data) if delay else data, deadline, delay)


class QueueBroker(BaseBroker):
    """A broker whose messages stay in Redis until they are fetched.

    Args:
        server: where Redis is.
        options: the options of the mechanism.
        task_id_generator: makes the ids of new tasks.
        result_backend: where results go.
    """

    def __init__(
        self,
        server: Server,
        options: QueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self._producer = LoopLocal(lambda: Producer(self.connection, self.add_command))

    def delay_of(self, message: BrokerMessage) -> float:
        """Return for how many seconds a message waits before it comes into its queue.

        Args:
            message: one that is about to be sent.
        """
        if DELAY not in message.labels or self.is_scheduler_process:
            # It sends when it is time to; a delay is for the retries.
            return 0.0
        task = self.find_task(message.task_name)
        if task is not None:
            # That of a shared broker has not told.
            note_declared(task.task_name, task.labels)
        return delay_of(message.task_name, message.labels)

    def send(self, queue_name: str, message: BrokerMessage) -> None:
        """Add a message to a queue (EVALSHA of XADD or LPUSH, or ZADD, and SET of its number)."""
        self._producer.get().send(
            queue_name, message.message, self.kick_timeout, self.delay_of(message)
        )

    def send_many(self, queue_name: str, messages: Sequence[BrokerMessage]) -> None:
        """Add messages to a queue (EVALSHA of XADD or LPUSH, or ZADD), a hundred by one script."""
        delayed = [(message.message, self.delay_of(message)) for message in messages]
        self._producer.get().send_many(queue_name, delayed, self.kick_timeout)

    @abstractmethod
    def add_command(self) -> AddCommand:
        """Return what adds a message to a queue."""
