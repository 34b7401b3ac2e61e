"""Makes the many collections of garbage quick, and the many combinations fewer in short runs."""

import gc
from collections.abc import Iterator

import pytest

from tests.loops.support import KINDS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all loops but that of asyncio on all topologies but one to long runs."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        topology, new_loop = params.get("topology", "single"), params.get("new_loop")
        if topology != "single" and new_loop not in {None, KINDS["asyncio"]}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package", autouse=True)
def _old_objects_are_not_looked_at() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
