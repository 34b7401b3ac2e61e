"""Messages of unknown tasks: when a worker claims them again, and what becomes of them."""

import time

from taskiq_redis._core.texts import quote

#: default of `queue_name`, which other projects may use as well
DEFAULT_QUEUE = "taskiq"
#: ms; idle time that an entry gets when a worker first refuses it. It is longer than entries wait,
#: so that the idle time also says how long ago that was.
REFUSED_IDLE = 100_000_000_000
#: s; how long a worker claims no refused entry, after it has refused some
PAUSE = 1.5
#: maximum number of entries that a worker refuses between two pauses
LIMIT = 200
#: the ID before all IDs of entries
FIRST_ID = "0-0"


class RefusedClaims:
    """Decides when one worker claims the refused entries of a stream again: in rounds with pauses.

    Another worker may know their tasks, or this one may know some of them. So a worker claims them
    in the order of their IDs, each once per round. A round in which it refused any is followed by a
    pause, or several workers that don't know a task would pass it to and fro without end.
    """

    def __init__(self) -> None:
        self._after = FIRST_ID
        #: number of entries refused since the last pause
        self._refused = 0
        #: by the monotonic clock
        self._paused_until = 0.0

    def next_claim(self) -> tuple[int, str]:
        """Return the maximum number of refused entries to claim, and the ID after which."""
        limit = 0 if self._is_paused else max(0, LIMIT - self._refused)
        return limit, self._after

    @property
    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def record_refusal(self, entry_id: str) -> None:
        """Record that this worker has refused an entry."""
        if self._is_paused:
            return
        self._refused += 1
        self._after = max(self._after, entry_id, key=_order_of)
        if self._refused >= LIMIT:
            self._pause()

    def record_end(self) -> None:
        """Record that a scan has reached the last entry, so that the next round begins."""
        if self._is_paused:
            return
        self._after = FIRST_ID
        if self._refused:
            self._pause()

    def _pause(self) -> None:
        self._refused = 0
        self._paused_until = time.monotonic() + PAUSE


def _order_of(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def describe_outcome(timeout: float) -> str:
    """Return what becomes of the messages of unknown tasks, for log messages.

    Args:
        timeout: s; how long other workers may take them.
    """
    return (
        "its messages go back to the queue for other workers, and become dead letters if none "
        f"knows it for {timeout:g} s"
    )


def why_unknown(task_name: str, timeout: float, queue_name: str) -> str:
    """Return the reason of a dead letter, which completes "it is not run, because".

    Args:
        task_name: name of the task.
        timeout: s; how long no worker knew it.
        queue_name: its queue.
    """
    note = ""
    if queue_name == DEFAULT_QUEUE:
        note = f"; {DEFAULT_QUEUE!r} is the default name of a queue, which another project may use"
    return f"no worker knew the task {quote(task_name)} for {timeout:g} s{note}"
