"""Builds the objects of either version: what is written here has to mean the same to both."""

import asyncio
import inspect
from typing import Any

from taskiq import serializers

import taskiq_redis

#: whether this runs with 1.2.4
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
    """Make the object of a mechanism on the servers that `where` describes."""
    kind = getattr(taskiq_redis, twin + CLASSES[where["kind"]][mechanism])
    if OLD:
        # Or redis-py 8 ends its reads after 5 s, and with them the worker.
        options = {"socket_timeout": None, **options}
    if where["kind"] == "sentinel":
        sentinels = [(host, port) for host, port in where["sentinels"]]
        return kind(sentinels, where["master_name"], **options)
    return kind(where["url"], **options)


def serializer(form: str) -> dict[str, Any]:
    """Return the option that asks for a serializer; by default each version has its own."""
    kinds = {
        "json": serializers.JSONSerializer,
        "orjson": serializers.ORJSONSerializer,
        "msgpack": serializers.MSGPackSerializer,
        "cbor": serializers.CBORSerializer,
        "pickle": serializers.PickleSerializer,
    }
    return {} if form == "default" else {"serializer": kinds[form]()}


async def done(outcome: Any) -> Any:
    """Return what a call of either twin returns."""
    return await outcome if inspect.isawaitable(outcome) else outcome


def run(function: Any, *arguments: Any) -> Any:
    """Run a task, be it async or not."""
    outcome = function(*arguments)
    return asyncio.run(done(outcome)) if inspect.isawaitable(outcome) else outcome
