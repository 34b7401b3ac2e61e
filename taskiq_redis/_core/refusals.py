"""Try scripts that Redis has refused again later."""

import logging
import random
import time

#: s; pause before a refused script is tried again, doubled with each further refusal up to the
#: maximum
MIN_REFUSED_PAUSE, MAX_REFUSED_PAUSE = 5.0, 60.0


class ScriptRefusal:
    """Whether Redis refuses a script, so that plain commands replace it until the next try.

    Args:
        logger: logger for the messages.
        activity: beginning of the message that the script runs again.
    """

    def __init__(self, logger: logging.Logger, activity: str) -> None:
        self._logger = logger
        self._activity = activity
        #: whether the last try was refused
        self.active = False
        self._pause = MIN_REFUSED_PAUSE
        self._retry_at = 0.0

    def may_retry(self) -> bool:
        """Return whether the next try is due; if so, only this caller makes it."""
        due = time.monotonic() >= self._retry_at
        if due:
            self._postpone()
        return due

    def _postpone(self) -> None:
        # With jitter, so that many processes don't try at the same time.
        jitter = random.uniform(0.5, 1)  # noqa: S311 - not for cryptography
        self._retry_at = time.monotonic() + self._pause * jitter
        self._pause = min(2 * self._pause, MAX_REFUSED_PAUSE)

    def record_refusal(self, message: str, *args: object) -> None:
        """Record a refusal, and log it unless the script was refused before, too.

        Args:
            message: format of the message.
            args: its arguments.
        """
        refused_before, self.active = self.active, True
        if not refused_before:
            self._pause = MIN_REFUSED_PAUSE
            self._postpone()
            self._logger.warning(message, *args)

    def record_success(self) -> None:
        """Record that the script ran, and log it if it was refused before."""
        recovered, self.active = self.active, False
        if recovered:
            self._logger.warning("%s: Redis no longer refuses the script.", self._activity)
