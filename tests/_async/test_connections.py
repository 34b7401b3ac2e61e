"""Connections are opened with the given options, reused and closed."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from taskiq_redis._async.clients import SingleNodeClients, sentinel_of, with_timeout
from taskiq_redis._async.connection import execute
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis._drivers.aio import is_ready
from taskiq_redis.exceptions import CommandRefusedError, InvalidOptionError
from tests._aio import Running, run_elsewhere, together, wait_until
from tests._async.support import (
    build,
    connections_named,
    message,
    on_all_nodes,
    opened,
    result,
    take,
)
from tests.leaks import PASSWORD
from tests.servers import LocalSentinel, ServerProcess, Topology, client_of

pytestmark = pytest.mark.anyio


def single_at(url: str) -> Topology:
    """Return the topology of a single server."""
    return Topology(kind="single", url=url)


async def check_works(topology: Topology, name: str, **options: Any) -> None:
    """Check that brokers and a result backend work."""
    for mechanism in ("list", "stream"):
        async with opened(topology, mechanism, queue_name=name + mechanism, **options) as broker:
            await broker.kick(message(b"a"))
            assert await take(broker, 1) == [b"a"]
    async with opened(topology, "results", prefix_str=name, **options) as backend:
        await backend.set_result("id", result(1))
        assert (await backend.get_result("id")).return_value == 1


@pytest.fixture
def user(topology: Topology, name: str) -> Any:
    """The name of a user with a password, on every node."""
    rules = {"enabled": True, "passwords": [f"+{PASSWORD}"], "categories": ["+@all"]}
    rules |= {"keys": ["*"], "channels": ["*"]}
    on_all_nodes(topology, lambda node: node.acl_setuser(name, **rules))
    yield name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_username_and_password_are_used(topology: Topology, name: str, user: str) -> None:
    await check_works(topology, name, username=user, password=PASSWORD)


async def test_credential_provider_is_used(topology: Topology, name: str, user: str) -> None:
    provider = UsernamePasswordCredentialProvider(user, PASSWORD)
    await check_works(topology, name, credential_provider=provider)


async def test_wrong_password_is_reported_without_the_password(
    topology: Topology, name: str, user: str
) -> None:
    async with opened(topology, "list", username=user, password=f"{PASSWORD}?") as broker:
        with pytest.raises(CommandRefusedError, match="password") as error:
            await broker.kick(message(b"a"))
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("option", ["cache", "cache_config"])
async def test_client_side_cache_is_refused(topology: Topology, option: str) -> None:
    options: dict[str, Any] = {option: object()}
    with pytest.raises(InvalidOptionError, match=f"{option}.*caching would save nothing"):
        build(topology, "results", **options)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_user_and_database_in_url_are_used(topology: Topology, name: str, user: str) -> None:
    address = topology.url.removeprefix("redis://").partition("/")[0]
    await check_works(single_at(f"redis://{user}:{quote(PASSWORD)}@{address}/1?protocol=3"), name)


async def test_unix_socket_works(tmp_path: Path, name: str) -> None:
    socket = tmp_path / "s"
    with ServerProcess(extra={"unixsocket": str(socket), "unixsocketperm": "700"}):
        await check_works(single_at(f"unix://{socket}"), name)


async def test_commands_wait_for_a_connection_of_a_small_pool(
    topology: Topology, name: str
) -> None:
    small_pool = {"max_connections": 2} if topology.kind == "sentinel" else {}
    if topology.kind != "sentinel":
        small_pool = {"max_connection_pool_size": 2}
    async with opened(topology, "list", queue_name=name, **small_pool) as broker:
        kick = partial(broker.kick, message(b"a"))
        await together(*[kick for _ in range(50)])
        assert client_of(topology).llen(name) == 50


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_connections_are_not_shared_by_concurrent_commands(
    topology: Topology, name: str, size: int
) -> None:
    small_pool: dict[str, Any] = {"max_connection_pool_size": size, "client_name": name}
    async with opened(topology, "list", **small_pool) as broker:
        client = broker._connection.client

        async def echo(number: int) -> bool:
            return bool(await execute(client, "ECHO", number) == str(number).encode())

        assert all(await together(*[partial(echo, number) for number in range(300)]))
        assert 0 < len(connections_named(topology, name)) <= size
        # All connections of the pool can be in use at once.
        pool: Any = client.connection_pool
        taken = [await pool.get_connection() for _ in range(size)]
        assert len(set(taken)) == size
        for connection in taken:
            await pool.release(connection)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_all_waiters_for_a_connection_get_one(topology: Topology, name: str) -> None:
    small_pool: dict[str, Any] = {"max_connection_pool_size": 2, "client_name": name}
    async with opened(topology, "list", **small_pool) as broker:
        pool: Any = broker._connection.client.connection_pool
        taken, got = [await pool.get_connection() for _ in range(2)], list[Any]()

        async def take() -> None:
            got.append(await pool.get_connection())

        async def all_are_queued() -> bool:
            return len(pool._queued) == 2

        async def all_got_one() -> bool:
            return len(got) == 2

        async with Running(take), Running(take):
            await wait_until(all_are_queued)
            for connection in taken:
                await pool.release(connection)
            await wait_until(all_got_one)
        for connection in got:
            await pool.release(connection)
        assert len(connections_named(topology, name)) == 2


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_idle_connection_that_was_closed_is_not_used(topology: Topology, name: str) -> None:
    async with opened(topology, "pubsub", queue_name=name, client_name=name) as broker:
        await broker.kick(message(b"a"))
        node = client_of(topology)
        (ours,) = [client for client in node.client_list() if client["name"] == name]
        node.client_kill_filter(_id=ours["id"])

        pool: Any = broker._connection.client.connection_pool

        async def is_closed() -> bool:
            return not await is_ready(pool._idle[0])

        await wait_until(is_closed)
        # PUBLISH is never retried after an error, so the pool must open a new connection.
        await broker.kick(message(b"b"))
        assert connections_named(topology, name)


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
async def test_options_in_url_are_used(topology: Topology, name: str) -> None:
    target = replace(topology, url=f"{topology.url}?decode_responses=yes&max_connections=2")
    async with opened(target, "list", queue_name=name) as broker:
        kick = partial(broker.kick, message(b"\xff"))
        await together(*[kick for _ in range(50)])
        assert await take(broker, 50) == [b"\xff"] * 50


@pytest.mark.full
@pytest.mark.parametrize("options", [{}, {"sentinel_kwargs": {}}], ids=["default", "chosen"])
async def test_silent_sentinel_is_skipped(name: str, options: dict[str, Any]) -> None:
    with LocalSentinel(down_after=60_000) as servers:
        topology = servers.topology
        servers.sentinels[0].pause()
        async with opened(topology, "list", queue_name=name, **options) as broker:
            await broker.kick(message(b"a"))
        servers.sentinels[0].resume()
        assert client_of(topology).llen(name) == 1


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_unreachable_sentinel_stays_in_the_list(topology: Topology, name: str) -> None:
    down = replace(topology, sentinels=(("127.0.0.1", 1), *topology.sentinels))
    async with opened(down, "results", prefix_str=name) as backend:
        sentinel = sentinel_of(backend._connection.client)
        known = {*sentinel.sentinels}
        await together(*[partial(sentinel.discover_master, topology.master_name)] * 10)
        assert len(sentinel.sentinels) == len(known)
        assert {*sentinel.sentinels} == known


async def test_connections_are_reused_for_many_messages(topology: Topology, name: str) -> None:
    seen: set[str] = set()
    async with opened(topology, "stream", queue_name=name, client_name=name) as broker:
        for _ in range(100):
            await broker.kick(message(b"a"))
            now = connections_named(topology, name)
            assert now, "no connection was kept"
            seen |= now
    assert len(seen) < 20


async def test_shutdown_leaves_no_connection_open(topology: Topology, name: str) -> None:
    async def no_connections() -> bool:
        return not connections_named(topology, name)

    for mechanism in ("list", "stream"):
        own = f"{name}-{mechanism}"
        async with opened(topology, mechanism, queue_name=own, client_name=name) as broker:
            await broker.kick(message(b"a"))
            assert await take(broker, 1) == [b"a"]
            assert not await no_connections()
        await wait_until(no_connections)
    async with opened(topology, "results", prefix_str=name, client_name=name) as backend:
        await backend.set_result("id", result(1))
        assert not await no_connections()
    await wait_until(no_connections)


@pytest.mark.parametrize("mechanism", ["list", "results", "indexed"])
async def test_shutdown_closes_all_connections(
    topology: Topology, name: str, mechanism: str
) -> None:
    options = {"list": {"queue_name": name}, "results": {"prefix_str": name}}
    others = {"prefix": f"{{{name}}}"}
    made = build(topology, mechanism, client_name=name, **options.get(mechanism, others))
    if mechanism == "list":
        await together(*[partial(made.kick, message(b"a")) for _ in range(20)])
    elif mechanism == "results":
        reads = [partial(made.is_result_ready, f"{name}{number}") for number in range(20)]
        await together(*reads)
    else:
        await together(*[made.get_schedules for _ in range(20)])
    assert connections_named(topology, name)
    await made.shutdown()

    async def all_closed() -> bool:
        return not connections_named(topology, name)

    await wait_until(all_closed)


async def test_object_can_be_used_on_another_loop_after_shutdown(
    topology: Topology, name: str
) -> None:
    backend = build(topology, "results", prefix_str=name)

    async def store_and_read() -> Any:
        await backend.set_result("id", result(1))
        value = (await backend.get_result("id")).return_value
        await backend.shutdown()
        return value

    assert await run_elsewhere(store_and_read) == 1
    assert await run_elsewhere(store_and_read) == 1
    assert await store_and_read() == 1


async def test_public_attributes_of_1_2_4_can_be_used(topology: Topology, name: str) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        if topology.kind == "single":
            assert broker.connection_pool is broker.connection_pool
        elif topology.kind == "cluster":
            await broker.redis.set(name, 1)
        else:
            assert broker.master_name == topology.master_name
            assert await broker.sentinel.discover_master(broker.master_name)


async def test_public_attributes_of_1_2_4_can_be_replaced_until_shutdown(
    topology: Topology, name: str
) -> None:
    attributes = {"single": "connection_pool", "cluster": "redis", "sentinel": "sentinel"}
    attribute = attributes[topology.kind]
    other = build(topology, "list", client_name=name)
    async with opened(topology, "list", queue_name=name) as broker:
        await broker.kick(message(b"a"))
        assert not connections_named(topology, name)
        setattr(broker, attribute, getattr(other, attribute))
        assert getattr(broker, attribute) is getattr(other, attribute)
        await broker.kick(message(b"b"))
        assert connections_named(topology, name)
        await broker.shutdown()

        async def closed() -> bool:
            return not connections_named(topology, name)

        await wait_until(closed)
        await broker.kick(message(b"c"))
        assert not connections_named(topology, name)
        assert await take(broker, 3) == [b"a", b"b", b"c"]
    await other.shutdown()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_timeout_of_renewals_overrides_those_of_the_user(topology: Topology) -> None:
    url = f"{topology.url}?socket_timeout=77&db=0&retry_on_timeout=yes&socket_connect_timeout=88"
    server = SingleNode(url, connection_kwargs={"socket_timeout": 99, "client_name": "kept"})
    pool: Any = SingleNodeClients(with_timeout(server, 0.25)).make_client().connection_pool
    connection = pool.make_connection()
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.25, 0.25)
    assert (connection.retry.get_retries(), connection.client_name) == (0, "kept")
    cluster = Cluster(topology.url, connection_kwargs={"cluster_error_retry_attempts": 9})
    assert "cluster_error_retry_attempts" not in with_timeout(cluster, 1).connection_kwargs
    sentinel = SentinelMaster([("host", 1)], "master", sentinel_kwargs={"socket_timeout": 99})
    behind: Any = with_timeout(sentinel, 0.25)
    assert behind.sentinel_kwargs["socket_timeout"] == 0.25
