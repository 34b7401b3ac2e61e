"""Brokers, result backends and schedule sources for taskiq on Redis, asyncio and blocking."""

from taskiq_redis._async.brokers.list_queue import (
    ListQueueBroker,
    ListQueueClusterBroker,
    ListQueueSentinelBroker,
)
from taskiq_redis._async.brokers.pubsub import (
    PubSubBroker,
    PubSubClusterBroker,
    PubSubSentinelBroker,
)
from taskiq_redis._async.brokers.stream import (
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
)
from taskiq_redis._async.result_backends import (
    RedisAsyncClusterResultBackend,
    RedisAsyncResultBackend,
    RedisAsyncSentinelResultBackend,
)
from taskiq_redis._async.schedules.key_per_schedule import (
    RedisClusterScheduleSource,
    RedisScheduleSource,
    RedisSentinelScheduleSource,
)
from taskiq_redis._async.schedules.lists import (
    ListRedisClusterScheduleSource,
    ListRedisScheduleSource,
    ListRedisSentinelScheduleSource,
)
from taskiq_redis._core.dead_letters import DeadLetter
from taskiq_redis._core.signing import Signer
from taskiq_redis._sync.brokers.list_queue import (
    SyncListQueueBroker,
    SyncListQueueClusterBroker,
    SyncListQueueSentinelBroker,
)
from taskiq_redis._sync.brokers.pubsub import (
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
)
from taskiq_redis._sync.brokers.stream import (
    SyncRedisStreamBroker,
    SyncRedisStreamClusterBroker,
    SyncRedisStreamSentinelBroker,
)
from taskiq_redis._sync.result_backends import (
    SyncRedisAsyncClusterResultBackend,
    SyncRedisAsyncResultBackend,
    SyncRedisAsyncSentinelResultBackend,
)
from taskiq_redis._sync.schedules.key_per_schedule import (
    SyncRedisClusterScheduleSource,
    SyncRedisScheduleSource,
    SyncRedisSentinelScheduleSource,
)
from taskiq_redis._sync.schedules.lists import (
    SyncListRedisClusterScheduleSource,
    SyncListRedisScheduleSource,
    SyncListRedisSentinelScheduleSource,
)
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.decorated_task import SyncTaskiqDecoratedTask
from taskiq_redis._taskiq.kicker import SyncCreatedSchedule, SyncKicker
from taskiq_redis._taskiq.memory_broker import SyncInMemoryBroker
from taskiq_redis._taskiq.memory_results import SyncInMemoryResultBackend
from taskiq_redis._taskiq.memory_schedules import InMemoryScheduleSource, SyncInMemoryScheduleSource
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis._taskiq.task import SyncTaskiqTask
from taskiq_redis._twins import to_sync

__version__ = "2.0.0.dev0"

__all__ = [
    "DeadLetter",
    "InMemoryScheduleSource",
    "ListQueueBroker",
    "ListQueueClusterBroker",
    "ListQueueSentinelBroker",
    "ListRedisClusterScheduleSource",
    "ListRedisScheduleSource",
    "ListRedisSentinelScheduleSource",
    "PubSubBroker",
    "PubSubClusterBroker",
    "PubSubSentinelBroker",
    "RedisAsyncClusterResultBackend",
    "RedisAsyncResultBackend",
    "RedisAsyncSentinelResultBackend",
    "RedisClusterScheduleSource",
    "RedisScheduleSource",
    "RedisSentinelScheduleSource",
    "RedisStreamBroker",
    "RedisStreamClusterBroker",
    "RedisStreamSentinelBroker",
    "Signer",
    "SyncBroker",
    "SyncCreatedSchedule",
    "SyncInMemoryBroker",
    "SyncInMemoryResultBackend",
    "SyncInMemoryScheduleSource",
    "SyncKicker",
    "SyncListQueueBroker",
    "SyncListQueueClusterBroker",
    "SyncListQueueSentinelBroker",
    "SyncListRedisClusterScheduleSource",
    "SyncListRedisScheduleSource",
    "SyncListRedisSentinelScheduleSource",
    "SyncPubSubBroker",
    "SyncPubSubClusterBroker",
    "SyncPubSubSentinelBroker",
    "SyncRedisAsyncClusterResultBackend",
    "SyncRedisAsyncResultBackend",
    "SyncRedisAsyncSentinelResultBackend",
    "SyncRedisClusterScheduleSource",
    "SyncRedisScheduleSource",
    "SyncRedisSentinelScheduleSource",
    "SyncRedisStreamBroker",
    "SyncRedisStreamClusterBroker",
    "SyncRedisStreamSentinelBroker",
    "SyncResultBackend",
    "SyncScheduleSource",
    "SyncTaskiqDecoratedTask",
    "SyncTaskiqTask",
    "to_sync",
]
