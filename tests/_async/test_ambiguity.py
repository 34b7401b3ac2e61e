"""A message whose reply is late isn't sent again: the task would run twice."""

from typing import Any

import pytest

from taskiq_redis.exceptions import ServerUnavailableError
from tests._async.support import message, opened
from tests.servers import LocalCluster, LocalSentinel, ServerProcess, client_of, close_client

pytestmark = [pytest.mark.anyio, pytest.mark.full]


@pytest.mark.parametrize("mechanism", ["list", "stream"])
@pytest.mark.parametrize("kind", [ServerProcess, LocalCluster, LocalSentinel])
async def test_message_is_not_sent_again_after_late_reply(
    kind: type[ServerProcess | LocalCluster | LocalSentinel], name: str, mechanism: str
) -> None:
    options: Any = {"down_after": 60_000} if kind is LocalSentinel else {}
    with kind(**options) as servers:
        topology = servers.topology
        short_timeouts = {"socket_timeout": 0.3, "kick_timeout": 1}
        async with opened(topology, mechanism, queue_name=name, **short_timeouts) as broker:
            await broker.kick(message(b"first"))
            pause(servers)
            with pytest.raises(ServerUnavailableError):
                await broker.kick(message(b"second"))
            resume(servers)
            client = client_of(topology)
            length = client.llen(name) if mechanism == "list" else client.xlen(name)
            assert length <= 2
        close_client(topology)


def data_nodes(servers: ServerProcess | LocalCluster | LocalSentinel) -> list[ServerProcess]:
    """Return the server processes that hold data."""
    if isinstance(servers, ServerProcess):
        return [servers]
    return list(servers.processes if isinstance(servers, LocalCluster) else servers.data)


def pause(servers: ServerProcess | LocalCluster | LocalSentinel) -> None:
    """Stop all data nodes from answering."""
    for node in data_nodes(servers):
        node.pause()


def resume(servers: ServerProcess | LocalCluster | LocalSentinel) -> None:
    """Resume all data nodes; they answer the requests that they received."""
    for node in data_nodes(servers):
        node.resume()
