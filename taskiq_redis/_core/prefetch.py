"""How many messages a worker fetches at a time."""

import sys
import time

#: s; a batch that is handed over within this time counts as prompt, and within one round trip, too
PROMPT_HANDOVER = 0.05
#: s; a longer round trip counts as this one
LONGEST_ROUND_TRIP = 0.5
#: the estimated round trip grows by no more than this factor at a time
ROUND_TRIP_GROWTH = 1.5
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
        #: number of messages that were handed over promptly, as of the next-to-last fetch, and as
        #: judged right before the last one
        self._handed_over = self._judged = 0
        self._fetched = 0
        self._fetched_at = 0.0
        #: s; estimate that outliers hardly affect: a busy worker reads replies late
        self._round_trip = PROMPT_HANDOVER

    @property
    def _prompt(self) -> float:
        """How long handing over a batch may take to count as prompt, in s."""
        return max(PROMPT_HANDOVER, self._round_trip)

    def record_round_trip(self, took: float) -> None:
        """Record how long a command took that doesn't block, in s.

        The worker starts more messages during a longer round trip, and fetches as many at a time.
        """
        most = min(LONGEST_ROUND_TRIP, ROUND_TRIP_GROWTH * self._round_trip)
        self._round_trip = min(most, max(took, PROMPT_HANDOVER))

    def next_size(self) -> int:
        """Return how many messages to fetch; call it right before the fetch.

        The time that the fetch itself takes doesn't count as time for handing over.
        """
        self._judged = self._handed_over_promptly()
        return min(self._limit, max(1, self._judged // GROWTH))

    def record(self, requested: int, fetched: int) -> None:
        """Record a fetched batch.

        Args:
            requested: number of messages that were requested.
            fetched: number of messages that were received. If it is less, the queue is empty, and
                the size falls back to one.
        """
        full = fetched >= requested
        self._handed_over = self._judged if full else 0
        self._fetched, self._fetched_at = (fetched if full else 0), time.monotonic()

    def _handed_over_promptly(self) -> int:
        """Return the number of messages that were handed over promptly, up to now.

        If the last batch took longer, the result lets the next one have as many messages as would
        have been handed over in time.
        """
        took = time.monotonic() - self._fetched_at
        handed_over = self._handed_over + self._fetched
        if took <= self._prompt:
            return handed_over
        return min(handed_over, GROWTH * int(self._fetched * self._prompt / took))
