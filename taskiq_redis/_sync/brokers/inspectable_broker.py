# Generated from taskiq_redis/_async/brokers/inspectable_broker.py by scripts/unasync.py; edit that.

"""Streams that can be looked at: `stats()`, and iterators over messages."""

from collections.abc import Generator
from functools import partial

from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.queued_task import QueuedTask
from taskiq_redis._sync.brokers.queue_broker import QueueBroker
from taskiq_redis._sync.brokers.queue_contents import (
    pending_in_stream,
    stream_stats,
    tasks,
    waiting_in_stream,
)


class InspectableStreamBroker(QueueBroker):
    """A broker whose messages are in a stream, where you can look at them."""

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
