# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportMissingTypeStubs=false
"""The types of `to_sync`, which mypy and pyright check, as they do `user_code.py`."""

import redis
from taskiq import (
    AsyncBroker,
    ScheduleSource,
)
from taskiq.abc.result_backend import AsyncResultBackend
from typing_extensions import assert_type

from taskiq_redis import (
    ListQueueBroker,
    ListQueueClusterBroker,
    ListQueueSentinelBroker,
    ListRedisClusterScheduleSource,
    ListRedisScheduleSource,
    ListRedisSentinelScheduleSource,
    PubSubBroker,
    PubSubClusterBroker,
    PubSubSentinelBroker,
    RedisAsyncClusterResultBackend,
    RedisAsyncResultBackend,
    RedisAsyncSentinelResultBackend,
    RedisClusterScheduleSource,
    RedisScheduleSource,
    RedisSentinelScheduleSource,
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
    SyncBroker,
    SyncListQueueBroker,
    SyncListQueueClusterBroker,
    SyncListQueueSentinelBroker,
    SyncListRedisClusterScheduleSource,
    SyncListRedisScheduleSource,
    SyncListRedisSentinelScheduleSource,
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
    SyncRedisAsyncClusterResultBackend,
    SyncRedisAsyncResultBackend,
    SyncRedisAsyncSentinelResultBackend,
    SyncRedisClusterScheduleSource,
    SyncRedisScheduleSource,
    SyncRedisSentinelScheduleSource,
    SyncRedisStreamBroker,
    SyncRedisStreamClusterBroker,
    SyncRedisStreamSentinelBroker,
    SyncResultBackend,
    SyncScheduleSource,
    to_sync,
)

URL = "redis://localhost:6379/0"
SENTINELS = [("localhost", 26379), ("localhost", 26380)]

broker = RedisStreamBroker(URL)


class MyStreamBroker(RedisStreamBroker):
    """The twin of a subclass is the twin of its public base class."""


def twins_of_every_class() -> None:
    assert_type(to_sync(PubSubBroker(URL)), SyncPubSubBroker)
    assert_type(to_sync(PubSubClusterBroker(URL)), SyncPubSubClusterBroker)
    assert_type(to_sync(PubSubSentinelBroker(SENTINELS, "m")), SyncPubSubSentinelBroker)
    assert_type(to_sync(ListQueueBroker(URL)), SyncListQueueBroker)
    assert_type(to_sync(ListQueueClusterBroker(URL)), SyncListQueueClusterBroker)
    assert_type(to_sync(ListQueueSentinelBroker(SENTINELS, "m")), SyncListQueueSentinelBroker)
    assert_type(to_sync(RedisStreamBroker(URL)), SyncRedisStreamBroker)
    assert_type(to_sync(RedisStreamClusterBroker(URL)), SyncRedisStreamClusterBroker)
    assert_type(to_sync(RedisStreamSentinelBroker(SENTINELS, "m")), SyncRedisStreamSentinelBroker)
    assert_type(to_sync(RedisAsyncResultBackend[int](URL)), SyncRedisAsyncResultBackend[int])
    assert_type(
        to_sync(RedisAsyncClusterResultBackend[int](URL)), SyncRedisAsyncClusterResultBackend[int]
    )
    assert_type(
        to_sync(RedisAsyncSentinelResultBackend[int](SENTINELS, "m")),
        SyncRedisAsyncSentinelResultBackend[int],
    )
    assert_type(to_sync(RedisScheduleSource(URL)), SyncRedisScheduleSource)
    assert_type(to_sync(RedisClusterScheduleSource(URL)), SyncRedisClusterScheduleSource)
    assert_type(
        to_sync(RedisSentinelScheduleSource(SENTINELS, "m")), SyncRedisSentinelScheduleSource
    )
    assert_type(to_sync(ListRedisScheduleSource(URL)), SyncListRedisScheduleSource)
    assert_type(to_sync(ListRedisClusterScheduleSource(URL)), SyncListRedisClusterScheduleSource)
    assert_type(
        to_sync(ListRedisSentinelScheduleSource(SENTINELS, "m")),
        SyncListRedisSentinelScheduleSource,
    )
    assert_type(to_sync(MyStreamBroker(URL)), SyncRedisStreamBroker)
    assert_type(to_sync(broker).maxlen, int | None)
    assert_type(to_sync(broker).connection_pool, redis.BlockingConnectionPool)


def twins_of_anything(
    some_broker: AsyncBroker, some_results: AsyncResultBackend[int], some_source: ScheduleSource
) -> None:
    """Accept objects that are annotated with taskiq's base classes."""
    assert_type(to_sync(some_broker), SyncBroker)
    assert_type(to_sync(some_results), SyncResultBackend[int])
    assert_type(to_sync(some_source), SyncScheduleSource)


def blocks(some_results: SyncResultBackend[int], some_source: SyncScheduleSource) -> None:
    """Use result backends and schedule sources as context managers."""
    with some_results as opened_results, some_source as opened_source:
        assert_type(opened_results, SyncResultBackend[int])
        assert_type(opened_source, SyncScheduleSource)
    blocks(to_sync(RedisAsyncResultBackend[int](URL)), to_sync(ListRedisScheduleSource(URL)))
