"""Errors for wrong options, servers, rights, keys and values, on every topology."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from taskiq_redis._async import results
from taskiq_redis.exceptions import (
    CommandRefusedError,
    ServerUnavailableError,
)
from tests._aio import wait_until
from tests._async.bad_input import (
    BROKERS,
    FAIL_SOON,
    MECHANISMS,
    ON,
    QUEUES,
    SOURCES,
    at_port,
    names_of,
    use,
)
from tests._async.schedules import schedule
from tests._async.support import (
    Listener,
    build,
    message,
    opened,
)
from tests.leaks import PASSWORD
from tests.servers import (
    HOST,
    LocalSentinel,
    ServerProcess,
    Topology,
    probe,
)

pytestmark = pytest.mark.anyio


# --- Servers that can't be reached ---------------------------------------------------------------


@pytest.mark.parametrize("mechanism", BROKERS)
async def test_closed_port_is_reported(
    topology: Topology, mechanism: str, closed_port: int
) -> None:
    async with opened(at_port(topology, closed_port), mechanism, **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError) as error:
            await broker.kick(message(b"a"))
    text = str(error.value)
    assert f"connecting to {HOST}:{closed_port}." in text
    if topology.kind == "sentinel":
        assert " was not found: no sentinel returned its address (" in text
        assert "Only `sentinel_kwargs` has the password and the TLS options" in text
    else:
        assert " did not answer: Error " in text
        assert text.endswith("that both sides use TLS or neither does.")


async def test_unknown_host_is_reported(topology: Topology) -> None:
    unreachable = replace(
        topology, url="redis://nohost.invalid", sentinels=(("nohost.invalid", 1),)
    )
    async with opened(unreachable, "list", **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError, match=r"connecting to nohost\.invalid:"):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_silent_server_is_reported(
    topology: Topology, mechanism: str, silent_port: int
) -> None:
    options = {"socket_timeout": 0.2, **FAIL_SOON}
    async with opened(at_port(topology, silent_port), mechanism, **options) as broker:
        with pytest.raises(ServerUnavailableError, match="Timeout"):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("topology", ["single", "sentinel"], indirect=True)
async def test_sockets_have_timeouts_by_default(topology: Topology) -> None:
    async with opened(topology, "results") as backend:
        options = backend._connection.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5, 5)
    unlimited = {"socket_timeout": None, "socket_connect_timeout": None}
    async with opened(topology, "results", **unlimited) as backend:
        options = backend._connection.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (None, None)


# --- Servers of another kind ---------------------------------------------------------------------


@ON["sentinel"]
@pytest.mark.parametrize("mechanism", BROKERS)
async def test_unknown_master_name_is_reported(topology: Topology, mechanism: str) -> None:
    unknown = replace(topology, master_name="other")
    async with opened(unknown, mechanism, **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError) as error:
            await broker.kick(message(b"a"))
    for host, port in topology.sentinels:
        assert f"{host}:{port} knows {topology.master_name!r}" in str(error.value)
    assert "Redis master 'other' of the sentinels" in str(error.value)
    assert "Check `master_name`" in str(error.value)


@ON["sentinel"]
async def test_too_few_sentinels_are_reported(topology: Topology) -> None:
    options = {"min_other_sentinels": 9, **FAIL_SOON}
    async with opened(topology, "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="or sees too few other sentinels"):
            await broker.kick(message(b"a"))


@ON["sentinel"]
async def test_listener_logs_unknown_master_once(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = build(replace(topology, master_name="other"), "list", queue_name=name)
    async with Listener(broker):

        async def is_logged() -> bool:
            return "was not found" in caplog.text

        await wait_until(is_logged)
    assert caplog.text.count(f"Listening to {name!r}") == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("topology", ["cluster", "sentinel"], indirect=True)
async def test_single_server_taken_for_cluster_or_sentinel_is_reported(
    topology: Topology, name: str, mechanism: str
) -> None:
    with ServerProcess() as standalone:
        async with opened(
            at_port(topology, standalone.port), mechanism, **names_of(mechanism, name)
        ) as made:
            with pytest.raises(CommandRefusedError) as error:
                await use(made, mechanism)
    expected = {
        "cluster": "This server is not a cluster node: use the class without Cluster",
        "sentinel": "This server is not a sentinel: check `sentinels`.",
    }
    assert expected[topology.kind] in str(error.value)
    assert f"127.0.0.1:{standalone.port}" in str(error.value)


@ON["cluster"]
@pytest.mark.parametrize("mechanism", [*QUEUES, "results", *SOURCES])
async def test_cluster_node_taken_for_single_server_is_reported(
    topology: Topology, name: str, mechanism: str
) -> None:
    as_single = replace(topology, kind="single")
    refused: list[CommandRefusedError] = []
    # Keys in slots of this node are not refused.
    for number in range(12):
        async with opened(as_single, mechanism, **names_of(mechanism, f"{name}{number}")) as made:
            try:
                await use(made, mechanism)
            except CommandRefusedError as error:
                refused.append(error)
    assert refused
    for text in map(str, refused):
        assert f"'{name}" in text or f"'{{{name}" in text
        assert " refused a command: MOVED " in text
        assert text.endswith("This server is a cluster node: use the Cluster class.")


@ON["cluster"]
async def test_keys_in_several_slots_are_reported(topology: Topology, name: str) -> None:
    as_single = replace(topology, kind="single")
    async with opened(as_single, "indexed", prefix=name) as source:
        with pytest.raises(CommandRefusedError, match=f"write '{{{name}}}' instead of '{name}'"):
            await source.add_schedule(schedule("1", interval=5))


@ON["cluster"]
async def test_database_of_cluster_node_is_reported(topology: Topology, name: str) -> None:
    as_single = replace(topology, kind="single", url=f"{topology.url}/1")
    async with opened(as_single, "list", queue_name=name) as broker:
        # Valkey 9 supports databases in clusters.
        with pytest.raises(
            CommandRefusedError, match=r"use the Cluster class, and|Give the number"
        ):
            await broker.kick(message(b"a"))


@ON["single"]
async def test_missing_database_is_reported(topology: Topology, name: str) -> None:
    out_of_range = replace(topology, url=f"redis://{HOST}:{topology.nodes[0][1]}/99999")
    async with opened(out_of_range, "list", queue_name=name) as broker:
        with pytest.raises(CommandRefusedError, match="Give the number of an existing database"):
            await broker.kick(message(b"a"))


@ON["sentinel"]
async def test_sentinel_taken_for_single_server_is_reported(topology: Topology, name: str) -> None:
    (_, port), *_ = topology.sentinels
    async with opened(at_port(replace(topology, kind="single"), port), "list") as broker:
        with pytest.raises(CommandRefusedError, match=r"or later, and not a sentinel\."):
            await broker.kick(message(b"a"))


@ON["sentinel"]
async def test_replica_taken_for_single_server_is_reported(topology: Topology, name: str) -> None:
    replica = at_port(replace(topology, kind="single"), topology.nodes[1][1])
    async with opened(replica, "list", queue_name=name, **FAIL_SOON) as broker:
        with pytest.raises(
            ServerUnavailableError, match=r"can't execute it now: .*This server is a replica: give"
        ):
            await broker.kick(message(b"a"))


# --- TLS on one side only ------------------------------------------------------------------------


@ON["single"]
async def test_missing_unix_socket_is_reported(topology: Topology, tmp_path: Path) -> None:
    unreachable = replace(topology, url=f"unix://{tmp_path}/none")
    async with opened(unreachable, "list", **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError, match="Check the path of the socket"):
            await broker.kick(message(b"a"))


@pytest.fixture(autouse=True)
def _storing_fails_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a result backend wait only shortly for rights and passwords."""
    monkeypatch.setattr(results, "STORE_RETRY_TIMEOUT", 0.3)


