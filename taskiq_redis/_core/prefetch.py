"""How many messages a worker fetches at a time."""

import sys
import time

#: s; a batch that is handed over within this time counts as prompt, and within one round trip, too
PROMPT_HANDOVER = 0.05
#: s; a longer round trip counts as this one
LONGEST_ROUND_TRIP = 0.5
#: the estimated round trip grows by no more than this factor at a time
ROUND_TRIP_GROWTH = 1.5
#: after this many long round trips in a row, the server counts as distant
SHOW_DISTANCE = 3
#: a batch may grow to a fraction 1 / GROWTH of the messages that were handed over promptly; with a
#: distant server, small batches cost more
GROWTH, DISTANT_GROWTH = 4, 2
#: if the last messages of a distant worker's batch had to wait for room, which takes a round trip:
#: number of batches that are smaller then, by at least 1 / REDUCTION
SMALLER_BATCHES, REDUCTION = 8, 16


class PrefetchSize:
    """The size of a worker's next batch: it grows while batches are handed over promptly.

    A worker then fetches no more than it can start, and leaves other messages to other workers.

    Args:
        limit: maximum size; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = sys.maxsize if limit is None else limit
        #: number of messages that were handed over promptly, before the last batch; and the number
        #: by which the size of the last batch was chosen
        self._handed_over = self._judged = 0
        self._fetched = 0
        #: maximum size of the next batches, and the number of batches that it applies to
        self._ceiling = self._smaller_batches = 0
        self._fetched_at = 0.0
        #: s; estimate that outliers hardly affect: a busy worker reads replies late
        self._round_trip = PROMPT_HANDOVER
        #: number of the last round trips in a row that were long
        self._long_round_trips = 0

    @property
    def is_distant(self) -> bool:
        """Whether round trips are long."""
        return self._long_round_trips >= SHOW_DISTANCE

    @property
    def _growth(self) -> int:
        return DISTANT_GROWTH if self.is_distant else GROWTH

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
        self._long_round_trips = self._long_round_trips + 1 if took > PROMPT_HANDOVER else 0

    def next_size(self) -> int:
        """Return how many messages to fetch; call it right before the fetch.

        The time that the fetch itself takes doesn't count as time for handing over.
        """
        took = time.monotonic() - self._fetched_at
        self._judged = self._handed_over_promptly(took)
        if self.is_distant:
            self._limit_next_batches(took)
        return min(self._limit, max(1, self._judged // self._growth))

    def _limit_next_batches(self, took: float) -> None:
        """Make the next batches smaller if there was not enough room for the last one."""
        self._smaller_batches = max(0, self._smaller_batches - 1)
        if self._fetched > REDUCTION and 1 < took / self._round_trip < 3:
            in_time = int(self._fetched * self._round_trip / took)
            self._ceiling = min(self._fetched - self._fetched // REDUCTION, in_time)
            self._smaller_batches = SMALLER_BATCHES
        if self._smaller_batches > 0:
            self._judged = min(self._judged, self._growth * self._ceiling)

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

    def _handed_over_promptly(self, took: float) -> int:
        """Return the number of messages that were handed over promptly, up to now.

        If the last batch took longer, the result lets the next one have as many messages as would
        have been handed over in time.

        Args:
            took: s; how long handing over the last batch took.
        """
        handed_over = self._handed_over + self._fetched
        if took <= self._prompt:
            return handed_over
        return min(handed_over, self._growth * int(self._fetched * self._prompt / took))
