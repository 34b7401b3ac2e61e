"""The attributes of 1.2.4 are there, before startup and without a server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.sentinel import Sentinel
from taskiq.serializers import JSONSerializer

import taskiq_redis
from tests.parity.classes import ATTRIBUTES, CLASSES, NEW, both, make, options

#: what an option is called on the object, if not by its own name
RENAMED = {"xread_block": "block", "xread_count": "count"}
#: what isn't kept under its own name in 1.2.4 either
ELSEWHERE = {
    "url",
    "redis_url",
    "sentinels",
    "min_other_sentinels",
    "sentinel_kwargs",
    "max_connection_pool_size",
    "task_id_generator",
}


def close(made: Any) -> None:
    """End an object of either twin."""
    ended = made.shutdown()
    if ended is not None:
        asyncio.run(ended)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = make(getattr(taskiq_redis, request.param))
    yield made
    close(made)


def test_the_table_of_1_2_4_has_all_classes() -> None:
    assert ATTRIBUTES.keys() | NEW == set(CLASSES)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("made", "attributes"),
    [(name, attributes.split()) for name, attributes in ATTRIBUTES.items()],
    indirect=["made"],
    ids=ATTRIBUTES,
)
def test_an_object_has_the_attributes_of_1_2_4(made: Any, attributes: list[str]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(made, attribute)]
    assert missing == []


@pytest.mark.parametrize(
    ("made", "attributes"),
    [
        (f"Sync{name}", attributes.split())
        for name, attributes in ATTRIBUTES.items()
        if "Cluster" not in name  # a blocking client of a cluster connects when it is made
    ],
    indirect=["made"],
    ids=[name for name in ATTRIBUTES if "Cluster" not in name],
)
def test_so_has_its_twin(made: Any, attributes: list[str]) -> None:
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
def test_what_redis_py_makes_is_of_its_classes(made: Any, attribute: str, kind: type) -> None:
    value = getattr(made, attribute)
    assert isinstance(value, kind)
    # One for the whole life of the object, not a new one each time.
    again = getattr(made, attribute)
    assert again is value


GIVEN: dict[str, Any] = {
    "queue_name": "q",
    "kick_timeout": 7.0,
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
    "keep_results": False,
    "result_ex_time": 5,
    "prefix_str": "p",
    "prefix": "{p}",
    "serializer": JSONSerializer(),
    "buffer_size": 6,
    "skip_past_schedules": True,
    "master_name": "mymaster",
}


@pytest.mark.parametrize("name", CLASSES)
def test_an_option_is_kept_as_an_attribute(name: str) -> None:
    for kind in both(name):
        taken = {option: GIVEN[option] for option in options(kind) if option in GIVEN}
        taken.pop("master_name", None)
        made = make(kind, **taken)
        for option, value in taken.items():
            assert getattr(made, RENAMED.get(option, option)) == value
        close(made)


@pytest.mark.parametrize("name", CLASSES)
def test_every_option_is_tried_above_or_known_to_be_elsewhere(name: str) -> None:
    warned_about = {"maxlen", "unacknowledged_lock_timeout"}
    expired_twice = {"result_px_time"}
    hooks = {"result_backend"}
    known = {*GIVEN, *ELSEWHERE, *warned_about, *expired_twice, *hooks}
    assert options(both(name)[0]).keys() - known == set()
