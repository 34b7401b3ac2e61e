"""Tests without Redis: replace brokers, result backends and schedule sources by ones in memory."""

from taskiq_redis.testing._sent import RecordedTask, SentTasks
from taskiq_redis.testing._swap import swapped

__all__ = ["RecordedTask", "SentTasks", "swapped"]
