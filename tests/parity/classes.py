"""The public classes, and the public interface of taskiq-redis 1.2.4."""

import inspect
from inspect import Parameter
from typing import Any

import taskiq_redis

#: mechanism to class names, in the order single server, cluster, sentinels
MECHANISMS = {
    "pub/sub": ("PubSubBroker", "PubSubClusterBroker", "PubSubSentinelBroker"),
    "list": ("ListQueueBroker", "ListQueueClusterBroker", "ListQueueSentinelBroker"),
    "stream": ("RedisStreamBroker", "RedisStreamClusterBroker", "RedisStreamSentinelBroker"),
    "results": (
        "RedisAsyncResultBackend",
        "RedisAsyncClusterResultBackend",
        "RedisAsyncSentinelResultBackend",
    ),
    "schedules": (
        "RedisScheduleSource",
        "RedisClusterScheduleSource",
        "RedisSentinelScheduleSource",
    ),
    "indexed schedules": (
        "ListRedisScheduleSource",
        "ListRedisClusterScheduleSource",
        "ListRedisSentinelScheduleSource",
    ),
}

#: the public classes for asyncio; the twin of `X` is `SyncX`
CLASSES = [name for names in MECHANISMS.values() for name in names]

#: classes that 1.2.4 doesn't have
NEW = {
    "PubSubClusterBroker",
    "ListRedisClusterScheduleSource",
    "ListRedisSentinelScheduleSource",
}

REQUIRED = Parameter.empty

_QUEUE = [
    ("task_id_generator", None),
    ("result_backend", None),
    ("queue_name", "taskiq"),
]
_SENTINELS = [("sentinels", REQUIRED), ("master_name", REQUIRED)]
_SENTINEL_QUEUE = [
    *_SENTINELS,
    ("result_backend", None),
    ("task_id_generator", None),
    ("queue_name", "taskiq"),
    ("min_other_sentinels", 0),
    ("sentinel_kwargs", None),
]

#: constructor parameters of 1.2.4 with defaults, in order; all can be passed by position, and
#: `**connection_kwargs` follows them
SIGNATURES: dict[str, list[tuple[str, Any]]] = {
    "PubSubBroker": [("url", REQUIRED), *_QUEUE, ("max_connection_pool_size", None)],
    "PubSubSentinelBroker": _SENTINEL_QUEUE,
    "ListQueueBroker": [("url", REQUIRED), *_QUEUE, ("max_connection_pool_size", None)],
    "ListQueueClusterBroker": [
        ("url", REQUIRED),
        ("queue_name", "taskiq"),
        ("max_connection_pool_size", 2**31),
    ],
    "ListQueueSentinelBroker": _SENTINEL_QUEUE,
    "RedisStreamBroker": [
        ("url", REQUIRED),
        ("queue_name", "taskiq"),
        ("max_connection_pool_size", None),
        ("consumer_group_name", "taskiq"),
        ("consumer_name", None),
        ("consumer_id", "$"),
        ("mkstream", True),
        ("xread_block", 2000),
        ("maxlen", None),
        ("approximate", True),
        ("idle_timeout", 600_000),
        ("unacknowledged_batch_size", 100),
        ("unacknowledged_lock_timeout", None),
        ("xread_count", 100),
        ("additional_streams", None),
    ],
    "RedisStreamClusterBroker": [
        ("url", REQUIRED),
        ("queue_name", "taskiq"),
        ("max_connection_pool_size", 2**31),
        ("consumer_group_name", "taskiq"),
        ("consumer_name", None),
        ("consumer_id", "$"),
        ("mkstream", True),
        ("xread_block", 10_000),
        ("maxlen", None),
        ("approximate", True),
        ("additional_streams", None),
    ],
    "RedisStreamSentinelBroker": [
        *_SENTINELS,
        ("min_other_sentinels", 0),
        ("queue_name", "taskiq"),
        ("consumer_group_name", "taskiq"),
        ("consumer_name", None),
        ("consumer_id", "$"),
        ("mkstream", True),
        ("xread_block", 10_000),
        ("maxlen", None),
        ("approximate", True),
        ("additional_streams", None),
    ],
    "RedisAsyncResultBackend": [
        ("redis_url", REQUIRED),
        ("keep_results", True),
        ("result_ex_time", None),
        ("result_px_time", None),
        ("max_connection_pool_size", None),
        ("serializer", None),
        ("prefix_str", None),
    ],
    "RedisAsyncClusterResultBackend": [
        ("redis_url", REQUIRED),
        ("keep_results", True),
        ("result_ex_time", None),
        ("result_px_time", None),
        ("serializer", None),
        ("prefix_str", None),
    ],
    "RedisAsyncSentinelResultBackend": [
        *_SENTINELS,
        ("keep_results", True),
        ("result_ex_time", None),
        ("result_px_time", None),
        ("min_other_sentinels", 0),
        ("sentinel_kwargs", None),
        ("serializer", None),
        ("prefix_str", None),
    ],
    "RedisScheduleSource": [
        ("url", REQUIRED),
        ("prefix", "schedule"),
        ("buffer_size", 50),
        ("max_connection_pool_size", None),
        ("serializer", None),
    ],
    "RedisClusterScheduleSource": [
        ("url", REQUIRED),
        ("prefix", "schedule"),
        ("serializer", None),
    ],
    "RedisSentinelScheduleSource": [
        *_SENTINELS,
        ("prefix", "schedule"),
        ("buffer_size", 50),
        ("serializer", None),
        ("min_other_sentinels", 0),
        ("sentinel_kwargs", None),
    ],
    "ListRedisScheduleSource": [
        ("url", REQUIRED),
        ("prefix", "schedule"),
        ("max_connection_pool_size", None),
        ("serializer", None),
        ("buffer_size", 50),
        ("skip_past_schedules", False),
    ],
}

