"""Private names of 1.2.4's list schedule source, which subclasses may use."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from taskiq_redis._core.keys import ScheduleKeys, minute_of


def _renamed(name: str) -> Any:
    """Return a property for an attribute that had another name in 1.2.4.

    Args:
        name: current name of the attribute.
    """

    def get(source: object) -> Any:
        return getattr(source, name)

    def set_(source: object, value: Any) -> None:
        setattr(source, name, value)

    return property(get, set_)


class CompatNames(ABC):
    """The names of 1.2.4."""

    _connection_pool = _renamed("connection_pool")
    _prefix = _renamed("prefix")
    _serializer = _renamed("serializer")
    _buffer_size = _renamed("buffer_size")
    _skip_past_schedules = _renamed("skip_past_schedules")

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
