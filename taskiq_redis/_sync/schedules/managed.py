# Generated from taskiq_redis/_async/schedules/managed.py by scripts/unasync.py; edit that.

"""Add, find, pause and delete schedules."""

# `delete_schedule` returns a bool, and None in taskiq.
# pyright: reportIncompatibleMethodOverride=false

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from taskiq.abc.serializer import TaskiqSerializer
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._core.addresses import Server
from taskiq_redis._core.keys import ScheduleKeys
from taskiq_redis._core.options import ScheduleOptions
from taskiq_redis._core.schedules import (
    check_schedule,
    due_ms,
    from_ms,
    interval_ms,
    kind_of,
    next_cron,
)
from taskiq_redis._core.signing import Signing
from taskiq_redis._core.texts import brief, quote
from taskiq_redis._core.wire import (
    as_bytes,
    decode_schedule,
    encode_schedule,
    serializer_for,
)
from taskiq_redis._sync.connection import Connection
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis.exceptions import (
    InvalidOptionError,
    InvalidScheduleError,
    ScheduleDecodeError,
    ScheduleEncodeError,
    SignatureError,
)

logger = logging.getLogger("taskiq_redis")

#: a reply of GET or MGET; None for no value, or no string
Raw = bytes | str | None
#: a schedule with its bytes
Encoded = tuple[ScheduledTask, bytes]

#: maximum number of schedules that one command adds or deletes
BATCH = 500