#: defaults that differ from 1.2.4: the old and the new one
CHANGED_DEFAULTS = {"consumer_id": ("$", None), "idle_timeout": (600_000, 15_000)}

_BROKER_ATTRIBUTES = """
    custom_dependency_context decorator_class dependency_overrides event_handlers formatter
    id_generator is_scheduler_process is_worker_process local_task_registry middlewares queue_name
    result_backend serializer state
"""
_STREAM_ATTRIBUTES = f"""
    {_BROKER_ATTRIBUTES} additional_streams approximate block consumer_group_name consumer_id
    consumer_name maxlen mkstream
"""
_RESULT_ATTRIBUTES = "keep_results prefix_str result_ex_time result_px_time serializer"

#: public attributes of objects of 1.2.4
ATTRIBUTES: dict[str, str] = {
    "PubSubBroker": f"{_BROKER_ATTRIBUTES} connection_pool",
    "PubSubSentinelBroker": f"{_BROKER_ATTRIBUTES} sentinel master_name",
    "ListQueueBroker": f"{_BROKER_ATTRIBUTES} connection_pool",
    "ListQueueClusterBroker": f"{_BROKER_ATTRIBUTES} redis",
    "ListQueueSentinelBroker": f"{_BROKER_ATTRIBUTES} sentinel master_name",
    "RedisStreamBroker": f"""
        {_STREAM_ATTRIBUTES} connection_pool count idle_timeout unacknowledged_batch_size
        unacknowledged_lock_timeout
    """,
    "RedisStreamClusterBroker": f"{_STREAM_ATTRIBUTES} redis",
    "RedisStreamSentinelBroker": f"{_STREAM_ATTRIBUTES} sentinel master_name",
    "RedisAsyncResultBackend": f"{_RESULT_ATTRIBUTES} redis_pool",
    "RedisAsyncClusterResultBackend": f"{_RESULT_ATTRIBUTES} redis",
    "RedisAsyncSentinelResultBackend": f"{_RESULT_ATTRIBUTES} sentinel master_name",
    "RedisScheduleSource": "prefix serializer buffer_size connection_pool",
    "RedisClusterScheduleSource": "prefix serializer redis",
    "RedisSentinelScheduleSource": "prefix serializer buffer_size sentinel master_name",
    # In 1.2.4, all of its attributes begin with an underscore.
    "ListRedisScheduleSource": "",
}

#: methods that each class of 1.2.4 defines itself
METHODS: dict[str, str] = {
    **dict.fromkeys(MECHANISMS["pub/sub"], "kick listen shutdown"),
    **dict.fromkeys(MECHANISMS["list"], "kick listen shutdown"),
    **dict.fromkeys(MECHANISMS["stream"], "startup kick listen shutdown"),
    **dict.fromkeys(
        MECHANISMS["results"],
        "shutdown set_result is_result_ready get_result set_progress get_progress",
    ),
    **dict.fromkeys(
        MECHANISMS["schedules"], "delete_schedule add_schedule get_schedules post_send shutdown"
    ),
    **dict.fromkeys(
        MECHANISMS["indexed schedules"],
        "startup delete_schedule add_schedule get_schedules post_send with_migrate_from",
    ),
}

#: modules of 1.2.4, and their classes
MODULES: dict[str, str] = {
    "redis_broker": "BaseRedisBroker PubSubBroker ListQueueBroker RedisStreamBroker",
    "redis_cluster_broker": """
        BaseRedisClusterBroker PubSubClusterBroker ListQueueClusterBroker RedisStreamClusterBroker
    """,
    "redis_sentinel_broker": """
        BaseSentinelBroker PubSubSentinelBroker ListQueueSentinelBroker RedisStreamSentinelBroker
    """,
    "redis_backend": " ".join(MECHANISMS["results"]),
    "schedule_source": " ".join(MECHANISMS["schedules"]),
    "list_schedule_source": " ".join(MECHANISMS["indexed schedules"]),
}

#: base classes of 1.2.4, and the classes that inherit from them
BASES = {
    "BaseRedisBroker": ("PubSubBroker", "ListQueueBroker", "RedisStreamBroker"),
    "BaseRedisClusterBroker": (
        "PubSubClusterBroker",
        "ListQueueClusterBroker",
        "RedisStreamClusterBroker",
    ),
    "BaseSentinelBroker": (
        "PubSubSentinelBroker",
        "ListQueueSentinelBroker",
        "RedisStreamSentinelBroker",
    ),
}


def both(name: str) -> tuple[Any, Any]:
    """Return a public class and its blocking twin."""
    return getattr(taskiq_redis, name), getattr(taskiq_redis, f"Sync{name}")


def parameters(function: Any) -> list[Parameter]:
    """Return the parameters of a function or class, without annotations."""
    return [
        each.replace(annotation=Parameter.empty)
        for each in inspect.signature(function).parameters.values()
    ]


def options(kind: Any) -> dict[str, Any]:
    """Return the defaults of a constructor's options, by name."""
    return {
        each.name: each.default
        for each in parameters(kind)
        if each.kind is not Parameter.VAR_KEYWORD
    }


def make(kind: Any, **given: Any) -> Any:
    """Create an object for an address where no server listens."""
    if "sentinels" in options(kind):
        return kind([("127.0.0.1", 1)], "mymaster", **given)
    return kind("redis://127.0.0.1:1", **given)
