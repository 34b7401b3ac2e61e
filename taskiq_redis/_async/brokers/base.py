"""The base class of all brokers: a connection, and `listen`, which reconnects after outages."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Generic, TypeVar

from taskiq import AckableMessage, BrokerMessage, TaskiqMessage
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers.eviction import warn_of_eviction
from taskiq_redis._async.connection import Connection
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.topologies import OnCluster, OnSentinel, OnSingleNode
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.checks import check_name
from taskiq_redis._core.messages import is_receiver_calling, is_task_calling, is_task_unknown
from taskiq_redis._core.notices import warn_of_endless_results, warn_of_unknown_task
from taskiq_redis._core.options import QueueOptions, check_side_keys
from taskiq_redis._core.redis_errors import Outage
from taskiq_redis._core.signing import Signing
from taskiq_redis._core.taskiq_logs import shorten_parse_errors
from taskiq_redis._runtime.aio import Event, current_owner, is_owner_gone, sleep
from taskiq_redis._taskiq.async_broker import TaskBroker
from taskiq_redis._taskiq.failure_log import log_failures
from taskiq_redis.exceptions import InvalidOptionError, SignatureError

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

T = TypeVar("T")
Message = bytes | AckableMessage

logger = logging.getLogger("taskiq_redis")


class Reader(ABC, Generic[T]):
    """Fetches messages for one listener, on a connection of its own."""

    @abstractmethod
    async def fetch(self) -> list[T]:
        """Wait a bounded time for messages, and return them."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class ReconnectingReader(Reader[T]):
    """A reader that reconnects after an outage; it logs the beginning and the end of each.

    Args:
        open_reader: makes the reader, once Redis can be reached.
        connection: the connection of the broker.
        names: Redis keys or channels, for log messages.
    """

    def __init__(
        self,
        open_reader: Callable[[], Awaitable[Reader[T]]],
        connection: Connection,
        names: Iterable[str],
    ) -> None:
        self._open_reader = open_reader
        self._connection = connection
        self._names = tuple(names)
        what = ", ".join(map(repr, self._names))
        self._outage = Outage(logger, f"Listening to {what} on {connection.server}")
        self._reader: Reader[T] | None = None

    async def fetch(self) -> list[T]:
        """Wait a bounded time for messages, or for the next try."""
        try:
            if self._reader is None:
                self._reader = await self._open_reader()
            messages = await self._reader.fetch()
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            outage = self._connection.outage(error, *self._names)
            await sleep(self._outage.record_failure(outage))
            return []
        self._outage.record_success()
        return messages

    async def close(self) -> None:
        """Close the reader, if it is open."""
        if self._reader is not None:
            await self._reader.close()


