"""A worker warns of a server that may evict its queue."""

from collections.abc import Iterator
from typing import Any

import pytest

from taskiq_redis._core import notices
from tests._async.support import opened
from tests.servers import ServerProcess, Topology, close_client

pytestmark = pytest.mark.anyio


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


async def start_worker(topology: Topology, mechanism: str, **options: Any) -> None:
    async with opened(topology, mechanism, **options) as broker:
        broker.is_worker_process = True
        await broker.startup()


@pytest.mark.parametrize("mechanism", ["stream", "list"])
async def test_worker_warns_once_of_a_server_that_evicts_any_keys(
    evicting_server: Topology, mechanism: str, name: str, caplog: Any
) -> None:
    for _ in range(2):
        await start_worker(evicting_server, mechanism, queue_name=name)
    (text,) = caplog.messages
    assert "`maxmemory-policy` allkeys-lru" in text
    assert name in text


async def test_senders_and_listeners_of_channels_do_not_warn(
    evicting_server: Topology, name: str, caplog: Any
) -> None:
    await start_worker(evicting_server, "pubsub", queue_name=name)
    async with opened(evicting_server, "stream", queue_name=name) as broker:
        await broker.startup()
    assert caplog.messages == []


async def test_worker_without_right_to_info_logs_nothing(
    topology: Topology, name: str, user: Any, caplog: Any
) -> None:
    rights = user("+@all", "~*", "-info")
    await start_worker(topology, "stream", queue_name=name, **rights)
    assert caplog.messages == []
