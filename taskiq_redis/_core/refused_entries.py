"""Entries that workers refuse, since they don't know the task: when a worker claims them again."""

import time

#: ms; idle time of an entry that was just handed back, long enough for any worker to claim it
HANDED_BACK_IDLE = 10_000_000
#: ms; idle time of an entry that was just refused first. It is longer than an entry waits, so that
#: the idle time also says how long ago that was.
REFUSED_IDLE = 100_000_000_000
#: s; how long a worker claims no refused entry, after it has refused some
PAUSE = 1.5
#: maximum number of entries that a worker refuses between two pauses
LIMIT = 200
#: the ID before all IDs of entries
FIRST_ID = "0-0"


class RefusedWalk:
    """One worker's walk through the refused entries of a stream, in rounds with pauses.

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