class BaseBroker(Signing, TaskBroker):
    """A broker on Redis; subclasses define how messages are sent and read.

    Args:
        server: address and connection options of Redis.
        options: see `QueueOptions`.
        task_id_generator: returns the ID of a new task. Default random hexadecimal IDs.
        result_backend: where results are stored; `with_result_backend` is preferred.
    """

    #: queues that the label `queue_name` may name, besides this broker's; None for all
    _allowed_queues: frozenset[str] | None = None
    #: whether messages stay in Redis until a worker fetches them
    _keeps_messages = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "listen" in vars(cls) and cls._open_reader is BaseBroker._open_reader:
            raise TypeError(
                f"{cls.__name__} overrides `listen`: inherit from the public class for lists, "
                "ListQueue..., whose constructor is the one of the base class in 1.2.4."
            )
        find_task: Any = cls.find_task
        if find_task is not BaseBroker.find_task and not hasattr(find_task, "notices_unknown"):
            # An overriding method may not call the one that it overrides.
            setattr(cls, "find_task", _noticing(find_task))  # noqa: B010 - typed

    def __init__(
        self,
        server: Server,
        options: QueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: AsyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(result_backend=result_backend, task_id_generator=task_id_generator)
        self._connection = Connection(server, type(self), options.kick_timeout)
        self.queue_name: str = options.queue_name
        self.kick_timeout: float = options.kick_timeout
        #: set by `shutdown`
        self._stopping = LoopLocal(Event)
        #: set by `stop`
        self._stop_requested = False
        self._check_queue("queue_name", self.queue_name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} queue {self.queue_name!r} on {self._connection.server}>"

    def with_allowed_queues(self, *names: str) -> Self:
        """Let the label `queue_name` name these queues only, and this broker's own.

        A retry has the labels of its message. So without this limit, a message can make a worker
        send to any queue.

        Args:
            names: the queues. Without names, only the queue of this broker is allowed.

        Raises:
            InvalidOptionError: a name is empty, or not valid as the name of a queue.
        """
        for name in names:
            self._check_queue("with_allowed_queues", name)
        # Members of an enum have another hash than their text, so a set wouldn't find the text.
        self._allowed_queues = frozenset(map(str.__str__, names))
        return self

    def _check_queue(self, option: str, name: str) -> None:
        """Refuse an invalid queue name, and one whose other keys would be in another hash slot."""
        check_name(option, name)
        if self._connection.sharded:
            check_side_keys(option, name)

    async def startup(self) -> None:
        """Run taskiq's startup hooks, and connect; Redis may be away.

        Raises:
            CommandRefusedError: Redis refuses this user or password.
        """
        if self.is_worker_process:
            warn_of_endless_results(self.result_backend)
        await super().startup()
        if self.is_worker_process:
            # After the hooks, which may add middlewares that retry tasks.
            self._notice_failures()
        is_reached = await self._connection.check()
        if is_reached and self.is_worker_process and self._keeps_messages:
            await warn_of_eviction(self._connection, self.queue_name)

    def _notice_failures(self) -> None:
        """Let taskiq's receiver log which tasks fail, and no whole messages."""
        shorten_parse_errors()
        log_failures(self)

    def find_task(self, task_name: str) -> Any:
        """Return the task with a name, or None; a worker warns if it has received such a task.

        Args:
            task_name: name of the task.
        """
        task = super().find_task(task_name)
        if task is None and self.is_worker_process:
            self._notice_unknown_task(task_name)
        return task

    def _notice_unknown_task(self, task_name: str) -> None:
        """Warn of a task that wasn't found, and record it for the acknowledgement of its message.

        Args:
            task_name: name of the task.
        """
        # A running task may look for one, or send one to other workers.
        if is_task_calling():
            return
        server = str(self._connection.server)
        outcome = self._outcome_of_unknown_tasks()
        warn_of_unknown_task(task_name, outcome, self.queue_name, server)
        if is_receiver_calling():
            is_task_unknown.set(True)

    def _pop_unknown_task(self, data: bytes) -> TaskiqMessage | None:
        """Return the task in a message if this worker doesn't know it, and reset `is_task_unknown`.

        Args:
            data: the message, without its signature.
        """
        is_task_unknown.set(False)
        try:
            task = self.formatter.loads(data)
        except Exception:  # noqa: BLE001 - a formatter may raise anything
            return None
        # A subclass may know it although this class doesn't.
        return task if self.find_task(task.task_name) is None else None

    def _outcome_of_unknown_tasks(self) -> str:
        """Return what becomes of the messages of tasks that this worker doesn't know."""
        return "taskiq drops its messages"

    def stop(self) -> None:
        """Ask every `listen` of this broker to end.

        This only sets a flag, so a signal handler may call it. `listen` ends after its current
        read, about a second later at most. `shutdown` clears the flag.
        """
        self._stop_requested = True

    async def shutdown(self) -> None:
        """End the listeners, run taskiq's shutdown hooks and close the connections.

        Listeners and connections of another event loop stay open until that is shut down.
        """
        stopping = self._stopping.pop()
        if stopping is not None:
            stopping.set()
        try:
            await super().shutdown()
        finally:
            await self._connection.close()
            self._stop_requested = False

    async def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages in as few round trips as possible, those of each queue in their order.

        Args:
            messages: the messages as taskiq's formatter made them.

        Raises:
            InvalidOptionError: a task ID or the name of a queue can't be part of a key, or a label
                names a queue that isn't allowed; no message was sent.
            ValueTooLargeError: a message is longer than the server allows.
            ServerUnavailableError: Redis could not be reached for `kick_timeout` seconds. Each
                message was sent once or not at all.
            CommandRefusedError: Redis refuses a message; others may have been sent.
        """
        by_queue: dict[str, list[BrokerMessage]] = {}
        for message in messages:
            by_queue.setdefault(self._queue_of(message), []).append(message)
        for queue_name, of_queue in by_queue.items():
            await self._kick_to(queue_name, of_queue)

    @abstractmethod
    async def _kick_to(self, queue_name: str, messages: Sequence[BrokerMessage]) -> None:
        """Send messages to a queue, each exactly once, or at most once if this raises."""

    def _queue_of(self, message: BrokerMessage) -> str:
        """Return the name of a message's queue: its label ``queue_name``, or this broker's."""
        queue_name: str = message.labels.get("queue_name") or self.queue_name
        self._check_queue("queue_name", queue_name)
        allowed = self._allowed_queues
        if allowed is not None and str.__str__(queue_name) not in {self.queue_name, *allowed}:
            raise InvalidOptionError(
                option="queue_name",
                problem=f"a label names the queue {queue_name!r}, which is not allowed",
                advice="If tasks may be sent there, add it to `with_allowed_queues(...)`.",
            )
        # Otherwise, a worker would run the task and fail to store its result.
        check_name("task_id", message.task_id)
        return queue_name

    def _accept(self, queue_name: str, data: bytes) -> bytes | None:
        """Return a message without its signature, or log why it is dropped, and return None."""
        try:
            return self._verify_value("message", queue_name, data)
        except SignatureError as error:
            # Without its content, which may be anything.
            logger.error("Dropped a message of %d bytes. %s", len(data), error)  # noqa: TRY400
            return None

    async def listen(self) -> AsyncGenerator[Message, None]:
        """Yield messages until `stop` or `shutdown`, or until the generator is closed.

        Outages of Redis don't end it; each is logged once.
        """
        if self.is_worker_process:
            # `run_receiver_task` makes it a worker after `startup`.
            self._notice_failures()
        stopping, owner = self._stopping.get(), current_owner()
        reader = ReconnectingReader(self._open_reader, self._connection, [self.queue_name])
        try:
            while not (self._stop_requested or stopping.is_set()):
                messages = await reader.fetch()
                messages.reverse()
                while messages:
                    # Keep no reference: the lease ends when the message is garbage-collected.
                    yield messages.pop()
        finally:
            # In a forked child, the reader belongs to the parent process.
            if not is_owner_gone(owner):
                await reader.close()
                if stopping.is_set():
                    # Closing the reader may have connected again after `shutdown`.
                    await self._connection.close()

    @abstractmethod
    async def _open_reader(self) -> Reader[Message]:
        """Make the reader of one listener."""


def _noticing(find_task: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that finds tasks, and lets a worker notice which ones it doesn't know.

    Args:
        find_task: the method of a subclass.
    """

    @wraps(find_task)
    def find(self: BaseBroker, *args: Any, **kwargs: Any) -> Any:
        task = find_task(self, *args, **kwargs)
        if task is None and self.is_worker_process:
            self._notice_unknown_task(*args, **kwargs)
        return task

    vars(find)["notices_unknown"] = True
    return find


class BaseRedisBroker(OnSingleNode, BaseBroker):
    """A broker on one Redis server."""


class BaseRedisClusterBroker(OnCluster, BaseBroker):
    """A broker on a Redis Cluster."""


class BaseSentinelBroker(OnSentinel, BaseBroker):
    """A broker on a master that sentinels monitor."""