# --- Missing rights ------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_wrong_password_is_reported(
    topology: Topology, name: str, mechanism: str, user: Any
) -> None:
    options = {**user("+@all", "~*", "&*"), "password": f"{PASSWORD}?", **names_of(mechanism, name)}
    async with opened(topology, mechanism, **options) as made:
        with pytest.raises(CommandRefusedError, match="Check the username and the pass") as error:
            await use(made, mechanism)
        # Startup reports it as well, of senders too, even if it sends nothing else.
        with pytest.raises(CommandRefusedError, match="Check the username and the password"):
            await made.startup()
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
async def test_missing_password_is_reported(topology: Topology, name: str, mechanism: str) -> None:
    with ServerProcess(extra={"requirepass": PASSWORD}) as protected:
        options = names_of(mechanism, name)
        async with opened(at_port(topology, protected.port), mechanism, **options) as made:
            for call in (partial(use, made, mechanism), made.startup):
                with pytest.raises(CommandRefusedError, match="that both are passed"):
                    await call()


@ON["sentinel"]
async def test_missing_sentinel_password_is_reported(topology: Topology, name: str) -> None:
    with LocalSentinel() as servers:
        topology = servers.topology
        for sentinel in servers.sentinels:
            with probe(sentinel.url) as client:
                client.execute_command("ACL SETUSER", "default", "resetpass", f">{PASSWORD}")
        async with opened(topology, "list", queue_name=name, **FAIL_SOON) as broker:
            with pytest.raises(ServerUnavailableError, match=r"uthenticat.*`sentinel_kwargs`"):
                await broker.kick(message(b"a"))
        options = {"sentinel_kwargs": {"password": PASSWORD}}
        async with opened(topology, "list", queue_name=name, **options) as broker:
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("mechanism", BROKERS)
async def test_startup_survives_an_outage(
    topology: Topology, name: str, closed_port: int, mechanism: str
) -> None:
    async with opened(at_port(topology, closed_port), "results") as backend:
        await backend.startup()
    if mechanism != "stream":
        async with opened(at_port(topology, closed_port), mechanism) as broker:
            broker.is_worker_process = True
            await broker.startup()


