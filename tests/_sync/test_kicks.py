# Generated from tests/_async/test_kicks.py by scripts/unasync.py; edit that.

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
from tests._sync.support import build, message, on_all_nodes, opened, redis_of
from tests._threads import Running, sleep, together
from tests.faults.proxy import FAULTS, FaultInjector, Proxies, faulty_network
from tests.servers import ServerProcess, Topology, client_of, keys_of

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
def test_bad_network_neither_duplicates_nor_loses_messages(
    topology: Topology, name: str, mechanism: str, kick_timeout: float, kicks: int
) -> None:
    faults = FaultInjector(name, delay=0.6)
    returned: list[bytes] = []
    raised: list[bytes] = []
    with faulty_network(topology, faults) as proxies:
        options = {"queue_name": name, "socket_timeout": 0.3, "kick_timeout": kick_timeout}
        broker = through(proxies, mechanism, **options)
        # Connect before the faults begin: a cluster client first has to learn the slots.
        broker.kick(message(b"first"))
        faults.active = True

        def caller(number: int) -> None:
            for kick in range(number, kicks, CALLERS):
                data = b"%d" % kick
                try:
                    broker.kick(message(data))
                except ServerUnavailableError:
                    raised.append(data)
                else:
                    returned.append(data)

        callers = [lambda number=number: caller(number) for number in range(CALLERS)]
        together(*callers, timeout=60 + kicks)
        faults.active = False
        broker.kick(message(b"last"))
        proxies.wait_for_delayed()
        broker.shutdown()
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
def test_user_without_scripts_sends_with_one_warning(
    topology: Topology, name: str, mechanism: str, sender: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"queue_name": name, "username": sender, "password": "any"}
    with opened(topology, mechanism, **options) as broker:
        with caplog.at_level(logging.WARNING, "taskiq_redis"):
            together(*[lambda: broker.kick(message(b"a"))] * 20)
            broker.kick(message(b"b"))
    assert Counter(sent(topology, mechanism, name)) == {b"a": 20, b"b": 1}
    (warning,) = caplog.messages
    assert f"{{{name}}}:producer:*" in warning
    assert "EVAL" in warning


@MECHANISMS
def test_refused_send_names_the_key(
    topology: Topology, name: str, mechanism: str, sender: str
) -> None:
    options = {"queue_name": f"{name}-other", "username": sender, "password": "any"}
    with opened(topology, mechanism, **options) as broker:
        with pytest.raises(CommandRefusedError, match=f"key '{name}-other'"):
            broker.kick(message(b"a"))


@pytest.mark.full
@MECHANISMS
def test_bad_network_does_not_duplicate_messages_sent_without_scripts(
    topology: Topology, name: str, mechanism: str, sender: str
) -> None:
    faults = FaultInjector(name, delay=0.6)
    returned: list[bytes] = []
    with faulty_network(topology, faults) as proxies:
        options = {"queue_name": name, "username": sender, "password": "any"}
        broker = through(proxies, mechanism, **options, socket_timeout=0.3, kick_timeout=1)
        broker.kick(message(b"first"))
        faults.active = True
        for number in range(30):
            try:
                broker.kick(message(b"%d" % number))
                returned.append(b"%d" % number)
            except ServerUnavailableError:
                continue
        faults.active = False
        proxies.wait_for_delayed()
        broker.shutdown()
    found = Counter(sent(topology, mechanism, name))
    assert set(found.values()) == {1}
    assert set(returned) < set(found)


@MECHANISMS
def test_every_caller_gets_the_refusal_and_later_sends_succeed(
    topology: Topology, name: str, mechanism: str
) -> None:
    client = redis_of(topology)
    client.set(name, "a string")
    refused: list[WrongKeyTypeError] = []
    with opened(topology, mechanism, queue_name=name) as broker:

        def kick() -> None:
            with pytest.raises(WrongKeyTypeError, match=name) as error:
                broker.kick(message(b"a"))
            refused.append(error.value)

        together(*[kick] * 10)
        client.delete(name)
        broker.kick(message(b"b"))
    assert len(set(refused)) == 10
    assert sent(topology, mechanism, name) == [b"b"]


@MECHANISMS
def test_every_caller_gets_the_wrong_password_error(
    topology: Topology, name: str, mechanism: str
) -> None:
    refused: list[CommandRefusedError] = []
    options = {"queue_name": name, "username": "unknown-user", "password": "wrong"}
    with opened(topology, mechanism, **options) as broker:

        def kick() -> None:
            with pytest.raises(CommandRefusedError, match="password") as error:
                broker.kick(message(b"a"))
            refused.append(error.value)

        together(*[kick] * 10)
    assert len({id(error) for error in refused}) == 10
    assert sent(topology, mechanism, name) == []


@MECHANISMS
def test_messages_of_one_sender_keep_their_order(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        # More bytes and more messages than fit into one batch.
        data = [b"%d" % number + b"." * 20_000 for number in range(150)]
        for one in data[:10]:
            broker.kick(message(one))
        together(*[lambda one=one: broker.kick(message(one)) for one in data[10:]])
        broker.kick(message(b"last"))
    found = sent(topology, mechanism, name)
    assert found[:10] == data[:10]
    assert sorted(found[10:-1]) == sorted(data[10:])
    assert found[-1] == b"last"


@MECHANISMS
def test_producer_leaves_one_key_that_expires(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        for _ in range(3):
            broker.kick(message(b"a"))
    (key,) = [key for key in keys_of(topology, f"*{name}*") if key != name]
    assert key.startswith(f"{{{name}}}:producer:")
    assert 0 < client_of(topology).pttl(key) <= 600_000
    assert client_of(topology).get(key) == b"3"


@MECHANISMS
def test_kick_waits_until_the_server_is_back(name: str, mechanism: str) -> None:
    with ServerProcess(extra={"appendonly": "yes"}) as server:
        with opened(server.topology, mechanism, queue_name=name) as broker:
            broker.kick(message(b"before"))
            topology = server.topology
            server.stop()

            def kick() -> None:
                broker.kick(message(b"during"))

            with Running(kick):
                sleep(0.3)
                server.start()
            assert sent(topology, mechanism, name) == [b"before", b"during"]


@MECHANISMS
def test_kick_fails_after_kick_timeout(name: str, mechanism: str) -> None:
    with ServerProcess() as server:
        options = {"queue_name": name, "kick_timeout": 0.2}
        with opened(server.topology, mechanism, **options) as broker:
            broker.kick(message(b"a"))
            server.stop()
            errors = together(*[lambda: failure(broker)] * 5)
            server.start()
            broker.kick(message(b"b"))
    assert all("did not answer" in error for error in errors)


def failure(broker: Any) -> str:
    """Return the error message of a kick that fails."""
    with pytest.raises(ServerUnavailableError) as error:
        broker.kick(message(b"lost"))
    return str(error.value)
