"""Servers in containers, tested without a Docker engine."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import servers
from tests.servers import HOST, ServerError, Servers, client_of, lease_port, release_port
from tests.waiting import wait_until


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
        try:
            assert client_of(found).set("key", "value")
        finally:
            servers.close_client(found.sentinels or found.url)
    finally:
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
