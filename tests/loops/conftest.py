"""Makes the many collections of garbage quick."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _old_objects_are_not_looked_at() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
