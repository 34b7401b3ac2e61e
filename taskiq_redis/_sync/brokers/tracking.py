# Generated from taskiq_redis/_async/brokers/tracking.py by scripts/unasync.py; edit that.

"""What the records of tracked tasks tell about a task."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.keys import delayed_key, tasks_key
from taskiq_redis._core.options import StoredQueueOptions
from taskiq_redis._core.task_status import (
    SENT,
    TaskState,
    TaskStatus,
    read_task_status,
    task_digest,
    time_of,
)
from taskiq_redis._core.wire import as_bytes, as_str
from taskiq_redis._sync.brokers.base import BaseBroker
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._sync.brokers.records import Tracking
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.status import has_results

T = TypeVar("T")
#: returns the ID of the task in a message; None if it can't be read
ReadId = Callable[[bytes], str | None]

TASK_STATUS = lua.load("group_progress", "task_records", "task_status")
FIND_IN_LIST = lua.load("find_in_list")

#: maximum number of messages per script that looks for one in a list, and of their bytes, about, as
#: it blocks the server
FIND_CHUNK, FIND_BYTES = 500, 500_000


def recorded_status(
    connection: Connection,
    queue_name: str,
    group: str,
    task_id: str,
    told: TaskStatus,
    read_id: ReadId,
) -> TaskStatus | None:
    """Return the status of a tracked task (EVALSHA).

    Args:
        connection: where the queue is.
        queue_name: Redis key of the queue.
        group: group of the workers; "" for a list.
        task_id: ID of the task.
        told: what the result backend tells about the task.
        read_id: returns the ID of the task in a message.

    Returns:
        The status; None for a task that is not in its list any more and has no result.
    """
    keys = [queue_name, tasks_key(queue_name), delayed_key(queue_name)]
    reply: Any = connection.run_script(
        TASK_STATUS, keys, [task_digest(task_id), group, HANDED_BACK]
    )
    if reply and as_str(reply[0]) == SENT:
        if told.state is not TaskState.UNKNOWN:
            return told
        if _is_in_list(connection, queue_name, task_id, read_id):
            return TaskStatus(TaskState.QUEUED, since=time_of(reply[1]))
        return None
    found = read_task_status(reply)
    is_better = (TaskState.DEAD,) if told.state is TaskState.DONE else tuple(TaskState)[1:]
    return found if found.state in is_better else told


def _is_in_list(connection: Connection, queue_name: str, task_id: str, read_id: ReadId) -> bool:
    """Return whether a message with a task ID waits in a list (EVALSHA of LRANGE)."""
    # As text, and as JSON writes it.
    texts = dict.fromkeys((task_id.encode(), json.dumps(task_id)[1:-1].encode()))
    # From the end where messages are added: those that are added meanwhile move the others away
    # from it, so none is missed.
    first = 0
    while first >= 0:
        reply: Any = connection.run_script(
            FIND_IN_LIST, [queue_name], [first, FIND_CHUNK, FIND_BYTES, *texts]
        )
        first, found = reply
        # The ID may be part of another one, or of an argument.
        if any(read_id(as_bytes(data)) in (task_id, None) for data in found):
            return True
    return False


class TrackingBroker(BaseBroker):
    """A broker that can record the tasks that it sends.

    Args:
        server: address and connection options of Redis.
        options: the options of the mechanism.
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
        self._tracks: bool = options.track_tasks
        self._track_ttl: float = options.track_ttl
        self._tracking = Tracking(options.track_tasks)

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

    def _task_id_of(self, queue: str, data: bytes) -> str | None:
        """Return the ID of the task in a message, or None if its bytes are not a valid one."""
        try:
            return self.formatter.loads(self._unseal("message", queue, data)).task_id
        except Exception:  # noqa: BLE001 - a formatter may raise anything
            return None

    def status(self, task_id: str, queue_name: str | None = None) -> TaskStatus:
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
        told = super().status(task_id, queue_name)
        if not self._tracks or told.state is TaskState.DEAD:
            return told
        queue_name = queue_name or self.queue_name
        found = recorded_status(
            self._connection,
            queue_name,
            self._tracked_group(),
            task_id,
            told,
            partial(self._task_id_of, queue_name),
        )
        if found is not None:
            return found
        # Its result may have been stored before it was looked for in its list.
        told = super().status(task_id, queue_name)
        if told.state is TaskState.UNKNOWN and has_results(self.result_backend):
            return TaskStatus(TaskState.RUNNING)
        return told
