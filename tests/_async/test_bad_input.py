"""Errors for wrong options, servers, rights, keys and values, on every topology."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis.exceptions import (
    CommandRefusedError,
    InvalidOptionError,
    ResultIsMissingError,
    ScheduleEncodeError,
    ServerUnavailableError,
    ValueTooLargeError,
    WrongKeyTypeError,
)
from tests._aio import wait_until
from tests._async.support import (
    Listener,
    build,
    message,
    on_all_nodes,
    opened,
    redis_of,
    result,
    take,
)
from tests.servers import (
    HOST,
    KINDS,
    LocalCluster,
    LocalSentinel,
    ServerProcess,
    Topology,
    keys_of,
    lease_port,
    probe,
    release_port,
)
from tests.tls import tls_in_front_of

pytestmark = pytest.mark.anyio

QUEUES = ["list", "stream"]
BROKERS = [*QUEUES, "pubsub"]
SOURCES = ["keys", "indexed"]
MECHANISMS = [*BROKERS, "results", *SOURCES]
ON = {kind: pytest.mark.parametrize("topology", [kind], indirect=True) for kind in KINDS}
#: let sending fail soon if the server can't be reached
FAIL_SOON = {"kick_timeout": 0.2}
MEBIBYTE = 2**20


def at_port(topology: Topology, port: int, scheme: str = "redis") -> Topology:
    """Return a topology of the same kind at_port another port."""
    return replace(topology, url=f"{scheme}://{HOST}:{port}", sentinels=((HOST, port),))


async def use(made: Any, mechanism: str) -> None:
    """Call a method that needs the server."""
    if mechanism in BROKERS:
        await made.kick(message(b"a"))
    elif mechanism == "results":
        await made.set_result("id", result(1))
    elif mechanism == "progress":
        await made.set_progress("id", TaskProgress(state="x", meta=None))
    else:
        await made.add_schedule(schedule())


def schedule(schedule_id: str = "id", **when: Any) -> ScheduledTask:
    """Return a schedule, a cron unless `when` says otherwise."""
    return ScheduledTask(
        task_name="task",
        labels={},
        args=[],
        kwargs={},
        schedule_id=schedule_id,
        **(when or {"cron": "* * * * *"}),
    )


def names_of(mechanism: str, name: str) -> dict[str, str]:
    """Return the option that determines the keys of an object."""
    if mechanism in BROKERS:
        return {"queue_name": name}
    return {"prefix_str": name} if mechanism == "results" else {"prefix": f"{{{name}}}"}


# --- Servers that can't be reached ---------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port without a listener."""
    port = lease_port()
    yield port
    release_port(port)


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
        assert text.endswith("the password for sentinels in `sentinel_kwargs`.")
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


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never replies."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


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


