"""Servers and ports that several processes share."""

from multiprocessing import AuthenticationError
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests import servers
from tests.servers import ServerError, ServerHost, lease_port, release_port


@pytest.mark.usefixtures("no_environment")
def test_host_starts_each_topology_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_CLUSTER_URL", "redis://127.0.0.1:1")
    host = ServerHost()
    try:
        with pytest.raises(AuthenticationError):
            servers.RemoteServers(host.ticket[0], b"wrong").topology("single")
        first, second = (servers.RemoteServers(*host.ticket) for _ in range(2))

        assert first.topology("single") == second.topology("single")
        with pytest.raises(ServerError, match=r"(?s)cluster topology did not start.*127.0.0.1:1"):
            second.topology("cluster")
        found = first.topology("single")
        assert servers.single_is_ready(found.url)
    finally:
        host.close()
    with pytest.raises(RedisConnectionError):
        servers.single_is_ready(found.url)
    assert not Path(host.ticket[0]).parent.exists()


def test_leased_ports_are_distinct_and_low() -> None:
    ports = [lease_port() for _ in range(20)]
    try:
        assert len(set(ports)) == 20
        assert max(ports) + 10_000 < 32_768
    finally:
        for port in ports:
            release_port(port)
