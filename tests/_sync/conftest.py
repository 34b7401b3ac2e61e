# Generated from tests/_async/conftest.py by scripts/unasync.py; edit that.

"""Fixtures of the behaviour suite."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests._sync.support import on_all_nodes
from tests.leaks import PASSWORD
from tests.servers import HOST, Topology, lease_port, release_port


@pytest.fixture
def user(topology: Topology, name: str) -> Iterator[Any]:
    """Create a user with some rights on every node, and return the options to be that user."""

    def allow(*rules: str) -> dict[str, str]:
        rules = ("reset", "on", f">{PASSWORD}", *rules)
        on_all_nodes(topology, lambda node: node.execute_command("ACL SETUSER", name, *rules))
        return {"username": name, "password": PASSWORD}

    yield allow
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port without a listener."""
    port = lease_port()
    yield port
    release_port(port)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never replies."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def prefix(name: str) -> str:
    """A prefix of schedules, whose keys share a slot."""
    return f"{{{name}}}:app:schedule"
