"""The base class of all schedule sources."""

import logging
from abc import abstractmethod
from hashlib import sha1

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.schedules.claims import DELETE_UNCHANGED, Claims
from taskiq_redis._async.schedules.managed import ManagedSource
from taskiq_redis._async.schedules.schedulers import SchedulerRegistration
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.schedulers import SchedulerStats
from taskiq_redis._core.schedules import due_ms, kind_of

logger = logging.getLogger("taskiq_redis")


class BaseScheduleSource(ManagedSource):
    """A schedule source whose schedules are sent once, by one of several schedulers.

    Args:
        server: address and connection options of Redis.
        options: see `ScheduleOptions`.
    """

    #: whether there is an index of the schedules, in their hash slot
    _indexed: bool

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        super().__init__(server, options)
        self._registration = SchedulerRegistration(
            self._connection, lambda: self._keys, self._indexed
        )
        self._claims = Claims(
            self._connection,
            self._keys,
            self._data_key,
            self._indexed,
            self._stored,
            self._read_last,
        )
        #: what `get_schedules` returned last; None before the first time
        self._last: list[ScheduledTask] | None = None
        #: IDs of one-offs that were sent, or not, since `get_schedules` left them out
        self._ended: set[str] = set()

    async def shutdown(self) -> None:
        """Close the connections; using the source again opens new ones."""
        await self._claims.stop()
        await self._registration.remove()
        await super().shutdown()

    async def schedulers(self) -> list[SchedulerStats]:
        """Return the schedulers that read this source, dead ones included for an hour (EVALSHA).

        A scheduler of taskiq-redis 1.2.4 doesn't register.

        Returns:
            The schedulers, by name. `is_alive` says whether one still reads.

        Raises:
            WrongKeyTypeError: the key of the registrations holds another type.
            ServerUnavailableError: Redis can't be reached.
        """
        return await self._registration.read()

    async def get_schedules(self) -> list[ScheduledTask]:
        """Read the schedules that taskiq's scheduler needs to know now.

        While Redis can't be read, it returns what it returned last. Unreadable schedules are
        logged and left out.

        Raises:
            ServerUnavailableError: Redis can't be reached, and nothing has been read before.
        """
        self._registration.record_poll()
        try:
            schedules = await self._read_due()
        except Exception as error:
            if self._last is None:
                raise
            outage = self._connection.outage(error, *self._keys.patterns)
            logger.warning("The scheduler goes on with the schedules it knows: %s", outage)
            schedules = self._last
        self._last = schedules
        shown = self._without_ended(schedules)
        # taskiq's scheduler doesn't send an ID again before a read without it.
        self._ended = {schedule_id for schedule_id in self._ended if schedule_id in self._claims}
        return shown

    @abstractmethod
    async def _read_due(self) -> list[ScheduledTask]:
        """Read the schedules that taskiq's scheduler needs to know now."""

    def _without_ended(self, schedules: list[ScheduledTask]) -> list[ScheduledTask]:
        """Leave out one-offs with an ID that ended since the last read.

        A task may add a new schedule with its own ID, and one that could not be sent is sent
        again.
        """
        if not self._ended:
            return list(schedules)
        return [
            schedule
            for schedule in schedules
            if kind_of(schedule) != "once" or schedule.schedule_id not in self._ended
        ]

    async def pre_send(self, task: ScheduledTask) -> None:
        """Wait until a schedule is due, and claim it for this scheduler (EVALSHA).

        It waits while another scheduler sends it, while an interval isn't over since the last
        firing, and while Redis can't be reached.

        Args:
            task: the schedule that is to be sent. Its name, arguments and labels become those that
                are stored now.

        Raises:
            ScheduledTaskCancelledError: it was deleted, replaced, paused, or has been sent.
        """
        self._registration.record_send()
        known = self._known(task)
        schedule_id, once = task.schedule_id, kind_of(known) == "once"

        def ended() -> None:
            if once:
                self._ended.add(schedule_id)

        try:
            stored = await self._claims.claim(known, ended)
        except BaseException:
            ended()
            raise
        for field in ("task_name", "labels", "args", "kwargs", "task_id"):
            setattr(task, field, getattr(stored, field))

    def _known(self, task: ScheduledTask) -> ScheduledTask:
        """Return the schedule of that ID as it was read last, if it is of the same kind and time.

        What `get_schedules` returned may lack the exact time.
        """
        known = self._read_last(task.schedule_id)
        if known is None or kind_of(known) != kind_of(task):
            return task
        if due_ms(known) // 1000 != due_ms(task) // 1000:
            return task
        return known

    @abstractmethod
    def _read_last(self, schedule_id: str) -> ScheduledTask | None:
        """Return the schedule that was read last with an ID, or None."""

    async def _stored(
        self, schedule_id: str, raw: bytes | None
    ) -> tuple[bytes, ScheduledTask] | None:
        """Return a schedule and its bytes, which are read if they aren't given."""
        key = self._data_key(schedule_id)
        if raw is None:
            raw = (await self._read_raw([key])).get(key)
        schedule = None if raw is None else self._try_decode(key, schedule_id, raw)
        return None if raw is None or schedule is None else (raw, schedule)

    async def post_send(self, task: ScheduledTask) -> None:
        """Record that a schedule was sent (EVALSHA).

        A one-off is deleted, unless it was replaced meanwhile.

        Args:
            task: the schedule that was sent.

        Raises:
            ServerUnavailableError: Redis can't be reached; the schedule may be sent again.
        """
        claimed = await self._claims.confirm(task.schedule_id)
        if kind_of(task) != "once":
            return
        self._ended.add(task.schedule_id)
        if not claimed:
            await self._delete_if_same(task)

    async def _delete_if_same(self, sent: ScheduledTask) -> None:
        """Delete a one-off that was sent without a claim, unless it was replaced."""
        found = await self._stored(sent.schedule_id, None)
        if found is not None and due_ms(found[1]) == due_ms(self._known(sent)):
            key, digest = self._data_key(sent.schedule_id), sha1(found[0]).hexdigest()  # noqa: S324
            await self._connection.run_script(DELETE_UNCHANGED, [key], [digest])
            await self._forget([sent.schedule_id])
