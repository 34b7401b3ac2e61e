# Generated from taskiq_redis/_async/brokers/list_queue.py by scripts/unasync.py; edit that.

"""Brokers on lists: LPUSH adds a message, and BRPOP removes it, without acknowledgements."""

import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from redis import RedisCluster
from taskiq import AckableMessage, TaskiqMessage

from taskiq_redis._core.addresses import Cluster, SentinelMaster, Server, SingleNode
from taskiq_redis._core.dead_letters import dead_letter_fields
from taskiq_redis._core.messages import Delivery, WorkerMessage, is_task_calling, is_task_unknown
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.queued_task import QueuedTask
from taskiq_redis._core.unknown_tasks import why_unknown
from taskiq_redis._core.wire import as_bytes
from taskiq_redis._drivers.blocking import disconnect, initialize
from taskiq_redis._runtime.blocking import run_shielded, sleep
from taskiq_redis._sync.brokers.base import (
    BaseBroker,
    BaseRedisBroker,
    BaseRedisClusterBroker,
    BaseSentinelBroker,
    Message,
    Reader,
)
from taskiq_redis._sync.brokers.control import purge_key
from taskiq_redis._sync.brokers.dead_letter_store import (
    NO_ORIGIN,
    DeadLetterStore,
    NewDeadLetter,
    describe_task,
    log_dead_letter,
)
from taskiq_redis._sync.brokers.delays import Promoter
from taskiq_redis._sync.brokers.queue_broker import QueueBroker
from taskiq_redis._sync.brokers.queue_contents import list_stats, tasks, waiting_in_list
from taskiq_redis._sync.brokers.unknown_tasks import put_back
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.failed_tasks import Failure, begin_run, current_run
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis.exceptions import SignatureError, UndeclaredTaskError

T = TypeVar("T")

#: s; how long one BRPOP waits; short, as a clean stop waits for it to end
POP_WAIT = 1.0


class ListReader(Reader[Message]):
    """Pops messages from the right end of a list.

    Args:
        connection: where the list is.
        queue_name: Redis key of the list.
        client: client for this reader only, as BRPOP blocks it.
        promoter: moves due messages into the list.
        block: s; how long one BRPOP waits.
        accept: returns a message for taskiq's receiver; None if it is a dead letter now.
    """

    def __init__(
        self,
        connection: Connection,
        queue_name: str,
        client: Client,
        promoter: Promoter,
        block: float,
        accept: Callable[[bytes], Message | None],
    ) -> None:
        self._connection = connection
        self._queue_name = queue_name
        self._client = client
        self._promoter = promoter
        self._block = block
        self._accept = accept

    def fetch(self) -> list[Message]:
        """Pop one message (BRPOP); if the caller was cancelled, put it back (RPUSH)."""
        popped = run_shielded(self._pop, self._put_back)
        return [message for _, message in popped]

    def _pop(self) -> list[tuple[bytes, Message]]:
        if isinstance(self._client, RedisCluster):
            initialize(self._client)
        self._promoter.promote(self._client)
        # 0 would block forever.
        block = max(0.01, min(self._block, self._promoter.time_left()))
        if self._promoter.paused:
            sleep(block)
            return []
        popped = self._client.brpop([self._queue_name], timeout=block)
        if not popped:
            return []
        data = as_bytes(popped[1])
        message = self._accept(data)
        return [] if message is None else [(data, message)]

    def _put_back(self, popped: list[tuple[bytes, Message]]) -> None:
        if popped:
            self._connection.call(
                lambda client: client.rpush(self._queue_name, *(data for data, _ in popped)),
                key=self._queue_name,
                repeatable=False,
            )

    def close(self) -> None:
        """Close the client."""
        disconnect(self._client)


