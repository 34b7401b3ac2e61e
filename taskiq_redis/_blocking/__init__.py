"""The blocking half of taskiq's own abstractions, which taskiq itself doesn't have."""

from taskiq_redis._blocking.broker import SyncBroker
from taskiq_redis._blocking.created_schedule import SyncCreatedSchedule
from taskiq_redis._blocking.decor import SyncTaskiqDecoratedTask
from taskiq_redis._blocking.kicker import SyncKicker
from taskiq_redis._blocking.result_backend import SyncResultBackend
from taskiq_redis._blocking.schedule_source import SyncScheduleSource
from taskiq_redis._blocking.task import SyncTaskiqTask

__all__ = [
    "SyncBroker",
    "SyncCreatedSchedule",
    "SyncKicker",
    "SyncResultBackend",
    "SyncScheduleSource",
    "SyncTaskiqDecoratedTask",
    "SyncTaskiqTask",
]
