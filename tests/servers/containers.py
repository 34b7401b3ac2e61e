"""A topology in a Docker container."""

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any

from tests.servers.configuration import PORTS_NEEDED, Plan, plans_for
from tests.servers.ports import lease_port, release_port
from tests.servers.probes import describe_plans, plans_are_ready
from tests.servers.topologies import HOST, Kind, ServerError, Topology
from tests.waiting import TIMEOUT, wait_until

DEFAULT_IMAGE = "redis:8-alpine"


class DockerGroup:
    """A topology in one container, with all ports published unchanged on 127.0.0.1.

    The addresses that the servers announce are therefore valid inside and outside the container.
    """

    def __init__(self, kind: Kind) -> None:
        from testcontainers.core.container import DockerContainer

        self.kind = kind
        ports = [lease_port() for _ in range(PORTS_NEEDED[kind])]
        self.plans = plans_for(kind, ports, bind="0.0.0.0")
        image = os.environ.get("TEST_REDIS_IMAGE") or DEFAULT_IMAGE
        self.container = DockerContainer(image).with_command(["sh", "-c", shell_script(self.plans)])
        for port in ports:
            # `with_bind_ports` of testcontainers doesn't support an address.
            ports_of_container: dict[str, Any] = self.container.ports
            ports_of_container[f"{port}/tcp"] = (HOST, port)

    def start(self) -> None:
        """Start the container and wait until the topology can be used."""
        for plan in self.plans:
            release_port(plan.port)
        self.container.start()
        try:
            wait_until(self._is_ready, timeout=TIMEOUT, what=f"{self.kind} in a container")
        except TimeoutError as exc:
            tail = b"".join(self.container.get_logs()).decode(errors="replace")[-3000:]
            msg = f"{exc}\n--- log of the container ---\n{tail}"
            raise ServerError(msg) from exc

    def _is_ready(self) -> bool:
        return plans_are_ready(self.kind, self.plans)

    def close(self) -> None:
        """Remove the container."""
        for plan in self.plans:
            release_port(plan.port)
        self.container.stop()

    @property
    def topology(self) -> Topology:
        """The servers inside the container."""
        return describe_plans(self.kind, self.plans, "docker")


def shell_script(plans: Sequence[Plan]) -> str:
    """Return a script for `sh` that writes the files of all plans, runs the servers and waits."""
    lines = [
        "server=$(command -v valkey-server || command -v redis-server) || exit 1",
        'cd "$(mktemp -d)" || exit 1',
    ]
    for plan in plans:
        lines.append(f"mkdir {plan.port}")
        for name, text in plan.all_files().items():
            lines.append(f"cat > {plan.port}/{name} <<'END'\n{text}END")
        lines.append(f'(cd {plan.port} && exec "$server" {" ".join(plan.arguments())}) &')
    return "\n".join([*lines, "wait\n"])


def docker_answers() -> bool:
    """Return whether a local Docker engine answers, without delay if there is none."""
    scheme, _, path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    # The ports of a remote engine (tcp, ssh) would not be at 127.0.0.1.
    # Try the socket first: docker's client leaks its socket if no engine answers.
    if scheme != "unix" or not _accepts_connections(path):
        return False
    try:
        import docker
        import testcontainers.core.container  # noqa: F401
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False


def _accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(3)
        return sock.connect_ex(path) == 0
