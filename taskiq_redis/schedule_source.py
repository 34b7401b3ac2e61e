"""The schedule sources with a key per schedule, under their import path of taskiq-redis 1.2.4."""

from taskiq_redis._async.schedules.key_per_schedule import (
    RedisClusterScheduleSource,
    RedisScheduleSource,
    RedisSentinelScheduleSource,
)

__all__ = [
    "RedisClusterScheduleSource",
    "RedisScheduleSource",
    "RedisSentinelScheduleSource",
]
