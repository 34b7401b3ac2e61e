"""Register a scheduler with the sources that it reads, so that `schedulers()` returns it."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskiq_redis._async.connection import Connection
from taskiq_redis._core import lua
from taskiq_redis._core.keys import ScheduleKeys
from taskiq_redis._core.process import describe_process, process_id
from taskiq_redis._core.schedule_polls import PollReply
from taskiq_redis._core.schedulers import (
    SchedulerStats,
    is_scheduler_calling,
    parse_schedulers,
)
from taskiq_redis._core.wire import as_str
from taskiq_redis.exceptions import CommandRefusedError, TaskIQRedisError

logger = logging.getLogger("taskiq_redis")

#: s; shortest time between two registrations
INTERVAL = 5.0
#: s; how often taskiq's scheduler reads a source if `--update-interval` isn't given
UPDATE_INTERVAL = 60.0
#: s; pause after Redis has refused a registration
REFUSED_PAUSE = 60.0
#: arguments of ``poll_schedules.lua`` for no registration
NO_REGISTRATION = ("", 0, 0, "")

REGISTER = lua.load("scheduler_registration", "register_scheduler")
READ = lua.load("read_schedulers")


class SchedulerRegistration:
    """The registration of this process as a scheduler.

    Args:
        connection: connection of the source.
        keys: returns the keys of the source.
        indexed: whether the source is read each second, instead of when taskiq's scheduler asks.
    """

    def __init__(
        self, connection: Connection, keys: Callable[[], ScheduleKeys], indexed: bool
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._indexed = indexed
        self._logged = False
        self._process = 0
        self._begin()

    def _begin(self) -> None:
        """Forget what is known about another process."""
        self._process = process_id()
        self._name = uuid.uuid4().hex
        self._is_scheduler = False
        self._is_written = False
        self._started = time.monotonic()
        self._polled: float | None = None
        self._next = 0.0
        self._interval = INTERVAL if self._indexed else UPDATE_INTERVAL

    def record_poll(self) -> None:
        """Record that the schedules are read: whether by taskiq's scheduler, and how often."""
        self._check_process()
        self._is_scheduler = self._is_scheduler or is_scheduler_calling()
        now, last = time.monotonic(), self._polled
        if last is not None and not self._indexed:
            self._interval = max(INTERVAL, now - last)
        self._polled = now

    def record_send(self) -> None:
        """Record that this process sends schedules, and so is a scheduler, even if not taskiq's."""
        self._check_process()
        self._is_scheduler = True

    def _check_process(self) -> None:
        if self._process != process_id():
            self._begin()

    async def write(self) -> None:
        """Register, if it is time to; never raises (EVALSHA)."""
        if not self._is_due():
            return
        key = self._keys().schedulers
        try:
            refusal = await self._connection.run_script(
                REGISTER, [key], self._arguments(), retry_timeout=0
            )
        except CommandRefusedError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            # The next read logs an outage.
            self._connection.outage(error, key)
        else:
            self._record(refusal)

    async def write_with(
        self, poll: Callable[[Sequence[str], Sequence[Any]], Awaitable[PollReply]]
    ) -> PollReply:
        """Read schedules, and register in the same round trip if it is time to.

        Args:
            poll: runs ``poll_schedules.lua``; gets its last key, if any, and the arguments for a
                registration.
        """
        if not self._is_due():
            return await poll([], NO_REGISTRATION)
        try:
            reply = await poll([self._keys().schedulers], self._arguments())
        except CommandRefusedError as error:
            # An ACL may forbid the key.
            reply = await poll([], NO_REGISTRATION)
            self._refuse(error)
        else:
            self._record(reply.refusal)
        return reply

    def _is_due(self) -> bool:
        if self._process != process_id() or not self._is_scheduler:
            return False
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + INTERVAL
        return True

    def _arguments(self) -> list[Any]:
        age = time.monotonic() - self._started
        return [self._name, int(self._interval * 1000), int(age * 1000), describe_process()]

    def _record(self, refusal: bytes | str) -> None:
        if refusal:
            self._refuse(as_str(refusal))
        else:
            self._is_written = True

    def _refuse(self, reason: object) -> None:
        self._next = time.monotonic() + REFUSED_PAUSE
        if not self._logged:
            self._logged = True
            logger.warning(
                "The scheduler isn't registered in %r, so `taskiq-redis ping --scheduler` doesn't "
                "see it. It sends schedules nevertheless, and tries again each minute: %s",
                self._keys().schedulers,
                reason,
            )

    async def remove(self) -> None:
        """Remove the registration; never raises (HDEL)."""
        if self._process != process_id() or not self._is_written:
            return
        self._is_written = False
        key, name = self._keys().schedulers, self._name
        try:
            await self._connection.call(
                lambda client: client.hdel(key, name), key=key, retry_timeout=0
            )
        except TaskIQRedisError as error:
            logger.debug("The registration of the scheduler was left behind: %s", error)

    async def read(self) -> list[SchedulerStats]:
        """Return the registered schedulers (EVALSHA)."""
        now, fields = await self._connection.run_script(READ, [self._keys().schedulers], [])
        return parse_schedulers(int(now), fields)