class ManagedSource(Signing, SyncScheduleSource):
    """Schedules on Redis that can be added, found, paused and deleted.

    Args:
        server: address and connection options of Redis.
        options: see `ScheduleOptions`.
    """

    def __init__(self, server: Server, options: ScheduleOptions) -> None:
        self._connection = Connection(server, type(self))
        self.prefix: str = options.prefix
        self.serializer: TaskiqSerializer = serializer_for(
            options.serializer, options.max_value_size
        )
        self.buffer_size: int = options.buffer_size
        self.skip_past_schedules: bool = options.skip_past_schedules
        self.max_value_size: int | None = options.max_value_size
        #: by key, the hash of the bytes of which an error was logged
        self._logged: dict[str, int] = {}
        self._warned = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix {self.prefix!r} on {self._connection.server}>"

    @property
    @abstractmethod
    def _keys(self) -> ScheduleKeys: ...

    @abstractmethod
    def _data_key(self, schedule_id: str) -> str:
        """Return the key of the bytes of a schedule."""

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

    # --- Writing

    def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its ID.

        Args:
            schedule: the schedule. A time without a time zone is in UTC.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with it.
            ScheduleEncodeError: it can't be serialized.
            WrongKeyTypeError: its key holds another type, and is not overwritten.
            ServerUnavailableError: Redis can't be reached.
        """
        self._put([self._encode(schedule)])

    def add_schedules(self, schedules: Sequence[ScheduledTask]) -> None:
        """Add schedules, or replace those with their IDs, many with one command.

        All of them are checked before the first one is added.

        Args:
            schedules: the schedules.

        Raises:
            InvalidScheduleError: taskiq's scheduler can't work with one of them.
            ScheduleEncodeError: one of them can't be serialized.
            WrongKeyTypeError: the key of one of them holds another type.
            ServerUnavailableError: Redis can't be reached; some may have been added.
        """
        encoded = {schedule.schedule_id: self._encode(schedule) for schedule in schedules}
        values = list(encoded.values())
        for start in range(0, len(values), BATCH):
            self._put(values[start : start + BATCH])

    def _encode(self, schedule: ScheduledTask) -> Encoded:
        """Check a schedule, and return it as it will be read, with its bytes."""
        check_schedule(schedule)
        if schedule.time is not None and schedule.time.tzinfo is None:
            self._warn_naive_time(schedule.schedule_id)
        data = encode_schedule(self.serializer, schedule)
        key = self._data_key(schedule.schedule_id)
        try:
            read = decode_schedule(self.serializer, key, data, self.max_value_size)
        except ScheduleDecodeError as error:
            raise ScheduleEncodeError(
                schedule_id=schedule.schedule_id, reason=f"it could not be read again: {error}"
            ) from error
        return read, self._sign_value("schedule", key, data)

    def _warn_naive_time(self, schedule_id: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "The time of the schedule %r has no time zone and is read as UTC. Pass an aware "
                "datetime, such as datetime.now(timezone.utc). This is logged once.",
                schedule_id,
            )

    @abstractmethod
    def _put(self, schedules: Sequence[Encoded]) -> None:
        """Store schedules."""

    def delete_schedule(self, schedule_id: str) -> bool:
        """Delete a schedule. One that is being sent is sent, but not again.

        Args:
            schedule_id: ID of the schedule.

        Returns:
            Whether there was one. It may be False although this call deleted it, if the
            connection was lost before Redis replied.

        Raises:
            WrongKeyTypeError: its key holds another type, and is not deleted.
            ServerUnavailableError: Redis can't be reached.
        """
        return self._delete([schedule_id]) > 0

    @abstractmethod
    def _delete(self, schedule_ids: Sequence[str]) -> int:
        """Delete schedules, and return how many there were."""

    def pause_schedule(self, schedule_id: str) -> bool:
        """Keep a schedule without sending it, until it is resumed or replaced.

        A scheduler of taskiq-redis 1.2.4 sends it nevertheless.

        Args:
            schedule_id: ID of the schedule.

        Returns:
            Whether there is such a schedule.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        return self._pause(schedule_id)

    @abstractmethod
    def _pause(self, schedule_id: str) -> bool: ...

    def resume_schedule(self, schedule_id: str) -> bool:
        """Send a schedule again that `pause_schedule` paused; at once if it is overdue.

        Args:
            schedule_id: ID of the schedule.

        Returns:
            Whether it was paused.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        return self._resume(schedule_id)

    @abstractmethod
    def _resume(self, schedule_id: str) -> bool: ...

    def clear(self, *, all: bool = False) -> int:  # noqa: A002 - as in `purge_dead_letters`
        """Delete all schedules.

        Args:
            all: has to be True, so that nothing is deleted by accident.

        Returns:
            The number of deleted schedules.

        Raises:
            InvalidOptionError: `all` isn't True.
            ServerUnavailableError: Redis can't be reached; some may have been deleted.
        """
        if not all:
            raise InvalidOptionError(
                option="all",
                problem="it is unclear which schedules to delete",
                advice="Give `all=True` to delete all of them, or call `delete_schedule`.",
            )
        deleted, schedule_ids = 0, self._own_ids()
        for start in range(0, len(schedule_ids), BATCH):
            deleted += self._delete(schedule_ids[start : start + BATCH])
        return deleted

    @abstractmethod
    def _own_ids(self) -> list[str]:
        """Return the IDs of all schedules that certainly belong to this source."""

    @abstractmethod
    def _pages(self) -> Iterator[list[str]]:
        """Read the IDs of all schedules, page by page; some may belong to other sources."""

    # --- Reading

    def get_schedule(self, schedule_id: str) -> ScheduledTask | None:
        """Return a schedule by its ID (MGET).

        Args:
            schedule_id: ID of the schedule.

        Returns:
            The schedule; None if there is none.

        Raises:
            ScheduleDecodeError: it can't be read.
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._data_key(schedule_id)
        (raw,) = self._get([key])
        return None if raw is None else self._decode(key, schedule_id, as_bytes(raw))

    def iter_schedules(self) -> Iterator[ScheduledTask]:
        """Read all schedules, page by page, regardless of their due times.

        Unreadable ones are logged and left out. A schedule that is added or deleted meanwhile may
        be included or not.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        for page in self._pages():
            for schedule in self._read_page(page):
                yield schedule

    def get_all_schedules(self) -> list[ScheduledTask]:
        """Read all schedules, regardless of their due times.

        Unreadable ones are logged and left out.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        found: list[ScheduledTask] = []
        for page in self._pages():
            found += self._read_page(page)
        return found

    @abstractmethod
    def count(self) -> int:
        """Return the number of schedules.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """

    def next_run(self, schedule: ScheduledTask) -> datetime | None:
        """Return when a schedule is due next, in UTC (MGET, ZSCORE, HGET).

        Args:
            schedule: a schedule of this source.

        Returns:
            The time, which is in the past if the schedule is overdue. None if the schedule is
            paused, was deleted, or is never due, such as on 30 February.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        schedule_id = schedule.schedule_id
        if self.get_schedule(schedule_id) is None or self._is_paused(schedule_id):
            return None
        kind = kind_of(schedule)
        if kind == "once":
            return from_ms(due_ms(schedule))
        last = self._last_firing(schedule_id)
        now = datetime.now(timezone.utc)
        if kind == "interval":
            return now if last is None else last + timedelta(milliseconds=interval_ms(schedule))
        # The current minute counts until the schedule has fired in it; what was missed doesn't.
        before = now - timedelta(minutes=1)
        return next_cron(schedule, before if last is None else max(last, before))

    @abstractmethod
    def _is_paused(self, schedule_id: str) -> bool: ...

    @abstractmethod
    def _paused(self) -> set[str]:
        """Return the IDs of the paused schedules."""

    def _last_firing(self, schedule_id: str) -> datetime | None:
        key = self._keys.fired
        raw: Raw = self._connection.call(lambda client: client.hget(key, schedule_id), key=key)
        try:
            return None if raw is None else from_ms(int(raw))
        except (ValueError, OverflowError):
            return None

    def _read_page(self, schedule_ids: Sequence[str]) -> list[ScheduledTask]:
        """Read schedules by their IDs, and leave out missing and unreadable ones."""
        keys = {self._data_key(schedule_id): schedule_id for schedule_id in schedule_ids}
        found = self._read_raw(list(keys))
        if len(found) < len(keys):
            self._forget([keys[key] for key in keys if key not in found])
        decoded = [self._try_decode(key, keys[key], raw) for key, raw in found.items()]
        return [schedule for schedule in decoded if schedule is not None]

    def _read_raw(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read the bytes of several keys (MGET), and leave out missing ones."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), self.buffer_size):
            chunk = keys[start : start + self.buffer_size]
            values = zip(chunk, self._get(chunk), strict=True)
            found.update((key, as_bytes(raw)) for key, raw in values if raw is not None)
        return found

    def _get(self, keys: Sequence[str]) -> list[Raw]:
        """Read several values (MGET)."""
        values: list[Raw] = self._connection.call(lambda client: client.mget(list(keys)), key=keys)
        return values

    def _decode(self, key: str, schedule_id: str, raw: bytes) -> ScheduledTask:
        """Decode the schedule with an ID.

        Raises:
            ScheduleDecodeError: it can't be read, or has another ID.
        """
        schedule = self._decode_value(key, raw)
        if schedule.schedule_id != schedule_id:
            reason = (
                f"it has the ID {quote(schedule.schedule_id)}, as that of another schedule source"
            )
            raise ScheduleDecodeError(key=brief(key), reason=reason)
        return schedule

    def _decode_value(self, key: str, raw: bytes) -> ScheduledTask:
        """Decode the schedule in a key, whatever its ID.

        Raises:
            ScheduleDecodeError: it can't be read, or its signature isn't valid.
        """
        try:
            data = self._verify_value("schedule", key, raw)
        except SignatureError as error:
            raise ScheduleDecodeError(key=brief(key), reason=error.problem) from error
        return decode_schedule(self.serializer, key, data, self.max_value_size)

    def _try_decode(self, key: str, schedule_id: str, raw: bytes) -> ScheduledTask | None:
        """Decode a schedule, or log once why taskiq's scheduler can't work with it."""
        try:
            schedule = self._decode(key, schedule_id, raw)
            check_schedule(schedule)
        except (ScheduleDecodeError, InvalidScheduleError) as error:
            # Raising it would keep all other schedules from being sent.
            if self._logged.get(key) != hash(raw) and not self._is_foreign(key, schedule_id, raw):
                self._logged[key] = hash(raw)
                logger.error("The schedule in the key %r is skipped: %s", brief(key), error)  # noqa: TRY400
            return None
        self._logged.pop(key, None)
        return schedule

    def _is_foreign(self, key: str, schedule_id: str, raw: bytes) -> bool:  # noqa: ARG002
        """Return whether bytes belong to another source, whose keys look like those of this one."""
        return False

    @abstractmethod
    def _forget(self, schedule_ids: Sequence[str]) -> None:
        """Remove what is stored about schedules, if their bytes are gone."""