#: mechanism, rules of the user, and the missing rule; `{}` is the name of the test
MISSING_RIGHTS = [
    ("list", ["+@all", "-lpush", "~*"], "+lpush ~{}"),
    ("list", ["+@all", "~other"], "+lpush ~{}"),
    ("stream", ["+@all", "-xadd", "~*"], "+xadd ~{}"),
    ("stream", ["+@all", "~other"], "+xadd ~{}"),
    ("pubsub", ["+@all", "-publish", "&*"], "+publish &{}"),
    ("pubsub", ["+@all", "resetchannels", "&other"], "+publish &{}"),
    ("results", ["+@all", "-set", "~*"], "+set ~{}:id"),
    ("results", ["+@all", "~other"], "+set ~{}:id"),
    ("keys", ["+@all", "-set", "~*"], "+set ~{{{}}}:id"),
    ("indexed", ["+@all", "-evalsha", "~*"], "+evalsha ~{{{}}}:*"),
]


@pytest.mark.parametrize(("mechanism", "rules", "missing"), MISSING_RIGHTS)
async def test_missing_acl_rule_is_named(
    topology: Topology, name: str, mechanism: str, rules: list[str], missing: str, user: Any
) -> None:
    options = {**user(*rules), **names_of(mechanism, name)}
    async with opened(topology, mechanism, **options) as made:
        with pytest.raises(CommandRefusedError) as error:
            await use(made, mechanism)
    rule = missing.format(name, name, name)
    assert f"(ACL SETUSER <user> {rule})." in str(error.value)
    assert name in str(error.value).partition(" refused a command")[0]


@ON["cluster"]
async def test_missing_acl_rule_for_cluster_slots_is_named(
    topology: Topology, name: str, user: Any
) -> None:
    options = user("+@all", "-cluster", "~*")
    async with opened(topology, "list", queue_name=name, **options) as broker:
        with pytest.raises(CommandRefusedError, match=r"<user> \+cluster(\|slots)? "):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize(("mechanism", "command"), [("list", "brpop"), ("stream", "xreadgroup")])
async def test_listener_logs_missing_acl_rule_once(
    topology: Topology,
    name: str,
    mechanism: str,
    command: str,
    user: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = user("+@all", f"-{command}", "~*")
    broker = build(topology, mechanism, queue_name=name, **options)
    await broker.kick(message(b"a"))
    async with Listener(broker) as listener:

        async def is_logged() -> bool:
            return f"(ACL SETUSER <user> +{command} ~{name})" in caplog.text

        await wait_until(is_logged)
        user("+@all", "~*")

        async def is_received() -> bool:
            return listener.got == [b"a"]

        await wait_until(is_received)
    assert caplog.text.count("ACL SETUSER") == 1
    assert "Traceback" not in caplog.text
