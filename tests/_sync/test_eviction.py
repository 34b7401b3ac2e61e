# Generated from tests/_async/test_eviction.py by scripts/unasync.py; edit that.

"""A worker warns of a server that may evict its queue."""

from collections.abc import Iterator
from typing import Any

import pytest

from taskiq_redis._core import notices
from tests._sync.support import opened
from tests.servers import ServerProcess, Topology, close_client


@pytest.fixture(scope="module")
def evicting_server() -> Iterator[Topology]:
    """A server that evicts any keys."""
    with ServerProcess(extra={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as server:
        yield server.topology
        close_client(server.url)


@pytest.fixture(autouse=True)
def _logs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process has logged."""
    monkeypatch.setattr(notices, "_logged", set())


def start_worker(topology: Topology, mechanism: str, **options: Any) -> None:
    with opened(topology, mechanism, **options) as broker:
        broker.is_worker_process = True
        broker.startup()


@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_worker_warns_once_of_a_server_that_evicts_any_keys(
    evicting_server: Topology, mechanism: str, name: str, caplog: Any
) -> None:
    for _ in range(2):
        start_worker(evicting_server, mechanism, queue_name=name)
    (text,) = caplog.messages
    assert "`maxmemory-policy` allkeys-lru" in text
    assert name in text


def test_senders_and_listeners_of_channels_do_not_warn(
    evicting_server: Topology, name: str, caplog: Any
) -> None:
    start_worker(evicting_server, "pubsub", queue_name=name)
    with opened(evicting_server, "stream", queue_name=name) as broker:
        broker.startup()
    assert caplog.messages == []


def test_worker_without_right_to_info_logs_nothing(
    topology: Topology, name: str, user: Any, caplog: Any
) -> None:
    rights = user("+@all", "~*", "-info")
    start_worker(topology, "stream", queue_name=name, **rights)
    assert caplog.messages == []
