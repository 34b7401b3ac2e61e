"""How many messages a worker fetches at a time."""

import sys
import time

#: s; a batch that is handed over in less time holds no work that another worker could have done
AT_ONCE = 0.05
#: a batch has this part of the messages that were handed over at once before it
GROWTH = 4


class PrefetchSize:
    """One message, or as many as are handed over at once.

    So a worker takes what it can start, and the rest is left to the others.

    Args:
        most: the largest batch; None for no limit.
    """

    def __init__(self, most: int | None) -> None:
        self._most = sys.maxsize if most is None else most
        self._handed_over = 0
        self._fetched = 0
        self._fetched_at = 0.0

    @property
    def size(self) -> int:
        """How many messages to fetch now."""
        return min(self._most, max(1, self._started() // GROWTH))

    def record(self, asked: int, fetched: int) -> None:
        """Take note of a batch, when it has come.

        Args:
            asked: how many messages were asked for.
            fetched: how many there were. If less, nothing is waiting, and the next ones are for
                everybody.
        """
        full = fetched >= asked
        self._handed_over = self._started() if full else 0
        self._fetched, self._fetched_at = (fetched if full else 0), time.monotonic()

    def _started(self) -> int:
        """Return how many were handed over at once, up to now.

        Where the last batch took longer than that, the next may have as many as would not have.
        """
        took = time.monotonic() - self._fetched_at
        started = self._handed_over + self._fetched
        if took <= AT_ONCE:
            return started
        return min(started, GROWTH * int(self._fetched * AT_ONCE / took))
