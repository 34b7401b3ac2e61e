"""Brokers whose queues have dead letters: how these are listed, requeued and purged."""

from collections.abc import Callable
from typing import TypeVar

from taskiq import TaskiqMessage
from taskiq.abc.result_backend import AsyncResultBackend

from taskiq_redis._async.brokers.dead_letter_store import DeadLetterStore
from taskiq_redis._async.brokers.producer import QueueBroker
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.checks import check_name
from taskiq_redis._core.dead_letters import DATA_FIELD, DeadLetterLimits
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.texts import describe_error
from taskiq_redis._core.unknown_tasks import describe_outcome
from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._taskiq.failed_tasks import notice_failed_tasks
from taskiq_redis.exceptions import InvalidOptionError

T = TypeVar("T")


class DeadLetterBroker(QueueBroker):
    """A broker whose queues have dead letters, in a stream beside each queue.

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

    def _letter_limits(self) -> DeadLetterLimits:
        return DeadLetterLimits(self.max_dead_letters, self.dead_letter_ttl)

    async def startup(self) -> None:
        """Run taskiq's startup hooks, and connect; a worker begins to notice tasks that fail.

        Raises:
            CommandRefusedError: Redis refuses this user or password.
        """
        await super().startup()
        if self.is_worker_process and self.keep_failed:
            # After the hooks, which may add middlewares that retry tasks.
            notice_failed_tasks(self)

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
            data = self._unseal("message", entry.stream, entry.fields.get(DATA_FIELD, b""))
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
