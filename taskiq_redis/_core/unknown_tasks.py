"""Messages of unknown tasks: when a worker claims them again, and what becomes of them."""

import time
from collections.abc import Sequence

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
#: the cursor of a new scan, which is also the next one after the last entry
START = "-"


class RefusedClaims:
    """Decides when one worker claims the refused entries of a stream again: in rounds with pauses.

    Another worker may know their tasks, or this one may know some of them. So a worker claims them
    in the order of their IDs, each once per round. A round in which it refused any is followed by a
    pause, or several workers that don't know a task would pass it back and forth without end.

    A round takes part in the scans for other entries, and continues in the next scan if one has
    gone on without it. New messages that the worker refuses meanwhile don't delay it.
    """

    def __init__(self) -> None:
        #: up to this ID, all were claimed in this round
        self._after = FIRST_ID
        #: number of claimed entries that were refused since the last pause
        self._refused = 0
        #: whether this round has begun, or follows the pause
        self._has_begun = False
        #: by the monotonic clock
        self._paused_until = 0.0

    def next_claim(self, cursor: str) -> tuple[int, str]:
        """Return the maximum number of refused entries to claim, and the ID after which.

        Args:
            cursor: where the scan begins.
        """
        limit = max(0, LIMIT - self._refused)
        if self._is_paused or _order_of(cursor) > _order_of(self._after):
            limit = 0
        return limit, self._after

    @property
    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def record_scan(self, limit: int, claimed: Sequence[str], next_cursor: str) -> None:
        """Record a part of a scan; after the last one, the next round begins.

        Args:
            limit: maximum number of refused entries to claim, as `next_claim` returned it.
            claimed: IDs of the refused entries that were claimed, in their order.
            next_cursor: where the next part of the scan begins.
        """
        if len(claimed) >= limit:
            # There may be more of them in this part.
            next_cursor = claimed[-1] if claimed else FIRST_ID
        if next_cursor != START:
            self._after = max(self._after, next_cursor.removeprefix("("), key=_order_of)
            return
        self._after, self._has_begun = FIRST_ID, False
        if self._refused:
            self._pause()

    def record_refusal(self, *, is_new: bool) -> None:
        """Record that this worker has refused an entry.

        Args:
            is_new: whether no worker had refused it before.
        """
        if self._is_paused:
            return
        if is_new:
            # It isn't claimed again at once.
            if not self._has_begun:
                self._pause()
            return
        self._has_begun = True
        self._refused += 1
        if self._refused >= LIMIT:
            self._pause()

    def _pause(self) -> None:
        self._refused, self._has_begun = 0, True
        self._paused_until = time.monotonic() + PAUSE


def _order_of(cursor: str) -> tuple[int, ...]:
    """Return what the position of an ID or a cursor is compared by."""
    return () if cursor == START else tuple(map(int, cursor.removeprefix("(").split("-")))


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
