"""Add messages to a queue exactly once, in numbered batches with one in flight at a time."""

import logging
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from taskiq import BrokerMessage
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.batcher import Batcher, Request
from taskiq_redis._async.brokers.base import BaseBroker
from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection, execute
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.delays import DELAY_LABEL, delay_of, make_unique, record_declared_delay
from taskiq_redis._core.keys import delayed_key, producer_key
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.options import QueueOptions
from taskiq_redis._core.redis_errors import is_auth_error, refuses_any_write
from taskiq_redis.exceptions import CommandRefusedError

T = TypeVar("T")

ENQUEUE = lua.load("producer_sequence", "enqueue")
DELAY_BATCH = lua.load("producer_sequence", "delay")

#: number of queues after which a producer forgets those to which it sends nothing at the moment
MANY_QUEUES = 1000

#: returns the words of a command that adds a message: ``name, *arguments``; the queue comes behind
#: the name, the message behind the arguments
AddCommand = Callable[[], tuple[str | int, ...]]

logger = logging.getLogger("taskiq_redis")


class PendingMessage(Request):
    """A message on its way to its queue.

    Args:
        data: the message.
        delay: s; how long it waits in Redis before it is added to the queue.
        retry_timeout: s; how long to retry.
    """

    __slots__ = ("data", "delay")

    def __init__(self, data: bytes, delay: float, retry_timeout: float) -> None:
        self.data = make_unique(data) if delay else data
        super().__init__(time.monotonic() + retry_timeout, len(self.data))
        self.delay = delay


class QueueProducer:
    """Adds messages to one queue, under a producer ID by which Redis knows its batches.

    Args:
        connection: where the queue is.
        queue_name: Redis key of the queue.
        add_command: see `AddCommand`; None for the sorted set of the queue's delayed messages.
    """

    def __init__(
        self, connection: Connection, queue_name: str, add_command: AddCommand | None
    ) -> None:
        self._connection = connection
        self._add_command = add_command
        self._key = delayed_key(queue_name) if add_command is None else queue_name
        self._keys = [self._key, producer_key(queue_name, secrets.token_hex(8))]
        #: adds each message exactly once, or at most once if `submit` raises
        self.batcher = Batcher(connection, self._key, self._send)

    async def _send(
        self, number: int, messages: list[PendingMessage], retry_timeout: float
    ) -> None:
        """Add a batch, completely or not at all (EVALSHA)."""
        args: list[str | bytes | int] = [number]
        if self._add_command is None:
            for message in messages:
                args += (round(message.delay * 1000), message.data)
            script = DELAY_BATCH
        else:
            args.append(" ".join(map(str, self._add_command())))
            args += [message.data for message in messages]
            script = ENQUEUE
        await self._connection.run_script(script, self._keys, args, retry_timeout=retry_timeout)

    async def submit_without_script(self, messages: Sequence[PendingMessage]) -> None:
        """Add messages by plain commands (XADD, LPUSH or ZADD).

        If the reply to XADD or LPUSH is lost, the command isn't retried: it may have been executed.

        Args:
            messages: the messages.
        """
        for message in messages:
            await self._connection.call(
                partial(_run, self._plain_command(message)),
                key=self._key,
                size=message.size,
                # Adding the same member to a sorted set again changes nothing.
                repeatable=self._add_command is None,
                retry_timeout=message.time_left(),
            )

    def _plain_command(self, message: PendingMessage) -> list[str | bytes | int]:
        if self._add_command is None:
            # Without a script, the due time is by this computer's clock.
            return ["ZADD", self._key, int((time.time() + message.delay) * 1000), message.data]
        name, *arguments = self._add_command()
        return [name, self._key, *arguments, message.data]


async def _run(command: Sequence[str | bytes | int], client: Client) -> None:
    await execute(client, *command)


