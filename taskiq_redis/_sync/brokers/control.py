# Generated from taskiq_redis/_async/brokers/control.py by scripts/unasync.py; edit that.

"""Pause and resume queues, purge them, and cancel delayed tasks."""

from abc import abstractmethod
from collections.abc import Generator
from functools import partial
from typing import Any

from taskiq_redis._core import lua
from taskiq_redis._core.checks import check_name
from taskiq_redis._core.delayed_search import id_pattern, page_size, writes_plainly
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key, paused_key
from taskiq_redis._core.wire import as_bytes, as_str
from taskiq_redis._sync.brokers.base import BaseBroker
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._sync.brokers.task_records import WorkerTracking
from taskiq_redis._sync.connection import Connection

PAUSE = lua.load("pause")
PURGE_KEY = lua.load("purge_key")
PURGE_WAITING = lua.load("group_progress", "task_records", "purge_waiting")

#: maximum number of entries per script, which blocks the server while it runs
PURGE_LIMIT = 300
#: bytes; maximum length of the entries per script, about
PURGE_BYTES = 500_000
#: number of delayed messages from which the length of all is estimated
SAMPLE = 5


class ControlledBroker(BaseBroker):
    """A broker whose queue can be paused and purged, and whose delayed tasks can be cancelled."""

    def pause(self, queue_name: str | None = None) -> bool:
        """Pause a queue, and return whether it was running before (EVALSHA of EXISTS, DEL, SET).

        Its workers stop fetching messages within about a second, and don't take over those of other
        workers. Tasks that they have fetched before run to their end. Sending goes on, and delayed
        messages still move to the queue when they are due. A worker that is started meanwhile
        fetches nothing. The pause lasts until `resume`.

        Workers on taskiq-redis 1.2.4, and workers that may not run scripts, ignore it.

        Args:
            queue_name: the queue; each of a worker's `additional_streams` is one, too. Default this
                broker's.

        Raises:
            InvalidOptionError: `queue_name` is not valid as the name of a queue.
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        key = paused_key(self._chosen_queue(queue_name))
        return bool(self._connection.run_script(PAUSE, [key], []))

    def resume(self, queue_name: str | None = None) -> bool:
        """Resume a paused queue, and return whether it was paused (DEL).

        Its workers fetch messages again within about a second.

        Args:
            queue_name: the queue. Default this broker's.

        Raises:
            InvalidOptionError: `queue_name` is not valid as the name of a queue.
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        key = paused_key(self._chosen_queue(queue_name))
        return bool(self._connection.call(lambda client: client.delete(key), key=key))

    def purge_queue(
        self, queue_name: str | None = None, *, waiting: bool = True, delayed: bool = True
    ) -> int:
        """Delete the messages of a queue that no worker holds, and return their number.

        Messages that are sent after the purge has begun stay. In a stream, so do messages that a
        worker of any group has fetched, also if their tasks don't run yet, and those that a dead
        worker holds. Dead letters stay, and waiters for results are not notified.

        This runs EVALSHA: of ZCARD and UNLINK for delayed messages; for a list of LLEN and UNLINK;
        for a stream of XINFO, XPENDING, XRANGE, XACK and XDEL, for a bounded number of messages at
        a time.

        Args:
            queue_name: the queue. Default this broker's.
            waiting: whether to delete messages that workers can fetch, including those that were
                handed back. Default True.
            delayed: whether to delete delayed messages that are not due. Default True.

        Raises:
            InvalidOptionError: `queue_name` is not valid as the name of a queue.
            ServerUnavailableError: Redis can't be reached; some messages may have been deleted.
            CommandRefusedError: Redis refuses it.
        """
        queue, number = self._chosen_queue(queue_name), 0
        # First, since a delayed message may become a waiting one, but not the reverse.
        if delayed:
            number += purge_key(self._connection, delayed_key(queue), "ZCARD")
        if waiting:
            number += self._purge_waiting(queue)
        return number

    @abstractmethod
    def _purge_waiting(self, queue_name: str) -> int:
        """Delete the messages that workers can fetch, and return their number."""

    def cancel_delayed(self, task_id: str, queue_name: str | None = None) -> bool:
        """Cancel a delayed task: delete its message, and return whether that was done.

        It returns False if there is no such message: the task was moved to its queue, because it
        was due, or it was never delayed. If its message was sent with another formatter,
        serializer or key of a `Signer` than this broker has, it isn't recognized. Waiters for its
        result are not notified.

        The search takes a fraction of a second for a hundred thousand delayed messages; longer if
        the formatter or serializer isn't taskiq's, since every message is parsed then
        (ZRANGE, ZSCAN, ZREM).

        Args:
            task_id: ID of the task. If several delayed messages have it, all are deleted.
            queue_name: its queue. Default this broker's.

        Raises:
            InvalidOptionError: `queue_name` or `task_id` is not valid.
            ServerUnavailableError: Redis can't be reached.
            CommandRefusedError: Redis refuses it.
        """
        queue = self._chosen_queue(queue_name)
        check_name("task_id", task_id)
        cancelled = self._cancel(queue, task_id, id_pattern(task_id))
        if not cancelled and not writes_plainly(self.formatter, task_id):
            cancelled = self._cancel(queue, task_id, None)
        return cancelled > 0

    def _cancel(self, queue: str, task_id: str, pattern: str | None) -> int:
        """Delete the delayed messages of a task, and return their number.

        Args:
            queue: its queue.
            task_id: its ID.
            pattern: only messages that match it are parsed; None for all.
        """
        key, number = delayed_key(queue), 0
        for members in _scan(self._connection, key, pattern):
            found = [
                each for each in members if self._task_id_of(queue, each[UNIQUE_BYTES:]) == task_id
            ]
            if found:
                number += self._connection.call(
                    lambda client: client.zrem(key, *found),  # noqa: B023 - called at once
                    key=key,
                )
        return number

    def _task_id_of(self, queue: str, data: bytes) -> str | None:
        """Return the ID of the task in a message, or None if its bytes are not a valid one."""
        try:
            return self.formatter.loads(self._verify_value("message", queue, data)).task_id
        except Exception:  # noqa: BLE001 - a formatter may raise anything
            return None

    def _chosen_queue(self, queue_name: str | None) -> str:
        if queue_name is None:
            return self.queue_name
        self._check_queue("queue_name", queue_name)
        return queue_name


