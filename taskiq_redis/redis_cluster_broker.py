"""The brokers on a Redis Cluster, under their import path of taskiq-redis 1.2.4."""

from taskiq_redis._async.brokers.base import BaseRedisClusterBroker
from taskiq_redis._async.brokers.list_queue import ListQueueClusterBroker
from taskiq_redis._async.brokers.pubsub import PubSubClusterBroker
from taskiq_redis._async.brokers.stream import RedisStreamClusterBroker

__all__ = [
    "BaseRedisClusterBroker",
    "ListQueueClusterBroker",
    "PubSubClusterBroker",
    "RedisStreamClusterBroker",
]
