"""The status of a task, and how tracked tasks are recorded."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.wire import as_str

#: length of the digest of a task ID, 60 bits, which records have in its place
DIGEST_LENGTH = 10


class TaskState(str, Enum):
    """What has become of a task."""

    #: nothing is known about it
    UNKNOWN = "UNKNOWN"
    #: it waits for its time
    DELAYED = "DELAYED"
    #: it waits for a worker
    QUEUED = "QUEUED"
    #: a worker holds it
    RUNNING = "RUNNING"
    #: it has run; its result says how it ended
    DONE = "DONE"
    #: it is not run any more, see `dead_letters`
    DEAD = "DEAD"


@dataclass(frozen=True)
class TaskStatus:
    """What `status()` of a task or broker returns. An attribute that isn't known is None.

    Args:
        state: what has become of the task.
        worker: consumer name of the worker that runs it.
        since: when it was queued, when this worker received it, or when it became a dead letter; by
            the server's clock.
        attempt: number of its deliveries to workers, 1 for the first one. A retry of taskiq's
            middlewares is a new message, so that it begins with 1 again.
        due: until when it is delayed, by the server's clock.
    """

    state: TaskState
    worker: str | None = None
    since: datetime | None = None
    attempt: int | None = None
    due: datetime | None = None


UNKNOWN = TaskStatus(TaskState.UNKNOWN)

#: states by the names that `task_status.lua` has for them
_STATES = {
    "delayed": TaskState.DELAYED,
    "queued": TaskState.QUEUED,
    "running": TaskState.RUNNING,
    "done": TaskState.DONE,
    "dead": TaskState.DEAD,
}
#: what `task_status.lua` returns for a task that was sent to a list
SENT = "sent"


def task_digest(task_id: str) -> str:
    """Return the digest of a task ID.

    Args:
        task_id: the ID.
    """
    digest = hashlib.sha256(task_id.encode()).digest()[:DIGEST_LENGTH]
    return base64.urlsafe_b64encode(digest)[:DIGEST_LENGTH].decode()


def make_tracked(data: bytes, task_id: str) -> bytes:
    """Return a delayed message as `make_unique` does, with the digest of its task ID in the prefix.

    Only messages with the same bytes and the same ID differ by nothing but the random part.

    Args:
        data: the message.
        task_id: ID of its task.
    """
    random = secrets.token_urlsafe(UNIQUE_BYTES)[: UNIQUE_BYTES - DIGEST_LENGTH]
    return f"{random}{task_digest(task_id)}".encode() + data


def time_of(milliseconds: bytes | str) -> datetime:
    """Return a time in a reply of `task_status.lua`, in ms of Unix time."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, timezone.utc)


def read_task_status(reply: Sequence[Any]) -> TaskStatus:
    """Return the status in a reply of `task_status.lua`.

    Args:
        reply: the reply.
    """
    state = _STATES.get(as_str(reply[0])) if reply else None
    if state is None:
        return UNKNOWN
    if state is TaskState.DONE:
        return TaskStatus(state)
    time = time_of(reply[1])
    if state is TaskState.DELAYED:
        return TaskStatus(state, due=time)
    if state is TaskState.RUNNING:
        return TaskStatus(state, as_str(reply[2]), time, int(reply[3]))
    return TaskStatus(state, since=time)
