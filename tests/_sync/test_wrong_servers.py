# Generated from tests/_async/test_wrong_servers.py by scripts/unasync.py; edit that.

"""Connections to a server that isn't the primary any more are dropped."""

from collections.abc import Iterator
from functools import partial

import pytest

from taskiq_redis._sync.connection import execute
from tests._sync.schedules import ids, schedule
from tests._sync.support import Listener, build, message, opened, redis_of, result
from tests._threads import together, wait_until
from tests.faults.endpoint import Endpoint, following_endpoint


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
def test_kicks_reach_new_primary(
    endpoint: Endpoint, name: str, mechanism: str, refusal: str
) -> None:
    with opened(endpoint.topology, mechanism, queue_name=name) as broker:
        client = broker._connection.client
        # Many connections are at hand.
        together(*[partial(execute, client, "BLPOP", "nothing", 1) for _ in range(40)])
        broker.kick(message(b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over(refusal)
        together(*[partial(broker.kick, message(b"after")) for _ in range(10)])
    redis = redis_of(endpoint.primary.topology)
    assert (redis.llen(name) if mechanism == "list" else redis.xlen(name)) == 11


@pytest.mark.full
def test_published_message_reaches_new_primary(endpoint: Endpoint, name: str) -> None:
    with Listener(build(endpoint.topology, "pubsub", queue_name=name)) as listener:
        wait_until(partial(has_subscriber, endpoint, name))
        endpoint.fail_over()
        listener.broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))


def has_subscriber(endpoint: Endpoint, channel: str) -> bool:
    """Return whether a channel of the primary has a subscriber."""
    return bool(redis_of(endpoint.primary.topology).pubsub_numsub(channel)[0][1])


@pytest.mark.full
@on_sentinel_too
@pytest.mark.parametrize("mechanism", ["list", "stream"])
def test_listener_reads_from_new_primary(endpoint: Endpoint, name: str, mechanism: str) -> None:
    with Listener(build(endpoint.topology, mechanism, queue_name=name)) as listener:
        listener.broker.kick(message(b"before"))
        wait_until(partial(listener.has, b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        with opened(endpoint.topology, mechanism, queue_name=name) as sender:
            sender.kick(message(b"after"))
        wait_until(partial(listener.has, b"before", b"after"))


@pytest.mark.full
@on_sentinel_too
def test_lease_is_renewed_and_acknowledged_on_new_primary(endpoint: Endpoint, name: str) -> None:
    broker = build(endpoint.topology, "stream", queue_name=name, idle_timeout=1000)
    with Listener(broker, acknowledge=False) as listener:
        broker.kick(message(b"a"))
        wait_until(partial(listener.has, b"a"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        redis = redis_of(endpoint.primary.topology)
        before = redis.hgetall(f"{{{name}}}:workers:taskiq")

        def is_renewed() -> bool:
            return bool(redis.hgetall(f"{{{name}}}:workers:taskiq") != before)

        wait_until(is_renewed)
        assert listener.has(b"a")
        for held in listener.held:
            held.ack()
        assert redis.xlen(name) == 0


@pytest.mark.full
@on_sentinel_too
def test_result_is_stored_on_new_primary(endpoint: Endpoint, name: str) -> None:
    with opened(endpoint.topology, "results", prefix_str=name) as backend:
        backend.set_result("1", result(1))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        together(
            partial(backend.set_result, "2", result(2)),
            partial(backend.set_result, "3", result(3)),
        )
        found = backend.wait_results(["1", "2", "3"], timeout=30)
        assert {key: each.return_value for key, each in found.items()} == {"1": 1, "2": 2, "3": 3}


@pytest.mark.full
@pytest.mark.parametrize("mechanism", ["keys", "indexed"])
def test_schedule_is_added_on_new_primary(endpoint: Endpoint, name: str, mechanism: str) -> None:
    with opened(endpoint.topology, mechanism, prefix=name) as source:
        source.add_schedule(schedule("1", interval=5))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        source.add_schedule(schedule("2", interval=5))
        assert ids(source.get_schedules()) == ["1", "2"]


@pytest.mark.full
def test_connections_that_the_user_made_are_dropped(endpoint: Endpoint, name: str) -> None:
    with (
        opened(endpoint.topology, "stream", queue_name=name) as broker,
        opened(endpoint.topology, "stream", queue_name=name) as other,
    ):
        other.connection_pool = broker.connection_pool
        other.kick(message(b"before"))
        endpoint.wait_for_replica()
        endpoint.fail_over()
        other.kick(message(b"after"))
        assert redis_of(endpoint.primary.topology).xlen(name) == 2
