"""Fixtures of the tests of servers."""

import os
from collections.abc import Iterator

import pytest

from tests.servers import ServerProcess


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TEST_REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CI", raising=False)
    # Don't use a Docker engine of this machine.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(extra={"appendonly": "yes", "appendfsync": "always"}) as process:
        yield process
