"""The brokers on a master of sentinels, under their import path of taskiq-redis 1.2.4."""

from taskiq_redis._async.brokers.base import BaseSentinelBroker
from taskiq_redis._async.brokers.list_queue import ListQueueSentinelBroker
from taskiq_redis._async.brokers.pubsub import PubSubSentinelBroker
from taskiq_redis._async.brokers.stream import RedisStreamSentinelBroker

__all__ = [
    "BaseSentinelBroker",
    "ListQueueSentinelBroker",
    "PubSubSentinelBroker",
    "RedisStreamSentinelBroker",
]