class ListBroker(QueueBroker):
    """A broker that keeps its queue in a list, without acknowledgements.

    A message is lost when its worker dies.

    Args:
        server: address and connection options of Redis.
        options: see `StoredQueueOptions`.
        task_id_generator: returns the ID of a new task.
        result_backend: where results are stored.
    """

    def __init__(
        self,
        server: Server,
        options: StoredQueueOptions,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
    ) -> None:
        super().__init__(server, options, task_id_generator, result_backend)
        self._dead_letters = DeadLetterStore(
            self._connection,
            self._letter_limits,
            "LPUSH",
            self._read_task,
            lambda: self.result_backend,
            self._tracking,
        )

    def _outcome_of_unknown_tasks(self) -> str:
        # An overridden `listen` gets bytes, which can't be put back: it may have changed them.
        if self._is_listen_overridden:
            return BaseBroker._outcome_of_unknown_tasks(self)
        return super()._outcome_of_unknown_tasks()

    @property
    def _is_listen_overridden(self) -> bool:
        return type(self).listen is not BaseBroker.listen

    def _add_command(self) -> tuple[str | int, ...]:
        return ("LPUSH",)

    def _purge_waiting(self, queue_name: str) -> int:
        return purge_key(self._connection, queue_name, "LLEN")

    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return the state of a queue (EVALSHA).

        Args:
            queue_name: the queue. Default this broker's.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it, because of the type of a key or an ACL.
        """
        return list_stats(self._connection, queue_name or self.queue_name)

    def waiting(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> Generator[QueuedTask, None, None]:
        """Iterate over the messages in the list, the oldest first (LRANGE).

        They are read page by page, by their positions. So if workers fetch messages meanwhile,
        others may be left out, or occur twice.

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
            waiting_in_list, self._connection, name, partial(self._open_message, name)
        )
        return tasks(read_page, 0, task_name, limit)

    def _open_reader(self) -> Reader[Message]:
        """Make the reader of the list (BRPOP)."""
        block = self._connection.block_time(POP_WAIT)
        client = self._connection.make_client(block)
        name = self.queue_name
        promoter = Promoter(self._connection, name, self._add_command, self._tracking)
        # A subclass that overrides `listen` may need bytes, as it got from 1.2.4.
        accept = self._accept_bytes if self._is_listen_overridden else self._accept_message
        return ListReader(self._connection, name, client, promoter, block, accept)

    def _accept_bytes(self, data: bytes) -> bytes | None:
        """Return a message without its signature; None if that isn't valid."""
        try:
            return self._verify_value("message", self.queue_name, data)
        except SignatureError as error:
            self._add_dead_letter(data, error.problem)
            return None

    def _accept_message(self, data: bytes) -> Message | None:
        """Return a message, without its signature, for taskiq's receiver.

        In a worker, the receiver acknowledges every message, also one that it can't parse; see
        `_finish`.
        """
        payload = self._accept_bytes(data)
        if payload is None or not self.is_worker_process:
            return payload
        finish = partial(self._finish, data, payload)
        if not self.keep_failed:
            return AckableMessage(data=payload, ack=finish)
        letter = NewDeadLetter(self.queue_name, data)
        keep = partial(self._dead_letters.keep_failed, letter, NO_ORIGIN)
        finish = partial(self._finish_run, finish, keep)
        return WorkerMessage(payload, finish, PoppedDelivery(keep))

    def _finish_run(self, finish: Callable[[], None], keep: Callable[[Failure], None]) -> None:
        """Add a dead letter if a task has failed, and `begin_run` was not called before.

        Then other code than taskiq's receiver has read the message.
        """
        finish()
        run = current_run()
        if run is None or run.keep is not None:
            return
        run.keep, failure = keep, run.failure()
        if failure is not None:
            keep(failure)
            run.forget()

    def _finish(self, data: bytes, payload: bytes) -> None:
        """Add a dead letter if taskiq's receiver can't parse a message.

        If this worker doesn't know its task, put it back for other workers.

        Args:
            data: the message as it was sent.
            payload: the same without its signature.
        """
        if is_task_unknown.get() and (task := self._pop_unknown_task(payload)) is not None:
            self._refuse(data, task)
            return
        # The receiver calls this while it handles the exception.
        if sys.exc_info()[0] is None or is_task_calling():
            return
        problem = self._problem_of(payload)
        if problem is not None:
            self._add_dead_letter(data, f"it can't be parsed ({problem})")

    def _refuse(self, data: bytes, task: TaskiqMessage) -> None:
        """Put back a message whose task is unknown here, or add it to the dead letters."""
        name, timeout = self.queue_name, self.unknown_task_timeout
        producer = self._producer.get()
        if put_back(self._connection, producer, name, data, task, timeout):
            return
        error = UndeclaredTaskError(queue_name=name, task_name=task.task_name, timeout=timeout)
        self._dead_letters.store_error(task, error)
        self._add_dead_letter(data, why_unknown(task.task_name, timeout, name), describe_task(task))

    def _add_dead_letter(self, data: bytes, reason: str, what: str | None = None) -> None:
        """Add a message that is not run to the dead letters.

        Args:
            data: the message as it was sent.
            reason: why it is not run.
            what: a description of it, for log messages. Default its length.
        """
        fields = dead_letter_fields(reason)
        if self._dead_letters.add_message(NewDeadLetter(self.queue_name, data), fields):
            log_dead_letter(self.queue_name, what or f"a message of {len(data)} bytes", reason)


