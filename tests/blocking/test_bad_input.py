"""Errors of the blocking cluster client, which connects when it is created."""

import pytest

from taskiq_redis import SyncListQueueClusterBroker
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError
from tests.servers import ServerProcess


def test_client_of_unreachable_cluster_raises_server_unavailable() -> None:
    broker = SyncListQueueClusterBroker("redis://127.0.0.1:1")
    with pytest.raises(ServerUnavailableError, match=r"Redis Cluster at .* did not answer: Error"):
        _ = broker.redis


def test_client_of_server_without_cluster_mode_is_refused() -> None:
    with ServerProcess() as server:
        broker = SyncListQueueClusterBroker(server.url)
        with pytest.raises(CommandRefusedError, match="use the class without Cluster in its name"):
            _ = broker.redis
