"""Fixtures of the compatibility tests."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compat.peers import Launcher, Peers
from tests.compat.recorded import SERIALIZERS, serializer_of
from tests.servers import Topology


@pytest.fixture(params=["", "Sync"], ids=["async", "sync"])
def twin(request: pytest.FixtureRequest) -> str:
    """The prefix of class names in each twin."""
    prefix: str = request.param
    return prefix


@pytest.fixture(params=SERIALIZERS)
def form(request: pytest.FixtureRequest) -> str:
    """The name of each recorded serializer; skip it if it isn't installed."""
    serializer_of(request.param)
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    """Programs of 1.2.4 and of both twins that run functions for a test."""
    peers = Peers()
    yield peers
    peers.close()


@pytest.fixture
def launcher(topology: Topology, name: str, tmp_path: Path) -> Iterator[Launcher]:
    """Start workers and schedulers of both versions, which are killed after the test."""
    with ExitStack() as stack:
        yield Launcher(topology, name, tmp_path, stack)
