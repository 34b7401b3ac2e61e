"""Speeds up garbage collections, and leaves most combinations of parameters to long runs."""

import gc
from collections.abc import Iterator

import pytest

from tests.loops.support import KINDS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow all combinations of another topology than single and another loop than asyncio's."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        topology, new_loop = params.get("topology", "single"), params.get("new_loop")
        if topology != "single" and new_loop not in {None, KINDS["asyncio"]}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package", autouse=True)
def _freeze_old_objects() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
