"""Claim schedules before they are sent, so that each firing is sent once by one scheduler."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha1
from typing import Any

from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.connection import Connection
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core import lua
from taskiq_redis._core.keys import ScheduleKeys
from taskiq_redis._core.schedules import (
    Kind,
    aware,
    due_ms,
    interval_ms,
    is_cron_due,
    kind_of,
    minute_ms,
)
from taskiq_redis._core.wire import as_bytes, as_str
from taskiq_redis._runtime.aio import BackgroundTask, Event, Semaphore, on_task_done, sleep
from taskiq_redis.exceptions import ServerUnavailableError

logger = logging.getLogger("taskiq_redis")

#: ms; lease of a claim. When a scheduler dies, another one sends its claimed schedules after this
#: time.
LEASE = 12_000
#: s; interval in which leases are renewed
RENEWAL = 4.0
#: maximum number of schedules between claim and confirmation: as many may be sent twice when a
#: scheduler is killed
IN_FLIGHT = 50
#: ms; how much an interval may be too early, since taskiq's scheduler looks at whole seconds
TOLERANCE = 500
#: s; pause before a claim that another scheduler holds is tried again
BUSY_PAUSE = 0.3
#: s; pause before a claim is tried again when Redis can't be reached
AWAY_PAUSE = 0.5
#: s; an interval that is too early is claimed again after this time, as it may be replaced
LONGEST_PAUSE = 60.0
#: s; pause before checking whether the scheduler has read that it was replaced
REPLACED_PAUSE = 5.0
#: s; how long the confirmation of a firing is tried
CONFIRM_TIMEOUT = 300.0

CLAIM = lua.load("schedule_index", "claim_schedule")
CONFIRM = lua.load("schedule_index", "confirm_firing")
RENEW = lua.load("schedule_index", "renew_claims")
DELETE_UNCHANGED = lua.load("delete_unchanged")


@dataclass(frozen=True)
class Claim:
    """A schedule that this scheduler sends.

    Args:
        schedule: the schedule, as it was stored when it was claimed.
        token: proves that the claim is this one.
        fired: Unix time of the firing in ms; None for a one-off, which is deleted instead.
        digest: SHA-1 digest of its bytes, in hex.
    """

    schedule: ScheduledTask
    token: str
    fired: int | None
    digest: str


class Claims:
    """The claims of one schedule source.

    Args:
        connection: connection of the source.
        keys: keys of the source.
        data_key: returns the key of a schedule, given its ID.
        indexed: whether the source has an index, in the hash slot of its schedules.
        read: reads a schedule and its bytes by its ID; None if it is gone or unreadable. Gets the
            bytes, if they are known.
        latest: returns the schedule that was read last with an ID, or None.
    """

    def __init__(
        self,
        connection: Connection,
        keys: ScheduleKeys,
        data_key: Callable[[str], str],
        indexed: bool,
        read: Callable[[str, bytes | None], Awaitable[tuple[bytes, ScheduledTask] | None]],
        latest: Callable[[str], ScheduledTask | None],
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._data_key = data_key
        self._indexed = indexed
        self._read = read
        self._latest = latest
        self._windows = LoopLocal(lambda: Semaphore(IN_FLIGHT))
        #: by schedule ID, what is between claim and confirmation
        self._held: dict[str, Claim] = {}
        #: claims of sends that failed, which have to be ended
        self._failed: list[Claim] = []
        self._keeper: BackgroundTask | None = None

    def __contains__(self, schedule_id: object) -> bool:
        """Return whether a schedule is being sent."""
        return schedule_id in self._held

    async def claim(self, schedule: ScheduledTask, ended: Callable[[], None]) -> ScheduledTask:
        """Wait until a schedule is due, and claim it.

        Args:
            schedule: the schedule as it was read.
            ended: called when the current task is done, whether it has sent the schedule or not.

        Returns:
            The schedule as it is stored now.

        Raises:
            ScheduledTaskCancelledError: it is gone, was replaced, or another scheduler sent it.
        """
        if kind_of(schedule) == "once" and schedule.time is not None:
            await sleep(max(0.0, aware(schedule.time).timestamp() - time.time()))
        kind, begun = _firing_of(schedule, datetime.now(timezone.utc))
        # The same for all tries: the reply to one that succeeded may have been lost.
        token, window = uuid.uuid4().hex, self._windows.get()
        while True:
            latest = self._latest(schedule.schedule_id)
            if latest is not None and kind == "interval":
                if kind_of(latest) != kind_of(schedule):
                    # taskiq's scheduler doesn't send its replacement before this one is done.
                    raise ScheduledTaskCancelledError
                schedule = latest
            await window.__aenter__()
            claim: Claim | None = None
            try:
                claim, pause = await self._try(schedule, kind, begun, token)
            finally:
                if claim is None or not self._hold(claim, window.release, ended):
                    await window.__aexit__(None, None, None)
            if claim is not None:
                return claim.schedule
            await self._wait(pause, schedule.schedule_id, latest)

    async def _wait(self, pause: float, schedule_id: str, latest: ScheduledTask | None) -> None:
        """Wait, but not much longer than until a schedule is read that was replaced."""
        ends = time.monotonic() + pause
        while (rest := ends - time.monotonic()) > 0 and self._latest(schedule_id) is latest:
            await sleep(min(rest, REPLACED_PAUSE))

    async def _try(
        self, schedule: ScheduledTask, kind: Kind, begun: datetime, token: str
    ) -> tuple[Claim | None, float]:
        """Return a claim, or None and a pause in s."""
        schedule_id = schedule.schedule_id
        mark = minute_ms(begun) if kind == "cron" else interval_ms(schedule)
        try:
            answer, *rest = await self._connection.run_script(
                CLAIM,
                self._script_keys(schedule_id),
                [
                    schedule_id,
                    token,
                    LEASE,
                    kind,
                    mark,
                    due_ms(schedule) if self._indexed else "",
                    TOLERANCE,
                ],
                key=self._keys.patterns,
                retry_timeout=0,
            )
            match as_str(answer):
                case "busy":
                    return None, min(rest[0] / 1000 + 0.01, BUSY_PAUSE)
                case "early":
                    return None, min(rest[0] / 1000, LONGEST_PAUSE)
                case "gone":
                    raise ScheduledTaskCancelledError
            raw, now = rest
            return await self._check(schedule, kind, begun, token, raw, now), 0.0
        except ServerUnavailableError as error:
            logger.warning("The schedule %r waits to be sent: %s", schedule_id, error)
            return None, AWAY_PAUSE

    async def _check(
        self,
        schedule: ScheduledTask,
        kind: Kind,
        begun: datetime,
        token: str,
        raw: bytes | str,
        now: int,
    ) -> Claim:
        """Return the claim, unless the stored schedule isn't due now."""
        known = as_bytes(raw) if self._indexed else None
        try:
            found = await self._read(schedule.schedule_id, known)
        except ServerUnavailableError:
            # The next try has the same token.
            raise
        except BaseException:
            self._fail(Claim(schedule, token, None, ""))
            raise
        if found is None or not _is_same_firing(schedule, found[1], kind, begun):
            self._fail(Claim(schedule, token, None, ""))
            raise ScheduledTaskCancelledError
        fired = {"cron": minute_ms(begun), "interval": now, "once": None}[kind]
        return Claim(found[1], token, fired, sha1(found[0]).hexdigest())  # noqa: S324 - as Redis

    def _hold(self, claim: Claim, release: Callable[[], None], ended: Callable[[], None]) -> bool:
        """Keep a claim until it is confirmed, and return whether the end of the task ends it."""
        schedule_id = claim.schedule.schedule_id
        self._held[schedule_id] = claim

        def done(*_: bool) -> None:
            release()
            if self._held.get(schedule_id) is claim:
                del self._held[schedule_id]
                self._fail(claim)
                logger.warning(
                    "The schedule %r could not be sent. A one-off is tried again after the next "
                    "update of the scheduler (`--update-interval`), others when they are next due.",
                    schedule_id,
                )
            ended()

        follows = on_task_done(done) is not None
        if follows:
            self._keep()
        return follows

    def _fail(self, claim: Claim) -> None:
        """End a claim in the background, so that any scheduler can send its schedule."""
        self._failed.append(claim)
        self._keep()

    async def confirm(self, schedule_id: str) -> bool:
        """Record that a schedule was sent, and return whether it was claimed before.

        Raises:
            ServerUnavailableError: Redis can't be reached; the schedule may be sent again.
        """
        claim = self._held.get(schedule_id)
        if claim is None:
            return False
        await self._confirm(claim)
        if self._held.get(schedule_id) is claim:
            del self._held[schedule_id]
        return True

    async def _confirm(self, claim: Claim) -> None:
        schedule_id = claim.schedule.schedule_id
        if claim.fired is None and not self._indexed:
            await self._connection.run_script(
                DELETE_UNCHANGED,
                [self._data_key(schedule_id)],
                [claim.digest],
                retry_timeout=CONFIRM_TIMEOUT,
            )
        await self._connection.run_script(
            CONFIRM,
            self._script_keys(schedule_id),
            [
                schedule_id,
                claim.token,
                "" if claim.fired is None else claim.fired,
                claim.digest,
            ],
            key=self._keys.patterns,
            retry_timeout=CONFIRM_TIMEOUT,
        )

    def _script_keys(self, schedule_id: str) -> list[str]:
        data = [self._data_key(schedule_id)] if self._indexed else []
        return [*self._keys.index, *data]

    def _keep(self) -> None:
        """Renew and end claims in the background, while there are any."""
        if self._keeper is None:
            self._keeper = BackgroundTask(self._run, "Renewal of schedule claims")
            self._keeper.start()

    async def _run(self, stopping: Event) -> None:
        try:
            renewed = time.monotonic()
            while (self._held or self._failed) and not stopping.is_set():
                await self._end_failed()
                await stopping.wait(BUSY_PAUSE)
                if time.monotonic() - renewed > RENEWAL:
                    renewed = time.monotonic()
                    await self._renew(LEASE, list(self._held.values()))
        finally:
            self._keeper = None

    async def _end_failed(self) -> None:
        failed, self._failed = self._failed, []
        await self._renew(0, failed)

    async def _renew(self, lease: int, claims: list[Claim]) -> None:
        if not claims:
            return
        pairs: list[Any] = [
            each for claim in claims for each in (claim.schedule.schedule_id, claim.token)
        ]
        try:
            await self._connection.run_script(
                RENEW,
                self._keys.index,
                [lease, *pairs],
                key=self._keys.patterns,
                retry_timeout=0,
            )
        except Exception as error:  # noqa: BLE001 - code of the user may raise anything
            # The next renewal tries again; leases that are not renewed end by themselves.
            outage = self._connection.outage(error, *self._keys.patterns)
            logger.warning("Claims of schedules could not be renewed or ended: %s", outage)

    async def stop(self) -> None:
        """End the claims of sends that failed, and renew no more."""
        if self._keeper is not None:
            await self._keeper.stop()
        await self._end_failed()


def _firing_of(schedule: ScheduledTask, now: datetime) -> tuple[Kind, datetime]:
    """Return by what a schedule is due, and a time in the minute in which a cron is due.

    That is this minute or the last one. A cron with another time may be due because of that.
    """
    kind, before = kind_of(schedule), now - timedelta(minutes=1)
    if kind != "cron" or is_cron_due(schedule, now):
        return kind, now
    if is_cron_due(schedule, before):
        return kind, before
    if schedule.interval is not None:
        return "interval", now
    return kind, now if schedule.time is None else aware(schedule.time)


def _is_same_firing(due: ScheduledTask, stored: ScheduledTask, kind: Kind, begun: datetime) -> bool:
    """Return whether the stored schedule is due as well as the one that was read before."""
    if kind_of(stored) != kind_of(due):
        return False
    if kind == "cron":
        return is_cron_due(stored, begun) or stored.time == begun
    if kind == "interval":
        return 0 < interval_ms(stored) <= interval_ms(due)
    return due_ms(stored) == due_ms(due)
