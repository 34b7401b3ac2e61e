"""Which answers of a server lead to a warning of eviction."""

from typing import Any

import pytest

from taskiq_redis._core import notices
from taskiq_redis._core.eviction import check_policy

EVICTS = {"maxmemory": 1, "maxmemory_policy": "allkeys-lfu"}


@pytest.mark.parametrize(
    ("memory", "warns"),
    [
        (EVICTS, True),
        ({"node": EVICTS}, True),
        ({"maxmemory_policy": "allkeys-random"}, True),
        ({**EVICTS, "maxmemory": 0}, False),
        ({**EVICTS, "maxmemory_policy": "volatile-lru"}, False),
        ({**EVICTS, "maxmemory_policy": "noeviction"}, False),
        ({}, False),
        (b"nonsense", False),
    ],
)
def test_only_eviction_of_any_keys_is_warned_of(
    memory: Any, warns: bool, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr(notices, "_logged", set())
    check_policy(memory, "queue", "Redis at redis://host")
    assert ("allkeys-" in caplog.text) == warns
