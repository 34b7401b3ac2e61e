"""What `to_sync` copies to the blocking twin, and what it refuses."""

import asyncio
from typing import Any

import pytest
import redis.asyncio.connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from taskiq import SimpleRetryMiddleware, ZeroMQBroker
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.serializers import JSONSerializer, PickleSerializer

import taskiq_redis
from taskiq_redis import to_sync
from taskiq_redis.exceptions import InvalidOptionError, NoBlockingTwinError
from tests.parity.classes import CLASSES

URL = "redis://127.0.0.1:1"
SENTINELS = [("127.0.0.1", 1)]


def make(name: str, **options: Any) -> Any:
    """Create an object of a public class for an address where no server listens."""
    where = (SENTINELS, "master") if "Sentinel" in name else (URL,)
    return getattr(taskiq_redis, name)(*where, **options)


#: attributes that identify a consumer, so a twin has its own
UNIQUE = {"consumer_name", "_unique_name"}


@pytest.mark.smoke
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_twin(name: str) -> None:
    source = make(name)
    twin: Any = to_sync(source)
    assert type(twin) is getattr(taskiq_redis, f"Sync{name}")
    assert twin._connection.server == source._connection.server
    for attribute, value in vars(source).items():
        if isinstance(value, str | int | bool | None) and attribute not in UNIQUE:
            assert getattr(twin, attribute) == value, attribute


def test_twin_copies_settings_of_broker() -> None:
    middleware = SimpleRetryMiddleware()
    serializer, results = PickleSerializer(), JSONSerializer()
    source = taskiq_redis.RedisStreamBroker(URL, queue_name="q").with_middlewares(middleware)
    source.with_serializer(serializer).with_id_generator(lambda: "id")
    source.with_formatter(JSONFormatter())
    source.with_result_backend(taskiq_redis.RedisAsyncResultBackend(URL, serializer=results))
    source.queue_name = "changed"
    twin = to_sync(source)
    assert twin.queue_name == "changed"
    assert twin.serializer is serializer
    assert twin.formatter is source.formatter
    assert twin.id_generator() == "id"
    assert isinstance(twin.result_backend, taskiq_redis.SyncRedisAsyncResultBackend)
    assert twin.result_backend.serializer is results
    assert twin.middlewares == [middleware]
    assert middleware.broker is source


def test_twin_finds_tasks_declared_later() -> None:
    source = taskiq_redis.RedisStreamBroker(URL)
    twin = to_sync(source)

    @source.task("later", label="x")
    async def later() -> int:
        return 1

    assert twin.kicker("later").labels == {"label": "x"}
    assert twin.kicker("later").return_type is int


def test_twin_gets_its_own_consumer_name() -> None:
    source = taskiq_redis.RedisStreamBroker(URL, consumer_name="me")
    twin: Any = to_sync(source)
    assert twin.consumer_name != "me"


def test_subclass_gets_twin_of_its_base() -> None:
    class Own(taskiq_redis.ListQueueBroker):
        pass

    assert type(to_sync(Own(URL))) is taskiq_redis.SyncListQueueBroker


async def on_connect(connection: redis.asyncio.connection.Connection) -> None:
    """Connect with an async client."""
    await connection.on_connect()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("connection_class", redis.asyncio.connection.Connection),
        ("retry", Retry(NoBackoff(), 3)),
        ("queue_class", asyncio.LifoQueue),
        ("redis_connect_func", on_connect),
    ],
)
def test_asyncio_only_option_is_refused_by_name(option: str, value: Any) -> None:
    options = {option: value}
    source: Any = taskiq_redis.RedisAsyncResultBackend(URL, **options)
    with pytest.raises(NoBlockingTwinError, match=f"`{option}`"):
        to_sync(source)


def test_asyncio_only_sentinel_option_is_refused() -> None:
    source = make("ListQueueSentinelBroker", sentinel_kwargs={"retry": Retry(NoBackoff(), 3)})
    with pytest.raises(NoBlockingTwinError, match="`retry`"):
        to_sync(source)


def test_object_of_another_package_is_refused() -> None:
    with pytest.raises(NoBlockingTwinError, match="ZeroMQBroker"):
        to_sync(ZeroMQBroker.__new__(ZeroMQBroker))


def test_sync_classes_refuse_asyncio_only_options() -> None:
    with pytest.raises(InvalidOptionError, match="connection_class"):
        taskiq_redis.SyncListQueueBroker(URL, connection_class=redis.asyncio.connection.Connection)
    with pytest.raises(InvalidOptionError, match="retry"):
        taskiq_redis.SyncListQueueBroker(URL, retry=Retry(NoBackoff(), 3))


@pytest.mark.parametrize("name", CLASSES)
def test_twin_has_the_signer(name: str) -> None:
    signer = taskiq_redis.Signer({"k": b"x" * 32})
    source = make(name)
    assert to_sync(source)._value_signer is None
    assert to_sync(source.with_signer(signer))._value_signer is signer


def test_twin_of_a_broker_has_its_allowed_queues_and_the_signer_of_its_results() -> None:
    signer = taskiq_redis.Signer({"k": b"x" * 32})
    results: Any = taskiq_redis.RedisAsyncResultBackend(URL)
    source: Any = taskiq_redis.ListQueueBroker(URL).with_allowed_queues("q")
    twin: Any = to_sync(source.with_result_backend(results.with_signer(signer)))
    assert twin._allowed_queues == {"q"}
    assert twin._value_signer is None
    assert twin.result_backend._value_signer is signer
