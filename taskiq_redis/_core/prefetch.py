"""How many messages a worker fetches at a time."""

import sys
import time

#: s; a batch that is handed over within this time counts as prompt
PROMPT_HANDOVER = 0.05
#: a batch may grow to a fraction 1 / GROWTH of the messages that were handed over promptly
GROWTH = 4


class PrefetchSize:
    """The size of a worker's next batch: it grows while batches are handed over promptly.

    A worker then fetches no more than it can start, and leaves other messages to other workers.

    Args:
        limit: maximum size; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = sys.maxsize if limit is None else limit
        self._handed_over = 0
        self._fetched = 0
        self._fetched_at = 0.0

    @property
    def size(self) -> int:
        """How many messages to fetch now."""
        return min(self._limit, max(1, self._handed_over_promptly() // GROWTH))

    def record(self, requested: int, fetched: int) -> None:
        """Record a fetched batch.

        Args:
            requested: number of messages that were requested.
            fetched: number of messages that were received. If it is less, the queue is empty, and
                the size falls back to one.
        """
        full = fetched >= requested
        self._handed_over = self._handed_over_promptly() if full else 0
        self._fetched, self._fetched_at = (fetched if full else 0), time.monotonic()

    def _handed_over_promptly(self) -> int:
        """Return the number of messages that were handed over promptly, up to now.

        If the last batch took longer, the result lets the next one have as many messages as would
        have been handed over in time.
        """
        took = time.monotonic() - self._fetched_at
        handed_over = self._handed_over + self._fetched
        if took <= PROMPT_HANDOVER:
            return handed_over
        return min(handed_over, GROWTH * int(self._fetched * PROMPT_HANDOVER / took))
