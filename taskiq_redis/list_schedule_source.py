"""The indexed schedule sources, under their import path of taskiq-redis 1.2.4."""

from taskiq_redis._async.schedules.lists import (
    ListRedisClusterScheduleSource,
    ListRedisScheduleSource,
    ListRedisSentinelScheduleSource,
)

__all__ = [
    "ListRedisClusterScheduleSource",
    "ListRedisScheduleSource",
    "ListRedisSentinelScheduleSource",
]
