# Generated from taskiq_redis/_async/schedules/migration.py by scripts/unasync.py; edit that.

"""Move schedules from one source to another, once, even if processes die or start together."""

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core import lua
from taskiq_redis._core.keys import ScheduleKeys
from taskiq_redis._core.wire import as_str
from taskiq_redis._runtime.blocking import BackgroundTask, Event, sleep
from taskiq_redis._sync.connection import Connection
from taskiq_redis._sync.schedules.managed import BATCH, Encoded, ManagedSource
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis.exceptions import (
    InvalidOptionError,
    InvalidScheduleError,
    ScheduleEncodeError,
    TaskIQRedisError,
)

logger = logging.getLogger("taskiq_redis")

#: ms; lease of the lock, renewed with each batch and in the background
LEASE = 30_000
#: s; interval in which it is renewed
RENEWAL = 10.0
#: s; pause before the lock is tried again
PAUSE = 1.0

LOCK = lua.load("lock_migration")
MIGRATE = lua.load("schedule_index", "schedule_put", "migrate_schedules")


class Migration:
    """Moves all schedules of a source into another one.

    Args:
        target: the indexed source.
        source: source to read from.
        delete: whether to delete the schedules from there. If not, they are moved only once.
    """

    def __init__(self, target: Any, source: SyncScheduleSource, delete: bool) -> None:
        self._target = target
        self._source = source
        self._delete = delete
        #: proves that the lock is held by this process
        self._token = ""

    def run(self) -> None:
        """Migrate, or wait until another process has done it."""
        while self._lock():
            renewal = BackgroundTask(self._renew, "Renewal of the lock of a migration")
            renewal.start()
            try:
                moved = self._move_all()
            except BaseException:
                with suppress(TaskIQRedisError):
                    self._call("release")
                raise
            finally:
                renewal.stop()
            if moved:
                self._call("finish")
                return
            logger.warning("Another process has taken over the migration; waiting for it.")

    def _move_all(self) -> bool:
        """Move all schedules; return False if another process has the lock now."""
        self._source.startup()
        try:
            if self._is_the_target():
                raise InvalidOptionError(
                    option="source",
                    problem="it has the same prefix on the same server",
                    advice="Give another source: migrating into itself would delete its schedules.",
                )
            return self._move(self._read(), self._paused())
        finally:
            self._source.shutdown()

    def _is_the_target(self) -> bool:
        """Return whether the source has the keys of the target: then it sees its lock (HGET)."""
        # The other kind of source has other keys, also with the same prefix.
        if not isinstance(self._source, ManagedSource) or self._name() != self._target._data_key(
            "*"
        ):
            return False
        connection, key = self._source._connection, self._target._keys.migration
        lock: Any = connection.call(lambda client: client.hget(key, "lock"), key=key)
        return lock is not None and as_str(lock).endswith(f" {self._token}")

    def _lock(self) -> bool:
        """Wait for the lock; return False if the migration was done and isn't repeated."""
        # A new one each time, also in a forked process: what was read under a lock must not be
        # added once that lock has expired.
        self._token = uuid.uuid4().hex
        while True:
            answer, *rest = self._call("lock")
            match as_str(answer):
                case "go":
                    return True
                case "done":
                    return False
            logger.info("Another process migrates schedules; its lease ends in %d ms.", rest[0])
            sleep(min(PAUSE, rest[0] / 1000))

    def _renew(self, stopping: Event) -> None:
        while not stopping.is_set():
            stopping.wait(RENEWAL)
            try:
                self._call("renew", retry_timeout=0)
            except Exception as error:  # noqa: BLE001 - code of the user may raise anything
                connection: Connection = self._target._connection
                outage = connection.outage(error, *self._lock_keys())
                logger.warning("The lock of a migration could not be renewed: %s", outage)

    def _call(self, what: str, **options: Any) -> Any:
        connection: Connection = self._target._connection
        once = "" if self._delete else f"{self._name()} on {self._server()}"
        return connection.run_script(
            LOCK, self._lock_keys(), [what, self._token, LEASE, once], **options
        )

    def _lock_keys(self) -> list[str]:
        """Return the keys of the lock, and of the IDs that were added from this source.

        The latter has no address: a process may reach the same server by another one.
        """
        keys: ScheduleKeys = self._target._keys
        return [keys.migration, f"{keys.migrated}:{self._name()}"]

    def _name(self) -> str:
        """Return a name of the source on its server, which its blocking twin has, too."""
        if isinstance(self._source, ManagedSource):
            return self._source._data_key("*")
        return f"{type(self._source).__module__}.{type(self._source).__qualname__}"

    def _server(self) -> str:
        """Return the address of the source, if it has one."""
        if isinstance(self._source, ManagedSource):
            return str(self._source._connection.server)
        return ""

    def _read(self) -> list[ScheduledTask]:
        if isinstance(self._source, ManagedSource):
            return self._source.get_all_schedules()
        return self._source.get_schedules()

    def _paused(self) -> set[str]:
        if isinstance(self._source, ManagedSource):
            return self._source._paused()
        return set()

    def _move(self, schedules: Sequence[ScheduledTask], paused: set[str]) -> bool:
        """Move schedules; return False if another process has the lock now."""
        for start in range(0, len(schedules), BATCH):
            batch = schedules[start : start + BATCH]
            encoded = [each for each in map(self._encode, batch) if each is not None]
            if not self._put(encoded, paused):
                return False
            if self._delete:
                self._delete_from_source([schedule.schedule_id for schedule, _ in encoded])
            done = start + len(batch)
            logger.info("Migrated %d of %d schedules.", done, len(schedules))
        return True

    def _encode(self, schedule: ScheduledTask) -> Encoded | None:
        try:
            encoded: Encoded = self._target._encode(schedule)
        except (InvalidScheduleError, ScheduleEncodeError) as error:
            logger.error("A schedule isn't migrated: %s", error)  # noqa: TRY400
            return None
        return encoded

    def _put(self, schedules: Sequence[Encoded], paused: set[str]) -> bool:
        """Store schedules, and return whether this process has the lock."""
        keys: ScheduleKeys = self._target._keys
        connection: Connection = self._target._connection
        pairs, arguments = self._target._put_arguments(schedules)
        stopped = paused.intersection(schedule.schedule_id for schedule, _ in schedules)
        held = connection.run_script(
            MIGRATE,
            [*keys.index, *self._lock_keys(), *pairs],
            [self._token, LEASE, len(stopped), *stopped, *arguments],
            key=keys.patterns,
        )
        return bool(held)

    def _delete_from_source(self, schedule_ids: Sequence[str]) -> None:
        if isinstance(self._source, ManagedSource):
            self._source._delete(schedule_ids)
            return
        for schedule_id in schedule_ids:
            self._source.delete_schedule(schedule_id)
