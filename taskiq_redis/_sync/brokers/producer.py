# Generated from taskiq_redis/_async/brokers/producer.py by scripts/unasync.py; edit that.

"""How messages get into a queue exactly once: in numbered batches, one under way at a time."""

import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

from redis.exceptions import OutOfMemoryError
from taskiq import BrokerMessage

from taskiq_redis._blocking import SyncResultBackend
from taskiq_redis._core import lua
from taskiq_redis._core.delays import delay_of, note_declared, unique
from taskiq_redis._core.failures import is_about_the_user
from taskiq_redis._core.guard import Guard
from taskiq_redis._core.keys import delayed_key, producer_key
from taskiq_redis._core.lua import Script
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.servers import Server
from taskiq_redis._runtime.blocking import Event
from taskiq_redis._sync.brokers.base import BaseBroker
from taskiq_redis._sync.brokers.delays import AddCommand
from taskiq_redis._sync.connection import Connection, execute
from taskiq_redis._sync.owned import Owned
from taskiq_redis.exceptions import (
    CommandRefusedError,
    ServerUnavailableError,
    WrongKeyTypeError,
)

T = TypeVar("T")

ENQUEUE = lua.load("enqueue")
DELAY = lua.load("delay")

#: most messages of one batch, and most bytes of more than one message
BATCH_MESSAGES, BATCH_BYTES = 100, 1_000_000
#: s; how long Redis keeps the number of a producer's last batch. It has to outlast whatever may
#: hold up a command on its way, and costs about 100 bytes.
NUMBER_TTL = 600
#: how many queues a producer remembers, before it forgets those to which it sends nothing now
MANY_QUEUES = 1000

logger = logging.getLogger("taskiq_redis")


@dataclass(eq=False)
class Kick:
    """A message on its way into a queue, and whoever waits for that.

    Args:
        data: the message.
        give_up: when the caller wants to hear of it at the latest, by the monotonic clock.
        delay: s; how long the message waits before it comes into the queue.
    """

    data: bytes
    give_up: float
    delay: float = 0.0
    #: set when there is an answer, or when it is this caller's turn to send
    called: Event = field(default_factory=Event)
    answered: bool = False
    #: why Redis doesn't take the batch, if it said so
    refusal: CommandRefusedError | None = None
    #: whether nobody waits any more
    left: bool = False

    def time_left(self) -> float:
        """Return the seconds until the caller gives up."""
        return max(0.0, self.give_up - time.monotonic())


@dataclass(frozen=True)
class Batch:
    """Messages that are added together; tried again, it is the same messages and number."""

    number: int
    kicks: list[Kick]


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
    def arguments(self, kicks: list[Kick]) -> list[str | bytes | int]:
        """Return what the script is told about a batch."""

    @abstractmethod
    def plain_command(self, kick: Kick) -> list[str | bytes | int]:
        """Return a command that adds one message."""


class Queue(Destination):
    """A queue itself: a stream or a list."""

    script = ENQUEUE
    repeatable = False

    @property
    def key(self) -> str:
        """Its name."""
        return self.queue_name

    def arguments(self, kicks: list[Kick]) -> list[str | bytes | int]:
        """Return the command, and the messages (XADD or LPUSH)."""
        name, arguments = self.command()
        return [name, len(arguments), *arguments, *(kick.data for kick in kicks)]

    def plain_command(self, kick: Kick) -> list[str | bytes | int]:
        """Return XADD or LPUSH."""
        name, arguments = self.command()
        return [name, self.queue_name, *arguments, kick.data]


class Delayed(Destination):
    """The sorted set of what is to be in a queue later."""

    script = DELAY
    repeatable = True

    @property
    def key(self) -> str:
        """Its name."""
        return delayed_key(self.queue_name)

    def arguments(self, kicks: list[Kick]) -> list[str | bytes | int]:
        """Return how long each message waits, in ms, and what waits (ZADD)."""
        return [part for kick in kicks for part in (round(kick.delay * 1000), kick.data)]

    def plain_command(self, kick: Kick) -> list[str | bytes | int]:
        """Return ZADD, with the time of this computer's clock."""
        due = round((time.time() + kick.delay) * 1000)
        return ["ZADD", self.key, due, kick.data]


