# Generated from taskiq_redis/_async/brokers/inspectable_broker.py by scripts/unasync.py; edit that.

"""Brokers whose queues can be looked at: `stats()`, and iterators over messages."""

from abc import abstractmethod
from collections.abc import Generator
from functools import partial
from typing import NoReturn

from taskiq_redis._core.dead_letters import DeadLetter
from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.queued_task import Load, QueuedTask
from taskiq_redis._sync.brokers.base import BaseBroker
from taskiq_redis._sync.brokers.queue_contents import (
    dead_letters_of_queue,
    delayed_of_queue,
    pending_in_stream,
    stream_stats,
    tasks,
    waiting_in_stream,
)
from taskiq_redis.exceptions import SignatureError


class InspectableBroker(BaseBroker):
    """A broker whose messages stay in Redis, where you can look at them."""

    @abstractmethod
    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return the state of a queue."""

    @abstractmethod
    def waiting(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> Generator[QueuedTask, None, None]:
        """Iterate over the messages that no worker holds."""

    def delayed(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> Generator[QueuedTask, None, None]:
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
    ) -> Generator[DeadLetter, None, None]:
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
            data = self._unseal("message", queue_name, data)
        except SignatureError as error:
            # A formatter may not be safe for bytes that don't come from a trusted sender.
            return data, partial(_raise, error)
        return data, partial(self.formatter.loads, data)


class InspectableStreamBroker(InspectableBroker):
    """A broker whose messages are in a stream, until the workers of a group acknowledge them."""

    consumer_group_name: str

    def stats(self, queue_name: str | None = None) -> QueueStats:
        """Return the state of a queue, with that of its consumer groups and their workers.

        A Lua script counts the messages (EVALSHA), in calls of bounded length. If it takes several
        calls, because both many messages wait and many were delivered that are still in the stream,
        messages that come or go meanwhile may be counted at different moments.

        Args:
            queue_name: the queue. Default this broker's.

        Raises:
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it, because of the type of a key or an ACL.
        """
        name = queue_name or self.queue_name
        return stream_stats(self._connection, name, self.consumer_group_name)

    def waiting(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> Generator[QueuedTask, None, None]:
        """Iterate over the messages that no worker of this broker's consumer group holds.

        First those that were handed back (EVALSHA), then those that were never delivered, the
        oldest first (XINFO GROUPS, XRANGE). If the group doesn't exist, these are all messages.
        They are read page by page. Those that come or go meanwhile may be left out or included.

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
            waiting_in_stream,
            self._connection,
            name,
            self.consumer_group_name,
            partial(self._open_message, name),
        )
        return tasks(read_page, (True, "-"), task_name, limit)

    def running(
        self,
        *,
        queue_name: str | None = None,
        task_name: str | None = None,
        limit: int | None = None,
    ) -> Generator[QueuedTask, None, None]:
        """Iterate over the messages that workers of this broker's consumer group hold (EVALSHA).

        A worker holds what it runs, and what it has fetched to run it next; a dead worker until its
        leases expire. They are read page by page, the oldest first. Those that come or go meanwhile
        may be left out or included.

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
            pending_in_stream,
            self._connection,
            name,
            self.consumer_group_name,
            partial(self._open_message, name),
        )
        return tasks(read_page, "-", task_name, limit)


def _raise(error: SignatureError) -> NoReturn:
    raise error
