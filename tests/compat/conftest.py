"""What the tests of this directory have in common."""

import pytest

from tests.compat.recorded import SERIALIZERS, serializer_of


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
