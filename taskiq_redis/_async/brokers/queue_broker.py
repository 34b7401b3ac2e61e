"""What brokers on streams and lists have in common: sending tasks, and looking at them later."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import NoReturn, TypeVar

from taskiq import BrokerMessage, TaskiqMessage
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.batcher import Request
from taskiq_redis._async.brokers.control import ControlledBroker
from taskiq_redis._async.brokers.dead_letter_store import DeadLetterStore
from taskiq_redis._async.brokers.producer import QueueProducer, message_request
from taskiq_redis._async.brokers.queue_contents import (
    dead_letters_of_queue,
    delayed_of_queue,
    tasks,
)
from taskiq_redis._async.brokers.task_records import TaskRecorder, TrackedRequest, WorkerTracking
from taskiq_redis._async.brokers.task_status import recorded_status
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.checks import check_name
from taskiq_redis._core.dead_letters import DATA_FIELD, DeadLetter, limit_arguments
from taskiq_redis._core.delays import DELAY_LABEL, delay_of, record_declared_delay
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.queued_task import Load, QueuedTask
from taskiq_redis._core.task_status import TaskState, TaskStatus
from taskiq_redis._core.texts import describe_error
from taskiq_redis._core.unknown_tasks import describe_outcome
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._taskiq.backend_status import has_results
from taskiq_redis._taskiq.failed_tasks import notice_failed_tasks
from taskiq_redis.exceptions import InvalidOptionError, SignatureError

T = TypeVar("T")


class QueueBroker(ControlledBroker):
    """A broker whose messages stay in Redis until they are fetched, in a stream or list.

    Its dead letters are in a stream beside each queue.

    Args:
        server: address and connection options of Redis.
        options: the options of the mechanism.
        task_id_generator: returns the ID of a new task.
        result_backend: where results are stored.
    """

    #: adds and manages the dead letters; set by subclasses
    _dead_letters: DeadLetterStore

    def __init__(
        self,
        server: Server,
        options: StoredQueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: AsyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self.keep_failed: bool = options.keep_failed
        self.max_dead_letters: int | None = options.max_dead_letters
        self.dead_letter_ttl: float | None = options.dead_letter_ttl
        self.unknown_task_timeout: float = options.unknown_task_timeout
        self._tracks: bool = options.track_tasks
        self._track_ttl: float = options.track_ttl
        self._tracking = WorkerTracking(options.track_tasks)
        self._producer = LoopLocal(
            lambda: QueueProducer(
                self._connection,
                self._add_command,
                TaskRecorder(self._track_ttl) if self._tracks else None,
            )
        )

    def _notice_failures(self) -> None:
        """Let taskiq's receiver log which tasks fail, and keep those that fail for good."""
        super()._notice_failures()
        if self.keep_failed:
            notice_failed_tasks(self)

    @abstractmethod
    def _add_command(self) -> tuple[str | int, ...]:
        """Return the words of the command that adds a message; see `AddCommand`."""

    def _delay_of(self, message: BrokerMessage) -> float:
        """Return how long a message waits in Redis before it is added to its queue, in s."""
        # The scheduler sends a message when it is due; its label `delay` is a setting for retries.
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
            InvalidOptionError: the task ID or the queue's name can't be part of a key, the label
                `queue_name` names a queue that isn't allowed, or the label `delay` is not a number
                of seconds.
            ValueTooLargeError: the message is longer than the server allows.
            ServerUnavailableError: Redis could not be reached for `kick_timeout` seconds.
            CommandRefusedError: Redis refuses it, because of the key's type or an ACL.
        """
        queue_name, delay = self._queue_of(message), self._delay_of(message)
        request = self._request_for(message, queue_name, delay)
        await self._producer.get().submit(queue_name, delay > 0, request)

    def _request_for(self, message: BrokerMessage, queue_name: str, delay: float) -> Request:
        data = self._sign_value("message", queue_name, message.message)
        if self._tracks:
            return TrackedRequest(data, delay, self.kick_timeout, message.task_id)
        return message_request(data, delay, self.kick_timeout)

    async def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages in as few round trips as possible, those of each queue in their order.

        This runs the commands of `kick`, for many messages at a time.

        Args:
            messages: the messages as taskiq's formatter made them.

        Raises:
            InvalidOptionError: a task ID, a delay or the name of a queue is invalid; no message
                was sent.
            ValueTooLargeError: a message is longer than the server allows.
            ServerUnavailableError: Redis could not be reached for `kick_timeout` seconds. Each
                message was sent once or not at all.
            CommandRefusedError: Redis refuses a message; others may have been sent.
        """
        for message in messages:
            self._delay_of(message)
        await super().kick_many(messages)

    async def _kick_to(self, queue_name: str, messages: Sequence[BrokerMessage]) -> None:
        delays = [self._delay_of(message) for message in messages]
        for delayed in (False, True):
            requests = [
                self._request_for(message, queue_name, delay)
                for message, delay in zip(messages, delays, strict=True)
                if (delay > 0) == delayed
            ]
            await self._producer.get().submit(queue_name, delayed, *requests)

    @property
    def track_tasks(self) -> bool:
        """Whether tasks are recorded beside their queue, for `status`."""
        return self._tracks

    @property
    def track_ttl(self) -> float:
        """How long records of tasks are kept, in s."""
        return self._track_ttl

    def _tracked_group(self) -> str:
        """Return the group whose workers `status` looks at; "" for a queue without groups."""
        return ""

    async def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
        """Return what has become of a task (EXISTS, GET; with `track_tasks` also EVALSHA).

        A stored result decides first, and then the record of the task, if this broker and the one
        that sent the task have `track_tasks`. Otherwise a task that has reported progress is
        running, and nothing is known about any other.

        Args:
            task_id: ID of the task.
            queue_name: its queue. Default this broker's.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        from_backend = await super().status(task_id, queue_name)
        if not self._tracks or from_backend.state is TaskState.DEAD:
            return from_backend
        queue_name = queue_name or self.queue_name
        found = await recorded_status(
            self._connection,
            queue_name,
            self._tracked_group(),
            task_id,
            from_backend,
            partial(self._task_id_of, queue_name),
        )
        if found is not None:
            return found
        # Its result may have been stored before it was looked for in its list.
        from_backend = await super().status(task_id, queue_name)
        if from_backend.state is TaskState.UNKNOWN and has_results(self.result_backend):
            return TaskStatus(TaskState.RUNNING)
        return from_backend

    @abstractmethod
    async def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return the state of a queue."""

    @abstractmethod
    def waiting(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[QueuedTask, None]:
        """Iterate over the messages that no worker holds."""

    def delayed(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[QueuedTask, None]:
        """Iterate over the delayed messages, the first that is due first (ZRANGE).

        They are read page by page. Those that come or go meanwhile may be left out.

        Args:
            queue_name: their queue. Default this broker's.
            task_name: name of their task. Default any.
            limit: maximum number. Default none.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        name = queue_name or self.queue_name
        read_page = partial(
            delayed_of_queue, self._connection, name, partial(self._open_message, name)
        )
        return tasks(read_page, (float("-inf"), 0), task_name, limit)

    def dead_letters(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[DeadLetter, None]:
        """Iterate over the dead letters, the oldest first (XRANGE).

        They are messages that are not run any more, and are read page by page.

        Args:
            queue_name: their queue. Default this broker's.
            task_name: name of their task. Default any.
            limit: maximum number. Default none.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        name = queue_name or self.queue_name
        read_page = partial(
            dead_letters_of_queue, self._connection, name, partial(self._open_message, name)
        )
        return tasks(read_page, "-", task_name, limit)

    def _open_message(self, queue_name: str, data: bytes) -> tuple[bytes, Load]:
        """Return a message without its signature, unless that isn't valid, and a `Load` for it."""
        try:
            data = self._verify_value("message", queue_name, data)
        except SignatureError as error:
            # A formatter may not be safe for bytes that don't come from a trusted sender.
            return data, partial(_raise, error)
        return data, partial(self.formatter.loads, data)

    def _letter_limits(self) -> list[int]:
        return limit_arguments(self.max_dead_letters, self.dead_letter_ttl)

    def _outcome_of_unknown_tasks(self) -> str:
        return describe_outcome(self.unknown_task_timeout)

    def _problem_of(self, data: bytes) -> str | None:
        """Return why taskiq can't parse a message, or None if it can."""
        try:
            self.formatter.loads(data).parse_labels()
        except Exception as error:  # noqa: BLE001 - a formatter may raise anything
            return describe_error(error)
        return None

    def _read_task(self, entry: StreamEntry) -> TaskiqMessage | None:
        """Return the task in an entry, or None if its bytes are not a valid message of taskiq."""
        try:
            data = self._verify_value("message", entry.stream, entry.fields.get(DATA_FIELD, b""))
            return self.formatter.loads(data)
        except Exception:  # noqa: BLE001 - a formatter may raise anything
            return None

    async def requeue_dead_letters(
        self, *ids: str, task_name: str | None = None, queue_name: str | None = None
    ) -> int:
        """Send dead letters again as new messages, and return their number (EVALSHA).

        Every group of a stream receives them. One that can't be added is logged and kept. The error
        results of these tasks are deleted, so that waiters get the results of the new runs.

        Args:
            ids: IDs of the dead letters. Default all.
            task_name: name of the task whose dead letters are sent. They are parsed for that, with
                XRANGE. Default all tasks.
            queue_name: their queue. Default this broker's.

        Raises:
            InvalidOptionError: both `ids` and `task_name` are given, or the name is empty.
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        _check_choice(ids, task_name)
        return await self._dead_letters.requeue(queue_name or self.queue_name, ids, task_name)

    async def purge_dead_letters(
        self,
        *ids: str,
        all: bool = False,  # noqa: A002 - reads best where it is called
        task_name: str | None = None,
        queue_name: str | None = None,
    ) -> int:
        """Delete dead letters, and return their number (EVALSHA).

        Args:
            ids: IDs of the dead letters.
            all: whether to delete all of them. Default False.
            task_name: name of the task whose dead letters are deleted. They are parsed for that,
                with XRANGE. Default None.
            queue_name: their queue. Default this broker's.

        Raises:
            InvalidOptionError: not exactly one of `ids`, `all` and `task_name` is given, or the
                name is empty.
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        _check_choice(ids, task_name)
        if (bool(ids) or task_name is not None) == bool(all):
            raise InvalidOptionError(
                option="all",
                problem="it is unclear which dead letters to delete",
                advice="Give their IDs or the name of a task, or else `all=True` to delete all of "
                "them.",
            )
        return await self._dead_letters.purge(queue_name or self.queue_name, ids, task_name)


def _raise(error: SignatureError) -> NoReturn:
    raise error


def _check_choice(ids: tuple[str, ...], task_name: str | None) -> None:
    """Refuse IDs together with a task name, and an empty name."""
    if task_name is None:
        return
    check_name("task_name", task_name)
    if ids:
        raise InvalidOptionError(
            option="task_name",
            problem="both IDs and the name of a task are given",
            advice="Give one of them: IDs already say which dead letters are meant.",
        )
