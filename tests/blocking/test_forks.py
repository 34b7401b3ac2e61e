"""A forked child closes its copies of the parent's sockets."""

from typing import Any

import pytest

from taskiq_redis._drivers.blocking import _connections_of
from tests._sync.support import message, opened
from tests.forks import in_child
from tests.servers import Topology


def open_sockets(client: Any) -> int:
    return sum(connection._sock is not None for connection in _connections_of(client))


@pytest.mark.smoke
def test_a_child_closes_inherited_sockets_and_the_parent_keeps_them(
    topology: Topology, name: str
) -> None:
    with opened(topology, "list", queue_name=name) as broker:
        broker.kick(message(b"a"))
        client = broker._connection.client
        assert open_sockets(client) > 0

        def check() -> None:
            assert open_sockets(client) == 0

        assert in_child(check) == 0
        assert open_sockets(client) > 0
        broker.kick(message(b"b"))
