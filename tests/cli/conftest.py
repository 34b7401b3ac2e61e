"""Fixtures of the tests of the command line."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.support import Commands, make_broker
from tests.servers import Topology

VARIABLES = ("URL", "BROKER", "CLUSTER", "SENTINEL", "MECHANISM", "GROUP", "PREFIX")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore variables of the environment of the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(f"TASKIQ_REDIS_{name}", raising=False)


@pytest.fixture
def mechanism() -> str:
    """The mechanism of the broker."""
    return "stream"


@pytest.fixture
def broker(topology: Topology, mechanism: str, name: str) -> Iterator[Any]:
    """A blocking broker for a queue."""
    made = make_broker(topology, mechanism, name)
    yield made
    made.shutdown()


@pytest.fixture
def command(topology: Topology, mechanism: str, name: str) -> Commands:
    """Run commands for that queue."""
    return Commands(topology, "--queue", name, "--mechanism", mechanism)
