"""Create brokers, result backends and schedule sources of either version."""

import asyncio
import inspect
from typing import Any

from taskiq import serializers

import taskiq_redis

#: whether this version is 1.2.4
OLD = not hasattr(taskiq_redis, "to_sync")

CLASSES = {
    "single": {
        "pubsub": "PubSubBroker",
        "list": "ListQueueBroker",
        "stream": "RedisStreamBroker",
        "results": "RedisAsyncResultBackend",
        "keys": "RedisScheduleSource",
        "indexed": "ListRedisScheduleSource",
    },
    "cluster": {
        "list": "ListQueueClusterBroker",
        "stream": "RedisStreamClusterBroker",
        "results": "RedisAsyncClusterResultBackend",
        "keys": "RedisClusterScheduleSource",
    },
    "sentinel": {
        "pubsub": "PubSubSentinelBroker",
        "list": "ListQueueSentinelBroker",
        "stream": "RedisStreamSentinelBroker",
        "results": "RedisAsyncSentinelResultBackend",
        "keys": "RedisSentinelScheduleSource",
    },
}


def build(where: dict[str, Any], mechanism: str, twin: str = "", **options: Any) -> Any:
    """Create the object of a mechanism on the servers that `where` describes."""
    kind = getattr(taskiq_redis, twin + CLASSES[where["kind"]][mechanism])
    if OLD:
        # Without it, reads time out after 5 s with redis-py 8, and the worker ends.
        options = {"socket_timeout": None, **options}
    if where["kind"] == "sentinel":
        sentinels = [(host, port) for host, port in where["sentinels"]]
        return kind(sentinels, where["master_name"], **options)
    return kind(where["url"], **options)


def serializer(form: str) -> dict[str, Any]:
    """Return the option that sets a serializer; `default` leaves it to the version."""
    kinds = {
        "json": serializers.JSONSerializer,
        "orjson": serializers.ORJSONSerializer,
        "msgpack": serializers.MSGPackSerializer,
        "cbor": serializers.CBORSerializer,
        "pickle": serializers.PickleSerializer,
    }
    return {} if form == "default" else {"serializer": kinds[form]()}


async def maybe_await(outcome: Any) -> Any:
    """Return the result of a call of either twin."""
    return await outcome if inspect.isawaitable(outcome) else outcome


def run(function: Any, *arguments: Any) -> Any:
    """Run a sync or async task, and return its value."""
    outcome = function(*arguments)
    return asyncio.run(maybe_await(outcome)) if inspect.isawaitable(outcome) else outcome
