"""Event loops on which asynchronous code has to work."""

from typing import Any

import pytest

ASYNCIO = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop"),
]


@pytest.fixture(params=[*ASYNCIO, pytest.param(("trio", {}), id="trio")])
def any_backend(request: pytest.FixtureRequest) -> Any:
    """Each event loop in turn."""
    return _skip_unless_installed(request.param)


@pytest.fixture(params=ASYNCIO)
def asyncio_backend(request: pytest.FixtureRequest) -> Any:
    """Each event loop that runs tasks of asyncio, in turn."""
    return _skip_unless_installed(request.param)


def _skip_unless_installed(backend: tuple[str, dict[str, Any]]) -> Any:
    if backend[1].get("use_uvloop"):
        pytest.importorskip("uvloop")
    return backend
