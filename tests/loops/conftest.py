"""Leave most combinations of parameters to long runs."""

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
