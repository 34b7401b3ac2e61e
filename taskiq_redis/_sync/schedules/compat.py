# Generated from taskiq_redis/_async/schedules/compat.py by scripts/unasync.py; edit that.

"""What subclasses of the list source of 1.2.4 use, where all names were private."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from taskiq_redis._core.keys import ScheduleKeys, minute_of


class Renamed:
    """An attribute that has another name now.

    Args:
        name: its name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, source: object, owner: type | None = None) -> Any:
        return self if source is None else getattr(source, self._name)

    def __set__(self, source: object, value: Any) -> None:
        setattr(source, self._name, value)


class CompatNames(ABC):
    """The names of 1.2.4."""

    _connection_pool = Renamed("connection_pool")
    _prefix = Renamed("prefix")
    _serializer = Renamed("serializer")
    _buffer_size = Renamed("buffer_size")
    _skip_past_schedules = Renamed("skip_past_schedules")

    @property
    @abstractmethod
    def _keys(self) -> ScheduleKeys: ...

    def _get_cron_key(self) -> str:
        return self._keys.cron

    def _get_interval_key(self) -> str:
        return self._keys.interval

    def _get_time_key(self, time: datetime) -> str:
        return self._keys.minute(minute_of(time))

    def _get_data_key(self, schedule_id: str) -> str:
        return self._keys.data(schedule_id)
