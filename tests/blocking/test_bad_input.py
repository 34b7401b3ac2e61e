"""What only the blocking twins can get wrong: a client of a cluster that connects when it is made."""

import pytest

from taskiq_redis import SyncListQueueClusterBroker
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError
from tests.servers import ServerProcess


def test_the_client_of_a_cluster_that_is_away() -> None:
    broker = SyncListQueueClusterBroker("redis://127.0.0.1:1")
    with pytest.raises(ServerUnavailableError, match=r"Redis Cluster at .* did not answer: Error"):
        _ = broker.redis


def test_the_client_of_a_cluster_that_is_none() -> None:
    with ServerProcess() as lonely:
        broker = SyncListQueueClusterBroker(lonely.url)
        with pytest.raises(CommandRefusedError, match="use the class without Cluster in its name"):
            _ = broker.redis
