"""Sending through bad networks: a kick that returned sent once, one that raised at most once."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from taskiq_redis.exceptions import (
    CommandRefusedError,
    ServerUnavailableError,
    WrongKeyTypeError,
)
from tests._aio import Running, sleep, together
from tests._async.support import build, message, on_all_nodes, opened, redis_of
from tests.faults.proxy import FAULTS, FaultInjector, Proxies, faulty_network
from tests.servers import ServerProcess, Topology, client_of, keys_of

pytestmark = pytest.mark.anyio

MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "stream"])
#: number of concurrent callers
CALLERS = 5


def through(proxies: Proxies, mechanism: str, **options: Any) -> Any:
    """Build a broker that connects through proxies."""
    if proxies.topology.kind == "cluster":
        options["address_remap"] = proxies.remap
    return build(proxies.topology, mechanism, **options)


def sent(topology: Topology, mechanism: str, name: str) -> list[bytes]:
    """Return the messages of a queue, the oldest first."""
    client = redis_of(topology)
    if mechanism == "list":
        return list(reversed(client.lrange(name, 0, -1)))
    return [fields[b"data"] for _, fields in client.xrange(name)]


@pytest.mark.full
@MECHANISMS
@pytest.mark.parametrize("kick_timeout", [60.0, 0.5])
@pytest.mark.parametrize("kicks", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_bad_network_neither_duplicates_nor_loses_messages(
    topology: Topology, name: str, mechanism: str, kick_timeout: float, kicks: int
) -> None:
    faults = FaultInjector(name, delay=0.6)
    returned: list[bytes] = []
    raised: list[bytes] = []
    with faulty_network(topology, faults) as proxies:
        options = {"queue_name": name, "socket_timeout": 0.3, "kick_timeout": kick_timeout}
        broker = through(proxies, mechanism, **options)
        # Connect before the faults begin: a cluster client first has to learn the slots.
        await broker.kick(message(b"first"))
        faults.active = True

        async def caller(number: int) -> None:
            for kick in range(number, kicks, CALLERS):
                data = b"%d" % kick
                try:
                    await broker.kick(message(data))
                except ServerUnavailableError:
                    raised.append(data)
                else:
                    returned.append(data)

        callers = [lambda number=number: caller(number) for number in range(CALLERS)]
        await together(*callers, timeout=60 + kicks)
        faults.active = False
        await broker.kick(message(b"last"))
        proxies.wait_for_delayed()
        await broker.shutdown()
    found = Counter(sent(topology, mechanism, name))
    assert all(faults.injected[fault] for fault in FAULTS)
    assert len(returned) + len(raised) == kicks
    assert {data: found[data] for data in returned if found[data] != 1} == {}
    assert {data: found[data] for data in raised if found[data] > 1} == {}
    if kick_timeout > 10:
        assert raised == []


#: commands that a client needs to connect
CONNECT = ["+@connection", "+cluster", "+command"]


@pytest.fixture
def sender(topology: Topology, name: str) -> Iterator[str]:
    """A user with only the rights that sending needs in 1.2.4."""
    rules = {"enabled": True, "nopass": True, "keys": [name]}
    commands = ["+xadd", "+lpush", *CONNECT]
    on_all_nodes(topology, lambda node: node.acl_setuser(name, commands=commands, **rules))
    yield name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


@MECHANISMS
async def test_user_without_scripts_sends_with_one_warning(
    topology: Topology, name: str, mechanism: str, sender: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"queue_name": name, "username": sender, "password": "any"}
    async with opened(topology, mechanism, **options) as broker:
        with caplog.at_level(logging.WARNING, "taskiq_redis"):
            await together(*[lambda: broker.kick(message(b"a"))] * 20)
            await broker.kick(message(b"b"))
    assert Counter(sent(topology, mechanism, name)) == {b"a": 20, b"b": 1}
    (warning,) = caplog.messages
    assert f"{{{name}}}:producer:*" in warning
    assert "EVAL" in warning


@MECHANISMS
async def test_refused_send_names_the_key(
    topology: Topology, name: str, mechanism: str, sender: str
) -> None:
    options = {"queue_name": f"{name}-other", "username": sender, "password": "any"}
    async with opened(topology, mechanism, **options) as broker:
        with pytest.raises(CommandRefusedError, match=f"key '{name}-other'"):
            await broker.kick(message(b"a"))


@pytest.mark.full
@MECHANISMS
async def test_bad_network_does_not_duplicate_messages_sent_without_scripts(
    topology: Topology, name: str, mechanism: str, sender: str
) -> None:
    faults = FaultInjector(name, delay=0.6)
    returned: list[bytes] = []
    with faulty_network(topology, faults) as proxies:
        options = {"queue_name": name, "username": sender, "password": "any"}
        broker = through(proxies, mechanism, **options, socket_timeout=0.3, kick_timeout=1)
        await broker.kick(message(b"first"))
        faults.active = True
        for number in range(30):
            try:
                await broker.kick(message(b"%d" % number))
                returned.append(b"%d" % number)
            except ServerUnavailableError:
                continue
        faults.active = False
        proxies.wait_for_delayed()
        await broker.shutdown()
    found = Counter(sent(topology, mechanism, name))
    assert set(found.values()) == {1}
    assert set(returned) < set(found)


@MECHANISMS
async def test_every_caller_gets_the_refusal_and_later_sends_succeed(
    topology: Topology, name: str, mechanism: str
) -> None:
    client = redis_of(topology)
    client.set(name, "a string")
    refused: list[WrongKeyTypeError] = []
    async with opened(topology, mechanism, queue_name=name) as broker:

        async def kick() -> None:
            with pytest.raises(WrongKeyTypeError, match=name) as error:
                await broker.kick(message(b"a"))
            refused.append(error.value)

        await together(*[kick] * 10)
        client.delete(name)
        await broker.kick(message(b"b"))
    assert len(set(refused)) == 10
    assert sent(topology, mechanism, name) == [b"b"]


@MECHANISMS
async def test_every_caller_gets_the_wrong_password_error(
    topology: Topology, name: str, mechanism: str
) -> None:
    refused: list[CommandRefusedError] = []
    options = {"queue_name": name, "username": "unknown-user", "password": "wrong"}
    async with opened(topology, mechanism, **options) as broker:

        async def kick() -> None:
            with pytest.raises(CommandRefusedError, match="password") as error:
                await broker.kick(message(b"a"))
            refused.append(error.value)

        await together(*[kick] * 10)
    assert len({id(error) for error in refused}) == 10
    assert sent(topology, mechanism, name) == []


@MECHANISMS
async def test_messages_of_one_sender_keep_their_order(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        # More bytes and more messages than fit into one batch.
        data = [b"%d" % number + b"." * 20_000 for number in range(150)]
        for one in data[:10]:
            await broker.kick(message(one))
        await together(*[lambda one=one: broker.kick(message(one)) for one in data[10:]])
        await broker.kick(message(b"last"))
    found = sent(topology, mechanism, name)
    assert found[:10] == data[:10]
    assert sorted(found[10:-1]) == sorted(data[10:])
    assert found[-1] == b"last"


@MECHANISMS
async def test_producer_leaves_one_key_that_expires(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        for _ in range(3):
            await broker.kick(message(b"a"))
    (key,) = [key for key in keys_of(topology, f"*{name}*") if key != name]
    assert key.startswith(f"{{{name}}}:producer:")
    assert 0 < client_of(topology).pttl(key) <= 600_000
    assert client_of(topology).get(key) == b"3"


@MECHANISMS
async def test_kick_waits_until_the_server_is_back(name: str, mechanism: str) -> None:
    with ServerProcess(extra={"appendonly": "yes"}) as server:
        async with opened(server.topology, mechanism, queue_name=name) as broker:
            await broker.kick(message(b"before"))
            topology = server.topology
            server.stop()

            async def kick() -> None:
                await broker.kick(message(b"during"))

            async with Running(kick):
                await sleep(0.3)
                server.start()
            assert sent(topology, mechanism, name) == [b"before", b"during"]


@MECHANISMS
async def test_kick_fails_after_kick_timeout(name: str, mechanism: str) -> None:
    with ServerProcess() as server:
        options = {"queue_name": name, "kick_timeout": 0.2}
        async with opened(server.topology, mechanism, **options) as broker:
            await broker.kick(message(b"a"))
            server.stop()
            errors = await together(*[lambda: failure(broker)] * 5)
            server.start()
            await broker.kick(message(b"b"))
    assert all("did not answer" in error for error in errors)


async def failure(broker: Any) -> str:
    """Return the error message of a kick that fails."""
    with pytest.raises(ServerUnavailableError) as error:
        await broker.kick(message(b"lost"))
    return str(error.value)
