"""The brokers on one Redis server, under their import path of taskiq-redis 1.2.4."""

from taskiq_redis._async.brokers.base import BaseRedisBroker
from taskiq_redis._async.brokers.list_queue import ListQueueBroker
from taskiq_redis._async.brokers.pubsub import PubSubBroker
from taskiq_redis._async.brokers.stream import RedisStreamBroker

__all__ = [
    "BaseRedisBroker",
    "ListQueueBroker",
    "PubSubBroker",
    "RedisStreamBroker",
]