class PoppedDelivery(Delivery):
    """One delivery of a message that is no longer in Redis, to taskiq's receiver.

    Args:
        keep: adds the dead letter if its task fails.
    """

    __slots__ = ("_keep",)

    def __init__(self, keep: Callable[[Failure], None]) -> None:
        super().__init__()
        self._keep = keep

    def received(self) -> None:
        """Begin the run of the task."""
        begin_run(self._keep)


class SyncListQueueBroker(ListBroker, BaseRedisBroker):
    """Keeps the queue in a list on one Redis server, without acknowledgements.

    Args:
        url: address of the server, such as ``redis://localhost:6379/0``.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        result_backend: stores results, as for `with_result_backend`. Default none.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections for commands. Default 50.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's BlockingConnectionPool.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        task_id_generator: Callable[[], str] | None = None,
        result_backend: SyncResultBackend[T] | None = None,
        queue_name: str = "taskiq",
        max_connection_pool_size: int | None = None,
        kick_timeout: float = 10,
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SingleNode(url, max_connection_pool_size, connection_kwargs),
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
                unknown_task_timeout=unknown_task_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
            task_id_generator,
            result_backend,
        )


class SyncListQueueClusterBroker(ListBroker, BaseRedisClusterBroker):
    """Keeps the queue in a list on a Redis Cluster, without acknowledgements.

    Args:
        url: address of any node, such as ``redis://localhost:7000``.
        queue_name: key of the list. Default ``taskiq``.
        max_connection_pool_size: maximum number of connections per node. Default unlimited, but at
            most 50 commands are executed at a time.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: options of redis-py's RedisCluster.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        url: str,
        queue_name: str = "taskiq",
        max_connection_pool_size: int = 2**31,
        kick_timeout: float = 10,
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            Cluster(url, max_connection_pool_size, connection_kwargs),
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
                unknown_task_timeout=unknown_task_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
        )


class SyncListQueueSentinelBroker(ListBroker, BaseSentinelBroker):
    """Keeps the queue in a list on a master that sentinels monitor, without acknowledgements.

    Args:
        sentinels: ``(host, port)`` of each sentinel.
        master_name: name of the master in the sentinels' configuration.
        result_backend: stores results, as for `with_result_backend`. Default none.
        task_id_generator: returns the IDs of tasks, as for `with_id_generator`. Default taskiq's.
        queue_name: key of the list. Default ``taskiq``.
        min_other_sentinels: sentinels that see fewer other sentinels are ignored. Default 0.
        sentinel_kwargs: connection options for the sentinels.
        kick_timeout: s; how long sending is retried while Redis can't be reached. Default 10.
        keep_failed: whether a task that fails for good becomes a dead letter, with its error and
            traceback. Default False.
        max_dead_letters: maximum number of dead letters; the oldest are deleted. Default no limit.
        dead_letter_ttl: s; older dead letters are deleted when another one is added. Default none
            are.
        unknown_task_timeout: s; a message whose task no worker has known for so long becomes a dead
            letter. Default 60.
        track_tasks: whether tasks are recorded, for `status`; alike on all brokers of the queue.
            Default False.
        track_ttl: s; how long such a record is kept. Default 86,400.
        connection_kwargs: connection options for the master.

    Raises:
        InvalidOptionError: an option is invalid.
    """

    def __init__(
        self,
        sentinels: list[tuple[str, int]],
        master_name: str,
        result_backend: SyncResultBackend[T] | None = None,
        task_id_generator: Callable[[], str] | None = None,
        queue_name: str = "taskiq",
        min_other_sentinels: int = 0,
        sentinel_kwargs: Any | None = None,
        kick_timeout: float = 10,
        keep_failed: bool = False,
        max_dead_letters: int | None = None,
        dead_letter_ttl: float | None = None,
        unknown_task_timeout: float = 60,
        track_tasks: bool = False,
        track_ttl: float = 86_400,
        **connection_kwargs: Any,
    ) -> None:
        super().__init__(
            SentinelMaster(
                sentinels,
                master_name,
                min_other_sentinels,
                sentinel_kwargs,
                connection_kwargs=connection_kwargs,
            ),
            StoredQueueOptions(
                queue_name=queue_name,
                kick_timeout=kick_timeout,
                keep_failed=keep_failed,
                max_dead_letters=max_dead_letters,
                dead_letter_ttl=dead_letter_ttl,
                unknown_task_timeout=unknown_task_timeout,
                track_tasks=track_tasks,
                track_ttl=track_ttl,
            ),
            task_id_generator,
            result_backend,
        )