class Producers:
    """The producers of one event loop, by queue.

    Args:
        connection: where the queues are.
        add_command: see `AddCommand`.
    """

    def __init__(self, connection: Connection, add_command: AddCommand) -> None:
        self._connection = connection
        self._add_command = add_command
        self._lock = ForkSafeLock()
        #: by queue, and whether it is for delayed messages
        self._producers: dict[tuple[str, bool], QueueProducer] = {}
        self._scripts_refused = False

    async def submit(
        self, queue_name: str, data: bytes, delay: float, retry_timeout: float
    ) -> None:
        """Add a message to a queue exactly once; at most once if this raises.

        Args:
            queue_name: Redis key of the queue.
            data: the message.
            delay: s; how long the message waits in Redis before it is added to the queue.
            retry_timeout: s; how long to retry.
        """
        producer = self._producer_of(queue_name, delay > 0)
        message = PendingMessage(data, delay, retry_timeout)
        if self._scripts_refused:
            await producer.submit_without_script([message])
            return
        refusal = None
        try:
            await producer.batcher.submit(message)
        except CommandRefusedError as error:
            refusal = error
        if refusal is not None:
            await self._submit_refused(queue_name, producer, [message], refusal)

    async def submit_all(
        self, queue_name: str, delayed: Sequence[tuple[bytes, float]], retry_timeout: float
    ) -> None:
        """Add messages to a queue in their order, as `submit` does.

        Args:
            queue_name: Redis key of the queue.
            delayed: each message, and its delay in s.
            retry_timeout: s; how long to retry.
        """
        for with_delay in (False, True):
            producer = self._producer_of(queue_name, with_delay)
            messages = [
                PendingMessage(data, delay, retry_timeout)
                for data, delay in delayed
                if (delay > 0) == with_delay
            ]
            if self._scripts_refused:
                await producer.submit_without_script(messages)
                continue
            refusal = None
            try:
                await producer.batcher.submit(*messages)
            except CommandRefusedError as error:
                refusal = error
            if refusal is not None:
                refused = [message for message in messages if message.error is not None]
                await self._submit_refused(queue_name, producer, refused, refusal)

    async def _submit_refused(
        self,
        queue_name: str,
        producer: QueueProducer,
        messages: Sequence[PendingMessage],
        refusal: CommandRefusedError,
    ) -> None:
        """Add messages without the script that was refused, unless nothing is allowed."""
        if is_auth_error(refusal.__cause__):
            raise refusal
        await producer.submit_without_script(messages)
        # A plain command would have failed as well if the key was the reason.
        if not refuses_any_write(refusal):
            self._stop_scripts(queue_name, refusal)

    def _producer_of(self, queue_name: str, with_delay: bool) -> QueueProducer:
        producer = self._producers.get((queue_name, with_delay))
        return producer or self._make_producer(queue_name, with_delay)

    def _make_producer(self, queue_name: str, with_delay: bool) -> QueueProducer:
        with self._lock:
            if len(self._producers) >= MANY_QUEUES:
                self._producers = {
                    key: producer
                    for key, producer in self._producers.items()
                    if not producer.batcher.idle
                }
            add_command = None if with_delay else self._add_command
            producer = QueueProducer(self._connection, queue_name, add_command)
            return self._producers.setdefault((queue_name, with_delay), producer)

    def _stop_scripts(self, queue_name: str, refusal: CommandRefusedError) -> None:
        with self._lock:
            refused_before, self._scripts_refused = self._scripts_refused, True
        if not refused_before:
            logger.warning(
                "Messages are sent by plain commands, since the script is refused: %s Messages "
                "whose reply is lost are not sent again. To send each exactly once, grant EVAL, "
                "EVALSHA, SET and the keys %s.",
                refusal,
                producer_key(queue_name, "*"),
            )


class QueueBroker(BaseBroker):
    """A broker whose messages stay in Redis until they are fetched.

    Args:
        server: address and connection options of Redis.
        options: the options of the mechanism.
        task_id_generator: returns the ID of a new task.
        result_backend: where results are stored.
    """

    def __init__(
        self,
        server: Server,
        options: QueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: AsyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self._producers = LoopLocal(lambda: Producers(self._connection, self._add_command))

    @abstractmethod
    def _add_command(self) -> tuple[str | int, ...]:
        """Return the words of the command that adds a message; see `AddCommand`."""

    def _delay_of(self, message: BrokerMessage) -> float:
        """Return how long a message waits in Redis before it is added to its queue, in s."""
        # The scheduler sends when it is time to; there, a delay is a setting for retries.
        if DELAY_LABEL not in message.labels or self.is_scheduler_process:
            return 0.0
        task = self.find_task(message.task_name)
        if task is not None:
            # A task of taskiq's shared broker has not recorded its delay.
            record_declared_delay(task.task_name, task.labels)
        return delay_of(message.task_name, message.labels)

    async def kick(self, message: BrokerMessage) -> None:
        """Send a message to its queue, exactly once, or at most once if this raises.

        This runs EVALSHA of XADD or LPUSH (ZADD for a delayed message) and SET. Messages that are
        sent at the same time share a round trip.

        Args:
            message: the message as taskiq's formatter made it.

        Raises:
            InvalidOptionError: the task ID or the queue's name can't be part of a key.
            ValueTooLargeError: the message is longer than the server allows.
            ServerUnavailableError: Redis could not be reached for `kick_timeout` seconds.
            CommandRefusedError: Redis refuses it, because of the key's type or an ACL.
        """
        queue_name = self._queue_of(message)
        await self._producers.get().submit(
            queue_name, message.message, self._delay_of(message), self.kick_timeout
        )

    async def _kick_to(self, queue_name: str, messages: Sequence[BrokerMessage]) -> None:
        delayed = [(message.message, self._delay_of(message)) for message in messages]
        await self._producers.get().submit_all(queue_name, delayed, self.kick_timeout)
