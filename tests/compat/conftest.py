"""What the tests of this directory have in common."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.members import Crew, Peers, crew_of
from tests.compat.recorded import SERIALIZERS, serializer_of
from tests.servers import Topology


@pytest.fixture(params=["", "Sync"], ids=["async", "sync"])
def twin(request: pytest.FixtureRequest) -> str:
    """What the name of a class begins with in each twin."""
    prefix: str = request.param
    return prefix


@pytest.fixture(params=SERIALIZERS)
def form(request: pytest.FixtureRequest) -> str:
    """The name of each recorded serializer that is installed."""
    serializer_of(request.param)
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    """Programs of both versions and twins that do what they are told."""
    peers = Peers()
    yield peers
    peers.close()


@pytest.fixture
def crew(topology: Topology, name: str, tmp_path: Path) -> Iterator[Crew]:
    """Starts workers and schedulers of both versions, which end with the test."""
    yield from crew_of(topology, name, tmp_path)