class Outbox:
    """Sends messages to one key, and numbers them under an id of its own.

    Callers that come while a batch is under way share the next one. There is no task or thread
    behind this: the caller who waits longest sends for all. If that one gives up or is cancelled,
    another member of the batch sends it again, which is safe, as Redis knows its number.

    Args:
        connection: where the key is.
        destination: the key.
    """

    def __init__(self, connection: Connection, destination: Destination) -> None:
        self._connection = connection
        self._destination = destination
        own_key = producer_key(destination.queue_name, secrets.token_hex(8))
        self._keys = [destination.key, own_key]
        self._guard = Guard()
        self._waiting: deque[Kick] = deque()
        self._sender: Kick | None = None
        #: what was sent, perhaps without an answer
        self._batch: Batch | None = None
        self._last_number = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return self._sender is None

    def send(self, kick: Kick) -> None:
        """Wait until Redis has added or refused a message.

        Raises:
            ServerUnavailableError: it didn't say so in time.
        """
        waits = self._enter(kick)
        try:
            if waits:
                kick.called.wait(kick.time_left())
            if self._sender is kick:
                self._send_batch(kick)
        finally:
            self._leave(kick)
        if not kick.answered:
            raise ServerUnavailableError(
                server=str(self._connection.server),
                reason=f"what was sent to {self._keys[0]!r} before is still without an answer",
            )

    def _enter(self, kick: Kick) -> bool:
        """Take a message in, and tell whether somebody else is about to send."""
        with self._guard:
            self._waiting.append(kick)
            if self._sender is None:
                self._sender = kick
            return self._sender is not kick

    def _send_batch(self, sender: Kick) -> None:
        batch, refusal = self._next_batch(), None
        try:
            self._add(batch, sender.time_left())
        except CommandRefusedError as error:
            refusal = error
        with self._guard:
            self._batch = None
            for kick in batch.kicks:
                kick.answered, kick.refusal = True, refusal
                kick.called.set()

    def _next_batch(self) -> Batch:
        """Return the batch that has no answer yet, or else make one of what waits."""
        with self._guard:
            if self._batch is None:
                self._last_number += 1
                self._batch = Batch(self._last_number, self._take_kicks())
            return self._batch

    def _take_kicks(self) -> list[Kick]:
        kicks = [self._waiting.popleft()]
        room = BATCH_BYTES - len(kicks[0].data)
        while self._waiting and len(kicks) < BATCH_MESSAGES:
            room -= len(self._waiting[0].data)
            if room < 0:
                break
            kicks.append(self._waiting.popleft())
        return kicks

    def _add(self, batch: Batch, patience: float) -> None:
        arguments = self._destination.arguments(batch.kicks)
        self._connection.run_script(
            self._destination.script,
            self._keys,
            [batch.number, NUMBER_TTL * 1000, *arguments],
            patience=patience,
        )

    def _leave(self, kick: Kick) -> None:
        """Go, and leave the sending to the next one if it was this caller's turn."""
        with self._guard:
            kick.left = True
            if not kick.answered and kick in self._waiting:
                self._waiting.remove(kick)
            if self._sender is kick:
                self._sender = self._next_sender()
                if self._sender is not None:
                    self._sender.called.set()

    def _next_sender(self) -> Kick | None:
        unanswered = self._batch.kicks if self._batch else ()
        for kick in unanswered:
            if not kick.left:
                return kick
        # Nobody waits for that batch: it was added once or never, and is not sent again.
        self._batch = None
        return self._waiting[0] if self._waiting else None


class Producer:
    """Sends the messages of one process to any queue.

    Args:
        connection: where the queues are.
        command: returns what adds a message.
    """

    def __init__(self, connection: Connection, command: Callable[[], AddCommand]) -> None:
        self._connection = connection
        self._command = command
        self._guard = Guard()
        self._outboxes: dict[str, Outbox] = {}
        self._scripts_refused = False

    def send(self, queue_name: str, data: bytes, patience: float, delay: float = 0.0) -> None:
        """Add a message to a queue: exactly once, or at most once if this raises.

        Args:
            queue_name: the queue.
            data: the message.
            patience: s; how long to try.
            delay: s; how long the message waits before it comes into the queue.
        """
        kind = Delayed if delay else Queue
        destination = kind(queue_name, self._command)
        waiting = unique(data) if delay else data
        kick = Kick(waiting, time.monotonic() + patience, delay)
        if not self._scripts_refused:
            self._outbox(destination).send(kick)
            if kick.refusal is None:
                return
            if is_about_the_user(kick.refusal.__cause__):
                # Each caller has an error of its own, with its own traceback.
                raise copy(kick.refusal) from kick.refusal.__cause__
        self._send_plainly(destination, kick)

    def _outbox(self, destination: Destination) -> Outbox:
        with self._guard:
            if destination.key not in self._outboxes:
                if len(self._outboxes) >= MANY_QUEUES:
                    self._outboxes = {
                        key: outbox for key, outbox in self._outboxes.items() if not outbox.idle
                    }
                self._outboxes[destination.key] = Outbox(self._connection, destination)
            return self._outboxes[destination.key]

    def _send_plainly(self, destination: Destination, kick: Kick) -> None:
        """Add a message by the bare command; after a lost reply it can't always be tried again."""
        command = destination.plain_command(kick)
        self._connection.call(
            lambda client: execute(client, *command),
            key=destination.key,
            size=len(kick.data),
            repeatable=destination.repeatable,
            patience=kick.time_left(),
        )
        if kick.refusal is not None and not _is_about_the_queue(kick.refusal):
            self._stop_scripts(destination.queue_name, kick.refusal)

    def _stop_scripts(self, queue_name: str, refusal: CommandRefusedError) -> None:
        with self._guard:
            refused_before, self._scripts_refused = self._scripts_refused, True
        if not refused_before:
            logger.warning(
                "Messages are sent by plain commands, as the script for that is refused: %s "
                "So one whose reply is lost isn't sent again. To change that, give this user the "
                "right to EVAL, EVALSHA, GET and SET, and to the keys %s.",
                refusal,
                producer_key(queue_name, "*"),
            )


def _is_about_the_queue(refusal: CommandRefusedError) -> bool:
    """Tell whether the bare command would have been refused as well, at that moment."""
    return isinstance(refusal, WrongKeyTypeError) or isinstance(refusal.__cause__, OutOfMemoryError)


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
        self._producer = Owned(lambda: Producer(self.connection, self.add_command))

    def delay_of(self, message: BrokerMessage) -> float:
        """Return for how many seconds a message waits before it comes into its queue.

        Args:
            message: one that is about to be sent.
        """
        if self.is_scheduler_process:
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

    @abstractmethod
    def add_command(self) -> AddCommand:
        """Return what adds a message to a queue."""
