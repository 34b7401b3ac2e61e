# Generated from taskiq_redis/_async/brokers/task_status.py by scripts/unasync.py; edit that.

"""Read the status of a tracked task from its record."""

import json
from collections.abc import Callable
from typing import Any

from taskiq_redis._core import lua
from taskiq_redis._core.keys import delayed_key, tasks_key
from taskiq_redis._core.task_status import (
    SENT,
    TaskState,
    TaskStatus,
    read_task_status,
    task_digest,
    time_of,
)
from taskiq_redis._core.wire import as_bytes, as_str
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._sync.connection import Connection

#: returns the ID of the task in a message; None if it can't be read
ReadId = Callable[[bytes], str | None]

TASK_STATUS = lua.load("group_progress", "task_records", "task_status")
FIND_IN_LIST = lua.load("find_in_list")

#: maximum number of messages per script that looks for one in a list, and of their bytes, about: it
#: blocks the server
FIND_CHUNK, FIND_BYTES = 500, 500_000


def recorded_status(
    connection: Connection,
    queue_name: str,
    group: str,
    task_id: str,
    from_backend: TaskStatus,
    read_id: ReadId,
) -> TaskStatus | None:
    """Return the status of a tracked task (EVALSHA).

    Args:
        connection: where the queue is.
        queue_name: Redis key of the queue.
        group: group of the workers; "" for a list.
        task_id: ID of the task.
        from_backend: what the result backend knows about the task.
        read_id: returns the ID of the task in a message.

    Returns:
        The status; None for a task that is not in its list any more and has no result.
    """
    keys = [queue_name, tasks_key(queue_name), delayed_key(queue_name)]
    reply: Any = connection.run_script(
        TASK_STATUS, keys, [task_digest(task_id), group, HANDED_BACK]
    )
    if reply and as_str(reply[0]) == SENT:
        if from_backend.state is not TaskState.UNKNOWN:
            return from_backend
        if _is_in_list(connection, queue_name, task_id, read_id):
            return TaskStatus(TaskState.QUEUED, since=time_of(reply[1]))
        return None
    found = read_task_status(reply)
    is_better = (TaskState.DEAD,) if from_backend.state is TaskState.DONE else tuple(TaskState)[1:]
    return found if found.state in is_better else from_backend


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
