"""Connections to a server that isn't the primary any more are dropped."""

from collections.abc import Iterator
from functools import partial

import pytest

from taskiq_redis._async.connection import execute
from tests._aio import together, wait_until
from tests._async.schedules import ids, schedule
from tests._async.support import Listener, build, message, opened, redis_of, result
from tests.faults.endpoint import Endpoint, following_endpoint

pytestmark = pytest.mark.anyio


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """An endpoint that follows the primary; parametrised with its kind, by default `single`."""
    with following_endpoint(getattr(request, "param", "single")) as made:
        yield made


on_sentinel_too = pytest.mark.parametrize(
    "endpoint", ["single", pytest.param("sentinel", marks=pytest.mark.slow)], indirect=True
)


@pytest.mark.full
@pytest.mark.parametrize(
    ("endpoint", "refusal"),
    [
        ("single", "READONLY"),
        ("single", "MASTERDOWN"),
        pytest.param("sentinel", "READONLY", marks=pytest.mark.slow),
        ("sentinel", "MASTERDOWN"),
    ],
    indirect=["endpoint"],
)
@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_kicks_reach_new_primary(
    endpoint: Endpoint, name: str, mechanism: str, refusal: str
) -> None:
    async with opened(endpoint.topology, mechanism, queue_name=name) as broker:
        client = broker._connection.client
        # Many connections are at hand.
        await together(*[partial(execute, client, "BLPOP", "nothing", 1) for _ in range(40)])
        await broker.kick(message(b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over(refusal)
        await together(*[partial(broker.kick, message(b"after")) for _ in range(10)])
    redis = redis_of(endpoint.primary.topology)
    assert (redis.llen(name) if mechanism == "list" else redis.xlen(name)) == 11


@pytest.mark.full
async def test_published_message_reaches_new_primary(endpoint: Endpoint, name: str) -> None:
    async with Listener(build(endpoint.topology, "pubsub", queue_name=name)) as listener:
        await wait_until(partial(has_subscriber, endpoint, name))
        endpoint.fail_over()
        await listener.broker.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))


async def has_subscriber(endpoint: Endpoint, channel: str) -> bool:
    """Return whether a channel of the primary has a subscriber."""
    return bool(redis_of(endpoint.primary.topology).pubsub_numsub(channel)[0][1])


@pytest.mark.full
@on_sentinel_too
@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_listener_reads_from_new_primary(
    endpoint: Endpoint, name: str, mechanism: str
) -> None:
    async with Listener(build(endpoint.topology, mechanism, queue_name=name)) as listener:
        await listener.broker.kick(message(b"before"))
        await wait_until(partial(listener.has, b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        async with opened(endpoint.topology, mechanism, queue_name=name) as sender:
            await sender.kick(message(b"after"))
        await wait_until(partial(listener.has, b"before", b"after"))


@pytest.mark.full
@on_sentinel_too
async def test_lease_is_renewed_and_acknowledged_on_new_primary(
    endpoint: Endpoint, name: str
) -> None:
    broker = build(endpoint.topology, "stream", queue_name=name, idle_timeout=1000)
    async with Listener(broker, acknowledge=False) as listener:
        await broker.kick(message(b"a"))
        await wait_until(partial(listener.has, b"a"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        redis = redis_of(endpoint.primary.topology)
        before = redis.hgetall(f"{{{name}}}:workers:taskiq")

        async def is_renewed() -> bool:
            return bool(redis.hgetall(f"{{{name}}}:workers:taskiq") != before)

        await wait_until(is_renewed)
        assert await listener.has(b"a")
        for held in listener.held:
            await held.ack()
        assert redis.xlen(name) == 0


@pytest.mark.full
@on_sentinel_too
async def test_result_is_stored_on_new_primary(endpoint: Endpoint, name: str) -> None:
    async with opened(endpoint.topology, "results", prefix_str=name) as backend:
        await backend.set_result("1", result(1))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        await together(
            partial(backend.set_result, "2", result(2)),
            partial(backend.set_result, "3", result(3)),
        )
        found = await backend.wait_results(["1", "2", "3"], timeout=30)
        assert {key: each.return_value for key, each in found.items()} == {"1": 1, "2": 2, "3": 3}


@pytest.mark.full
@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
async def test_schedule_is_added_on_new_primary(
    endpoint: Endpoint, name: str, mechanism: str
) -> None:
    async with opened(endpoint.topology, mechanism, prefix=name) as source:
        await source.add_schedule(schedule("1", interval=5))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        await source.add_schedule(schedule("2", interval=5))
        assert ids(await source.get_schedules()) == ["1", "2"]


@pytest.mark.full
async def test_connections_that_the_user_made_are_dropped(endpoint: Endpoint, name: str) -> None:
    async with (
        opened(endpoint.topology, "stream", queue_name=name) as broker,
        opened(endpoint.topology, "stream", queue_name=name) as other,
    ):
        other.connection_pool = broker.connection_pool
        await other.kick(message(b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        await other.kick(message(b"after"))
        assert redis_of(endpoint.primary.topology).xlen(name) == 2
