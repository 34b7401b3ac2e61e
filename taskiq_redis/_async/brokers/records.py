"""Pass the records of tracked tasks to the scripts of a worker."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import NoPermissionError

from taskiq_redis._core.keys import tasks_key
from taskiq_redis.exceptions import CommandRefusedError

logger = logging.getLogger("taskiq_redis")


class Tracking:
    """Whether the scripts of a worker update the records of tasks.

    Args:
        active: whether tasks are tracked.
    """

    def __init__(self, active: bool) -> None:
        self.active = active

    def keys_of(self, queue_name: str) -> list[str]:
        """Return the further keys of a script: those of the records of a queue.

        Args:
            queue_name: the queue.
        """
        return [tasks_key(queue_name)] if self.active else []

    def give_up(self, error: object) -> bool:
        """End the tracking, and return True, if it is on and Redis refuses the rights for it.

        Args:
            error: the error of a script that got the records.
        """
        if not self.active or not isinstance(error, NoPermissionError):
            return False
        self.active = False
        logger.warning(
            "This worker doesn't track tasks, since Redis refuses it: %s. Grant the key %s and "
            "ZADD.",
            error,
            tasks_key("<queue>"),
        )
        return True

    async def run(
        self, run: Callable[[list[str]], Awaitable[Any]], keys: list[str], queue_name: str
    ) -> Any:
        """Run a script with the records of a queue, or without them if that is refused.

        Args:
            run: runs the script with the given KEYS.
            keys: its other keys.
            queue_name: the queue.
        """
        if self.active:
            try:
                return await run([*keys, *self.keys_of(queue_name)])
            except CommandRefusedError as error:
                if not self.give_up(error.__cause__):
                    raise
        return await run(keys)
