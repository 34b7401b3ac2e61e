"""What all schedule sources have in common."""

import logging
from abc import abstractmethod
from collections.abc import Sequence

from taskiq import ScheduleSource
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.connection import Connection
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.wire import PlainPickleSerializer, decode_schedule
from taskiq_redis.exceptions import ScheduleDecodeError

logger = logging.getLogger("taskiq_redis")

#: the bytes of a value, or None where there is none, or none that is a string
Raw = bytes | str | None


class BaseScheduleSource(ScheduleSource):
    """A schedule source on Redis.

    Args:
        server: where Redis is.
        options: see `ScheduleOptions`.
    """

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        self._connection = Connection(server)
        self.prefix: str = options.prefix
        self.serializer: TaskiqSerializer = options.serializer or PlainPickleSerializer()
        self.buffer_size: int = options.buffer_size
        self.skip_past_schedules: bool = options.skip_past_schedules
        #: ids of one-offs that were sent since the last read
        self._sent: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix {self.prefix!r} on {self._connection.server}>"

    async def startup(self) -> None:
        """Connect, to find out early what is wrong; nothing needs it.

        Raises:
            CommandRefusedError: Redis lets nobody in with this password.
        """
        await super().startup()
        await self._connection.check()

    async def shutdown(self) -> None:
        """Close the connections; using the source again opens new ones."""
        await self._connection.close()
        await super().shutdown()

    @abstractmethod
    async def get_all_schedules(self) -> list[ScheduledTask]:
        """Read all schedules, whenever they are due."""

    async def post_send(self, task: ScheduledTask) -> None:
        """Delete a one-off schedule that was sent, unless it was replaced meanwhile.

        Args:
            task: the schedule.
        """
        if task.time is not None:
            await self._delete_sent(task)
            self._sent.add(task.schedule_id)

    @abstractmethod
    async def _delete_sent(self, sent: ScheduledTask) -> None:
        """Delete a one-off, unless its id belongs to another schedule by now."""

    def _without_sent(self, schedules: list[ScheduledTask]) -> list[ScheduledTask]:
        """Leave out one-offs under an id that was sent since the last read.

        A task may plant its own schedule again. taskiq's scheduler doesn't send an id twice before
        it has seen a read without it.
        """
        sent, self._sent = self._sent, set()
        return [task for task in schedules if task.time is None or task.schedule_id not in sent]

    async def _read(self, keys: Sequence[str]) -> dict[str, ScheduledTask]:
        """Read schedules by their keys; what is missing or unreadable is left out."""
        schedules: dict[str, ScheduledTask] = {}
        for start in range(0, len(keys), self.buffer_size):
            part = keys[start : start + self.buffer_size]
            for key, raw in zip(part, await self._get(part), strict=True):
                schedule = None if raw is None else self._decode(key, raw)
                if schedule is not None:
                    schedules[key] = schedule
        return schedules

    async def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values (MGET)."""
        values: list[Raw] = await self._connection.call(
            lambda client: client.mget(list(keys)), key=keys
        )
        return values

    def _decode(self, key: str, raw: bytes | str) -> ScheduledTask | None:
        try:
            return decode_schedule(self.serializer, key, raw)
        except ScheduleDecodeError:
            # The scheduler would lose all the others, if this one ended the call.
            logger.exception("A schedule is skipped.")
            return None
