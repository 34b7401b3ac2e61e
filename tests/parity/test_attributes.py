"""Objects have the attributes of 1.2.4 before startup and without a server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.sentinel import Sentinel
from taskiq.serializers import JSONSerializer

import taskiq_redis
from tests.parity.classes import ATTRIBUTES, CLASSES, NEW, both, make, options

#: attribute names of options, where they differ from the option's name
RENAMED = {"xread_block": "block", "xread_count": "count"}
#: options that are no attributes in 1.2.4 either
NOT_ATTRIBUTES = {
    "url",
    "redis_url",
    "sentinels",
    "min_other_sentinels",
    "sentinel_kwargs",
    "max_connection_pool_size",
    "task_id_generator",
}


def close(made: Any) -> None:
    """Shut down an object of either twin."""
    ended = made.shutdown()
    if ended is not None:
        asyncio.run(ended)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = make(getattr(taskiq_redis, request.param))
    yield made
    close(made)


def test_table_of_1_2_4_has_all_classes() -> None:
    assert ATTRIBUTES.keys() | NEW == set(CLASSES)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("made", "attributes"),
    [(name, attributes.split()) for name, attributes in ATTRIBUTES.items()],
    indirect=["made"],
    ids=ATTRIBUTES,
)
def test_async_object_has_attributes_of_1_2_4(made: Any, attributes: list[str]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(made, attribute)]
    assert missing == []


@pytest.mark.parametrize(
    ("made", "attributes"),
    [
        (f"Sync{name}", attributes.split())
        for name, attributes in ATTRIBUTES.items()
        if "Cluster" not in name  # the blocking cluster client connects when it is created
    ],
    indirect=["made"],
    ids=[name for name in ATTRIBUTES if "Cluster" not in name],
)
def test_twin_has_attributes_of_1_2_4(made: Any, attributes: list[str]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(made, attribute)]
    assert missing == []


@pytest.mark.parametrize(
    ("made", "attribute", "kind"),
    [
        ("ListQueueBroker", "connection_pool", redis.asyncio.BlockingConnectionPool),
        ("RedisAsyncResultBackend", "redis_pool", redis.asyncio.BlockingConnectionPool),
        ("RedisScheduleSource", "connection_pool", redis.asyncio.BlockingConnectionPool),
        ("ListQueueClusterBroker", "redis", redis.asyncio.RedisCluster),
        ("RedisAsyncClusterResultBackend", "redis", redis.asyncio.RedisCluster),
        ("RedisClusterScheduleSource", "redis", redis.asyncio.RedisCluster),
        ("ListQueueSentinelBroker", "sentinel", Sentinel),
        ("RedisAsyncSentinelResultBackend", "sentinel", Sentinel),
        ("RedisSentinelScheduleSource", "sentinel", Sentinel),
        ("ListQueueSentinelBroker", "master_name", str),
    ],
    indirect=["made"],
)
def test_client_attributes_have_redis_py_types(made: Any, attribute: str, kind: type) -> None:
    value = getattr(made, attribute)
    assert isinstance(value, kind)
    # Each access returns the same object.
    again = getattr(made, attribute)
    assert again is value


GIVEN: dict[str, Any] = {
    "queue_name": "q",
    "kick_timeout": 7.0,
    "track_tasks": True,
    "track_ttl": 60.0,
    "store_tracebacks": True,
    "read_timeout": 8.0,
    "max_message_size": 8,
    "consumer_group_name": "g",
    "consumer_name": "c",
    "consumer_id": "0",
    "mkstream": False,
    "xread_block": 1,
    "approximate": False,
    "idle_timeout": 2,
    "unacknowledged_batch_size": 3,
    "xread_count": 4,
    "additional_streams": {"a": ">"},
    "delete_acked": False,
    "max_deliveries": 9,
    "keep_failed": True,
    "max_dead_letters": 10,
    "dead_letter_ttl": 11.5,
    "unknown_task_timeout": 8.5,
    "keep_results": False,
    "result_ex_time": 5,
    "allowed_exceptions": (ValueError,),
    "max_value_size": 1000,
    "prefix_str": "p",
    "prefix": "{p}",
    "serializer": JSONSerializer(),
    "buffer_size": 6,
    "skip_past_schedules": True,
    "master_name": "mymaster",
}


@pytest.mark.parametrize("name", CLASSES)
def test_option_is_kept_as_attribute(name: str) -> None:
    for kind in both(name):
        taken = {option: GIVEN[option] for option in options(kind) if option in GIVEN}
        taken.pop("master_name", None)
        made = make(kind, **taken)
        for option, value in taken.items():
            assert getattr(made, RENAMED.get(option, option)) == value
        close(made)


@pytest.mark.parametrize("name", CLASSES)
def test_every_option_is_tested_or_known_to_be_no_attribute(name: str) -> None:
    deprecated = {"maxlen", "unacknowledged_lock_timeout"}
    conflicting = {"result_px_time"}  # with `result_ex_time`
    objects = {"result_backend"}
    known = {*GIVEN, *NOT_ATTRIBUTES, *deprecated, *conflicting, *objects}
    assert options(both(name)[0]).keys() - known == set()