async def test_tls_client_on_plain_port_is_reported(topology: Topology) -> None:
    plain = topology.nodes[0][1]
    tls_topology = at_port(topology, plain, "rediss") if topology.kind != "sentinel" else topology
    options: dict[str, Any] = {"ssl": True} if topology.kind == "sentinel" else {}
    options |= {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, **FAIL_SOON}
    async with opened(tls_topology, "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="both sides use TLS or neither does"):
            await broker.kick(message(b"a"))


@pytest.fixture
def tls(topology: Topology, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A TLS port, and the file with its CA certificate."""
    ca_file = tmp_path / "ca.pem"
    with tls_in_front_of(topology.nodes[0], ca_file) as port:
        yield port, str(ca_file)


@ON["single"]
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_tls_connection_works(
    topology: Topology, name: str, mechanism: str, tls: tuple[int, str]
) -> None:
    port, ca_file = tls
    options = {"ssl_ca_certs": ca_file, **names_of(mechanism, name)}
    async with opened(at_port(topology, port, "rediss"), mechanism, **options) as made:
        await use(made, mechanism)


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
async def test_plain_client_on_tls_port_is_reported(
    topology: Topology, tls: tuple[int, str]
) -> None:
    async with opened(at_port(topology, tls[0]), "list", **FAIL_SOON) as broker:
        with pytest.raises((ServerUnavailableError, CommandRefusedError), match="TLS"):
            await broker.kick(message(b"a"))


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
async def test_untrusted_certificate_is_reported(topology: Topology, tls: tuple[int, str]) -> None:
    async with opened(at_port(topology, tls[0], "rediss"), "list") as broker:
        with pytest.raises(CommandRefusedError, match=r"host name, and `ssl_ca_certs`\."):
            await broker.kick(message(b"a"))


@ON["single"]
async def test_missing_certificate_file_is_reported(
    topology: Topology, tls: tuple[int, str]
) -> None:
    options = {"ssl_ca_certs": f"{tls[1]}.missing", **FAIL_SOON}
    async with opened(at_port(topology, tls[0], "rediss"), "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="the files in the `ssl_` options"):
            await broker.kick(message(b"a"))


@ON["single"]
async def test_missing_unix_socket_is_reported(topology: Topology, tmp_path: Path) -> None:
    unreachable = replace(topology, url=f"unix://{tmp_path}/none")
    async with opened(unreachable, "list", **FAIL_SOON) as broker:
        with pytest.raises(ServerUnavailableError, match="Check the path of the socket"):
            await broker.kick(message(b"a"))


# --- Missing rights ------------------------------------------------------------------------------


@pytest.fixture
def user(topology: Topology, name: str) -> Iterator[Any]:
    """Create a user with some rights on every node, and return the options to be that user."""

    def allow(*rules: str) -> dict[str, str]:
        rules = ("reset", "on", ">p", *rules)
        on_all_nodes(topology, lambda node: node.execute_command("ACL SETUSER", name, *rules))
        return {"username": name, "password": "p"}

    yield allow
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_wrong_password_is_reported(
    topology: Topology, name: str, mechanism: str, user: Any
) -> None:
    options = {**user("+@all", "~*", "&*"), "password": "wrong", **names_of(mechanism, name)}
    async with opened(topology, mechanism, **options) as made:
        with pytest.raises(CommandRefusedError, match="Check the username and the pass") as error:
            await use(made, mechanism)
        if mechanism in BROKERS:
            made.is_worker_process = True
        # Startup reports it as well, even if it sends nothing else.
        with pytest.raises(CommandRefusedError, match="Check the username and the password"):
            await made.startup()
    assert "wrong" not in str(error.value)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
async def test_missing_password_is_reported(topology: Topology, name: str, mechanism: str) -> None:
    with ServerProcess(extra={"requirepass": "secret"}) as protected:
        options = names_of(mechanism, name)
        async with opened(at_port(topology, protected.port), mechanism, **options) as made:
            with pytest.raises(CommandRefusedError, match="that both are passed"):
                await use(made, mechanism)


@ON["sentinel"]
async def test_missing_sentinel_password_is_reported(topology: Topology, name: str) -> None:
    with LocalSentinel() as servers:
        topology = servers.topology
        for sentinel in servers.sentinels:
            with probe(sentinel.url) as client:
                client.execute_command("ACL SETUSER", "default", "resetpass", ">secret")
        async with opened(topology, "list", queue_name=name, **FAIL_SOON) as broker:
            with pytest.raises(ServerUnavailableError, match=r"uthenticat.*`sentinel_kwargs`"):
                await broker.kick(message(b"a"))
        options = {"sentinel_kwargs": {"password": "secret"}}
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
    ("indexed", ["+@all", "-mget", "~*"], "+mget ~{{{}}}:data:id"),
    ("indexed", ["+@all", "-evalsha", "~*"], "+evalsha ~{{{}}}:data:id ~{{{}}}:due ~{{{}}}:cron"),
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


# --- Keys of another type -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "key"),
    [("results", "{}:id"), ("progress", "{}:id__progress"), ("keys", "{{{}}}:id")],
)
async def test_key_of_another_type_is_not_overwritten(
    topology: Topology, name: str, mechanism: str, key: str
) -> None:
    key = key.format(name)
    redis_of(topology).xadd(key, {"data": "a task, perhaps"})
    kind = "results" if mechanism == "progress" else mechanism
    async with opened(topology, kind, **names_of(kind, name)) as made:
        with pytest.raises(WrongKeyTypeError, match=f"key '{key}', refused a command: WRONGTYPE"):
            await use(made, mechanism)
    assert redis_of(topology).xlen(key) == 1


async def test_stored_result_and_progress_replace_earlier_ones(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "results") as backend:
        for number in range(3):
            await backend.set_result(name, result(number))
            await backend.set_progress(name, TaskProgress(state="x", meta=number))
        assert (await backend.get_result(name)).return_value == 2
        progress = await backend.get_progress(name)
        assert progress is not None
        assert progress.meta == 2


async def test_progress_key_of_another_type_is_reported(topology: Topology, name: str) -> None:
    redis_of(topology).rpush(f"{name}__progress", "a list")
    async with opened(topology, "results") as backend:
        with pytest.raises(WrongKeyTypeError, match=f"key '{name}__progress', refused"):
            await backend.get_progress(name)


#: suffixes of the keys of an indexed source
FOREIGN = ["data:id", "due", "cron", "interval", "time:2030-01-02T03:04"]


@pytest.mark.parametrize("suffix", FOREIGN)
async def test_failed_schedule_change_changes_no_key(
    topology: Topology, name: str, suffix: str
) -> None:
    prefix = f"{{{name}}}"
    time = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
    kinds: dict[str, dict[str, Any]] = {
        "cron": {"cron": "* * * * *"},
        "interval": {"interval": 5},
    }
    when = kinds.get(suffix, {"time": time})
    other = {"cron": "0 0 * * *"} if suffix != "cron" else {"interval": 7}
    key = f"{prefix}:{suffix}"
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule(**when))
        if suffix == "data:id":
            redis_of(topology).delete(key)
        else:
            # Keep the index beside the key of another type.
            redis_of(topology).rename(key, f"{prefix}:kept")
        redis_of(topology).hset(key, "field", "value")
        before = dump(topology, prefix)
        for change in (
            lambda: source.add_schedule(schedule(**when)),
            lambda: source.add_schedule(schedule(**other)),
            lambda: source.delete_schedule("id"),
        ):
            with pytest.raises(WrongKeyTypeError, match=f"WRONGTYPE {key} is a hash, not a "):
                await change()
        assert dump(topology, prefix) == before


def dump(topology: Topology, prefix: str) -> dict[str, bytes]:
    """Return the serialized values of all keys with a prefix."""
    return {key: redis_of(topology).dump(key) for key in keys_of(topology, f"{prefix}*")}


@pytest.mark.parametrize("suffix", ["cron", "interval"])
async def test_index_key_of_another_type_does_not_hide_other_schedules(
    topology: Topology, name: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"{{{name}}}"
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    async with opened(topology, "indexed", prefix=prefix) as source:
        await source.add_schedule(schedule(time=soon))
        redis_of(topology).set(f"{prefix}:{suffix}", "a string")
        assert [task.schedule_id for task in await source.get_schedules()] == ["id"]
    assert (
        f"The schedules in the key '{prefix}:{suffix}' are skipped: it isn't a list." in caplog.text
    )


async def test_due_index_of_another_type_is_reported(topology: Topology, name: str) -> None:
    prefix = f"{{{name}}}"
    redis_of(topology).set(f"{prefix}:due", "a string")
    async with opened(topology, "indexed", prefix=prefix) as source:
        with pytest.raises(WrongKeyTypeError, match=f"key '{prefix}:due', refused"):
            await source.get_schedules()


# --- Values that are too long --------------------------------------------------------------------


@pytest.fixture
def low_limit(topology: Topology) -> Iterator[Topology]:
    """Servers with the smallest limit for values that can be configured, 1 MiB."""
    extra = {"proto-max-bulk-len": str(MEBIBYTE)}
    kinds = {"single": ServerProcess, "cluster": LocalCluster, "sentinel": LocalSentinel}
    with kinds[topology.kind](extra=extra) as servers:
        yield servers.topology


async def test_too_long_value_is_refused(low_limit: Topology, name: str) -> None:
    long = b"x" * (MEBIBYTE + 1)
    error_text = (
        r"refused a command: [0-9,]+ bytes are more than its proto-max-bulk-len of 1,048,576\."
    )
    for mechanism in BROKERS:
        async with opened(low_limit, mechanism, queue_name=f"{name}{mechanism}") as broker:
            with pytest.raises(ValueTooLargeError, match=f"key '{name}{mechanism}', {error_text}"):
                await broker.kick(message(long))
            # The next message gets a working connection.
            await broker.kick(message(b"a"))
            if mechanism in QUEUES:
                assert await take(broker, 1) == [b"a"]
    for mechanism in SOURCES:
        async with opened(low_limit, mechanism, prefix=f"{{{name}}}") as source:
            too_long = schedule(time=datetime.now(timezone.utc)).model_copy(
                update={"args": [long.decode()]}
            )
            with pytest.raises(ValueTooLargeError, match=error_text):
                await source.add_schedule(too_long)
            assert await source.get_schedules() == []
    async with opened(low_limit, "results", prefix_str=name) as backend:
        with pytest.raises(ValueTooLargeError, match=error_text):
            await backend.set_progress("id", TaskProgress(state="x", meta=long.decode()))
        assert await backend.get_progress("id") is None


async def test_too_long_result_is_stored_as_error(
    low_limit: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(low_limit, "results", prefix_str=name) as backend:
        await backend.set_result("id", result("x" * (3 * MEBIBYTE), labels={"a": "b"}))
        read = await backend.get_result("id")
    assert read.is_err
    assert read.labels == {"a": "b"}
    assert "bytes are more than its proto-max-bulk-len" in str(read.error)
    assert "Send where the data is instead of the data" in str(read.error)
    assert "The result of task id is stored as an error." in caplog.text


@ON["single"]
async def test_lost_connection_is_not_reported_as_too_long_value(
    topology: Topology, name: str, silent_port: int
) -> None:
    options = {"socket_timeout": 0.2, **FAIL_SOON}
    async with opened(at_port(topology, silent_port), "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="did not answer"):
            await broker.kick(message(b"x" * 2 * MEBIBYTE))


@pytest.mark.parametrize("may_ask", [True, False])
async def test_long_value_below_the_limit_is_stored(
    topology: Topology, name: str, may_ask: bool, user: Any
) -> None:
    long = "x" * 2 * MEBIBYTE
    options = user("+@all", "~*", *([] if may_ask else ["-config"]))
    async with opened(topology, "results", prefix_str=name, **options) as backend:
        await backend.set_result("id", result(long))
        assert (await backend.get_result("id")).return_value == long


# --- Names ---------------------------------------------------------------------------------------

UNUSUAL_NAMES = ["{a}b", "b{a", "a:b:: ", " ", " a\nb\r\n\0", "ünï ☃ 𝄞", "*?[a]^\\'\"", "x" * 5000]


@pytest.mark.parametrize("mechanism", QUEUES)
async def test_queue_may_have_any_name(topology: Topology, name: str, mechanism: str) -> None:
    for text in UNUSUAL_NAMES:
        options: dict[str, Any] = {"queue_name": f"{text}{name}"}
        if mechanism == "stream":
            options |= {"consumer_group_name": text, "consumer_name": text}
        async with opened(topology, mechanism, **options) as broker:
            await broker.kick(message(b"own"))
            assert await take(broker, 1) == [b"own"]
            # The label may be any text, too.
            await broker.kick(message(b"other", queue_name=f"{name}{text}"))
        async with opened(
            topology, mechanism, **{**options, "queue_name": f"{name}{text}"}
        ) as other:
            assert await take(other, 1) == [b"other"]


async def test_channel_may_have_any_name(topology: Topology, name: str) -> None:
    for text in UNUSUAL_NAMES[::2]:
        async with Listener(build(topology, "pubsub", queue_name=f"{text}{name}")) as listener:

            async def is_received(listener: Listener = listener) -> Any:
                # A message published before the subscription is lost.
                await listener.broker.kick(message(b"a"))
                return listener.got

            await wait_until(is_received)


async def test_task_id_and_prefix_may_be_any_text(topology: Topology, name: str) -> None:
    for text in [*UNUSUAL_NAMES, ""]:
        async with opened(topology, "results", prefix_str=f"{name}{text}") as backend:
            for task_id in (text, f"{text}}}"):
                await backend.set_result(task_id, result(text))
                await backend.set_progress(task_id, TaskProgress(state=text, meta=None))
                assert (await backend.get_result(task_id)).return_value == text
                progress = await backend.get_progress(task_id)
                assert progress is not None
                assert progress.state == text


@pytest.mark.parametrize("mechanism", SOURCES)
async def test_schedule_id_and_prefix_may_be_any_text(
    topology: Topology, name: str, mechanism: str
) -> None:
    for text in UNUSUAL_NAMES:
        async with opened(topology, mechanism, prefix=f"{{{name}}}{text}") as source:
            await source.startup()
            await source.add_schedule(schedule(text))
            (read,) = await source.get_schedules()
            assert read.schedule_id == text
            await source.delete_schedule(text)
            assert await source.get_schedules() == []


@pytest.mark.parametrize("mechanism", BROKERS)
@pytest.mark.parametrize("text", ["a\ud800", "\udcff"])
async def test_message_with_invalid_unicode_in_names_is_refused(
    topology: Topology, name: str, mechanism: str, text: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(InvalidOptionError, match=r"`queue_name`: .* can't be encoded as UTF-8"):
            await broker.kick(message(b"a", queue_name=text))
        with pytest.raises(InvalidOptionError, match=r"`task_id`: .* can't be encoded as UTF-8"):
            await broker.kick(message(b"a").model_copy(update={"task_id": text}))
    assert keys_of(topology, f"*{name}*") == []


async def test_result_of_task_id_with_invalid_unicode_is_refused(
    topology: Topology, name: str
) -> None:
    task_id = f"{name}\ud800"
    async with opened(topology, "results") as backend:
        for call in (
            lambda: backend.set_result(task_id, result(1)),
            lambda: backend.get_result(task_id),
            lambda: backend.is_result_ready(task_id),
            lambda: backend.get_progress(task_id),
            lambda: backend.delete_result(task_id),
        ):
            with pytest.raises(CommandRefusedError, match="Give names and IDs that are valid text"):
                await call()


@pytest.mark.parametrize("mechanism", SOURCES)
async def test_schedule_id_with_invalid_unicode_is_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, prefix=f"{{{name}}}") as source:
        # The default serializer may be the first to refuse it.
        with pytest.raises((CommandRefusedError, ScheduleEncodeError), match="surrogates not"):
            await source.add_schedule(schedule("\ud800"))
        with pytest.raises(CommandRefusedError, match="Give names and IDs that are valid text"):
            await source.delete_schedule("\ud800")


@pytest.mark.parametrize("mechanism", BROKERS)
async def test_empty_task_id_is_refused(topology: Topology, name: str, mechanism: str) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(InvalidOptionError, match="`task_id`: it is empty"):
            await broker.kick(message(b"a").model_copy(update={"task_id": ""}))
    async with opened(topology, "results", prefix_str=name) as backend:
        with pytest.raises(ResultIsMissingError):
            await backend.get_result("")


@pytest.mark.parametrize("mechanism", BROKERS)
async def test_queue_name_without_hash_tag_for_related_keys_is_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    queue = f"{name}}}"
    async with opened(topology, mechanism, queue_name=name) as broker:
        if topology.kind != "cluster":
            await broker.kick(message(b"a", queue_name=queue))
            return
        with pytest.raises(InvalidOptionError) as error:
            await broker.kick(message(b"a", queue_name=queue))
    assert str(error.value) == (
        f"Invalid option `queue_name`: on a cluster, the side keys of '{queue}' would be in another "
        "hash slot. Leave out the closing brace, or put a hash tag such as {app} before it."
    )
    assert keys_of(topology, f"*{name}*") == []


# --- Pool size ----------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["single", "sentinel"], indirect=True)
async def test_exhausted_pool_is_reported(topology: Topology, name: str) -> None:
    size: dict[str, Any] = {"max_connections": 1}
    if topology.kind == "single":
        size = {"max_connection_pool_size": 1, "timeout": 0.1}
    async with opened(topology, "list", queue_name=name, **size, **FAIL_SOON) as broker:
        pool: Any = broker._connection.client.connection_pool
        taken = await pool.get_connection()
        with pytest.raises(ServerUnavailableError) as error:
            await broker.kick(message(b"a"))
        await pool.release(taken)
        assert "raise `max_connection_pool_size` or `max_connections`." in str(error.value)
        assert "can't execute it now" in str(error.value)
        assert redis_of(topology).llen(name) == 0
        await broker.kick(message(b"a"))
        assert redis_of(topology).llen(name) == 1