def purge_key(connection: Connection, key: str, count: str) -> int:
    """Delete a list or sorted set, and return the number of its elements (EVALSHA).

    Args:
        connection: where it is.
        key: its Redis key.
        count: the command that returns the number.
    """
    number: int = connection.run_script(PURGE_KEY, [key], [count])
    return number


def purge_stream(connection: Connection, stream: str, tracking: WorkerTracking) -> int:
    """Delete the waiting entries of a stream, and return their number (EVALSHA).

    Args:
        connection: where it is.
        stream: its Redis key.
        tracking: whether their tasks are recorded.
    """
    number, last = _purge_entries(connection, stream, tracking, "", "")
    if last:
        groups: Any = connection.call(lambda client: client.xinfo_groups(stream), key=stream)
        for group in groups:
            # Entries that were handed back have been received by the group.
            name = as_str(group["name"])
            purged, _ = _purge_entries(connection, stream, tracking, name, last)
            number += purged
    return number


def _purge_entries(
    connection: Connection, stream: str, tracking: WorkerTracking, group: str, last: str
) -> tuple[int, str]:
    """Delete waiting entries; return their number, and the ID of the last one; '' if none exists.

    Args:
        connection: where the stream is.
        stream: its Redis key.
        tracking: whether their tasks are recorded.
        group: '' for entries that a group has not received; or the group for which they were
            handed back.
        last: ID of the last entry to delete; '' for the newest one.
    """
    number, after = 0, ""
    while True:
        args: list[str | bytes | int] = [
            HANDED_BACK,
            group,
            after,
            last,
            PURGE_LIMIT,
            PURGE_BYTES,
        ]
        run = partial(connection.run_script, PURGE_WAITING, args=args)
        reply: Any = tracking.run(run, [stream], stream)
        purged, after, last = reply[0], as_str(reply[1]), as_str(reply[2])
        number += purged
        if not after:
            return number, last


def _scan(
    connection: Connection, key: str, pattern: str | None
) -> Generator[list[bytes], None, None]:
    """Yield the members of a sorted set in pages (ZRANGE, ZSCAN).

    Args:
        connection: where it is.
        key: its Redis key.
        pattern: what they match; None for all.
    """
    rows: Any = connection.call(lambda client: client.zrange(key, 0, SAMPLE - 1), key=key)
    if not rows:
        return
    size = page_size([as_bytes(row) for row in rows])
    cursor = 0
    while True:
        reply: Any = connection.call(
            lambda client: client.zscan(key, cursor, match=pattern, count=size),  # noqa: B023 - called at once
            key=key,
        )
        cursor, pairs = int(reply[0]), reply[1]
        if pairs:
            yield [as_bytes(member) for member, _ in pairs]
        if cursor == 0:
            return
