# Generated from taskiq_redis/_async/schedules/base.py by scripts/unasync.py; edit that.

"""The base class of all schedule sources."""

import logging
from abc import abstractmethod
from collections.abc import Sequence

from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.addresses import Server
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.wire import PlainPickleSerializer, decode_schedule
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis.exceptions import ScheduleDecodeError

logger = logging.getLogger("taskiq_redis")

#: a reply of GET or MGET; None for no value, or no string
Raw = bytes | str | None


class BaseScheduleSource(SyncScheduleSource):
    """A schedule source on Redis.

    Args:
        server: address and connection options of Redis.
        options: see `ScheduleOptions`.
    """

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        self._connection = Connection(server)
        self.prefix: str = options.prefix
        self.serializer: TaskiqSerializer = options.serializer or PlainPickleSerializer()
        self.buffer_size: int = options.buffer_size
        self.skip_past_schedules: bool = options.skip_past_schedules
        #: IDs of one-off schedules that were sent since the last read
        self._sent: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix {self.prefix!r} on {self._connection.server}>"

    def startup(self) -> None:
        """Connect, to report errors early; calling it is optional.

        Raises:
            CommandRefusedError: Redis refuses this user or password.
        """
        super().startup()
        self._connection.check()

    def shutdown(self) -> None:
        """Close the connections; using the source again opens new ones."""
        self._connection.close()
        super().shutdown()

    @abstractmethod
    def get_all_schedules(self) -> list[ScheduledTask]:
        """Read all schedules, regardless of their due times."""

    def post_send(self, task: ScheduledTask) -> None:
        """Delete a one-off schedule that was sent, unless it was replaced meanwhile.

        Args:
            task: the schedule that was sent.
        """
        if task.time is not None:
            self._delete_sent(task)
            self._sent.add(task.schedule_id)

    @abstractmethod
    def _delete_sent(self, sent: ScheduledTask) -> None:
        """Delete a one-off schedule, unless its ID belongs to another schedule now."""

    def _without_sent(self, schedules: list[ScheduledTask]) -> list[ScheduledTask]:
        """Leave out one-off schedules with an ID that was sent since the last read.

        A task may add a new schedule with its own ID. taskiq's scheduler doesn't send an ID again
        before a read without it.
        """
        sent, self._sent = self._sent, set()
        return [task for task in schedules if task.time is None or task.schedule_id not in sent]

    def _read(self, keys: Sequence[str]) -> dict[str, ScheduledTask]:
        """Read schedules by their keys, and leave out missing and unreadable ones."""
        schedules: dict[str, ScheduledTask] = {}
        for start in range(0, len(keys), self.buffer_size):
            chunk = keys[start : start + self.buffer_size]
            for key, raw in zip(chunk, self._get(chunk), strict=True):
                schedule = None if raw is None else self._decode(key, raw)
                if schedule is not None:
                    schedules[key] = schedule
        return schedules

    def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values (MGET)."""
        values: list[Raw] = self._connection.call(lambda client: client.mget(list(keys)), key=keys)
        return values

    def _decode(self, key: str, raw: bytes | str) -> ScheduledTask | None:
        try:
            return decode_schedule(self.serializer, key, raw)
        except ScheduleDecodeError:
            # Raising it would keep all other schedules from being sent.
            logger.exception("An unreadable schedule is skipped.")
            return None
