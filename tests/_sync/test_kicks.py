# Generated from tests/_async/test_kicks.py by scripts/unasync.py; edit that.

"""Sending through bad networks: what returned is there once, and what raised at most once."""

from collections import Counter
from typing import Any

import pytest

from taskiq_redis.exceptions import ServerUnavailableError
from tests._sync.support import build, message, redis_of
from tests._threads import together
from tests.faults.proxy import Proxies, Weather, bad_network
from tests.servers import Topology

MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "stream"])
#: how many callers send at the same time
CALLERS = 10


def through(proxies: Proxies, mechanism: str, **options: Any) -> Any:
    """Make a broker behind proxies."""
    if proxies.topology.kind == "cluster":
        options["address_remap"] = proxies.remap
    return build(proxies.topology, mechanism, **options)


def sent(topology: Topology, mechanism: str, name: str) -> list[bytes]:
    """Return the messages of a queue, the oldest first."""
    client = redis_of(topology)
    if mechanism == "list":
        return list(reversed(client.lrange(name, 0, -1)))
    return [fields[b"data"] for _, fields in client.xrange(name)]


@MECHANISMS
@pytest.mark.parametrize("patience", [20.0, 0.3])
@pytest.mark.parametrize("kicks", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_bad_network_neither_doubles_nor_loses(
    topology: Topology, name: str, mechanism: str, patience: float, kicks: int
) -> None:
    weather = Weather(seed=kicks, delay=0.3)
    returned: list[bytes] = []
    raised: list[bytes] = []
    with bad_network(topology, weather) as proxies:
        options = {"queue_name": name, "socket_timeout": 0.15, "kick_timeout": patience}
        broker = through(proxies, mechanism, **options)
        # Connected in fair weather: a client that can't learn the slots of a cluster is no test.
        broker.kick(message(b"first"))
        weather.share = 0.25

        def caller(number: int) -> None:
            for kick in range(number, kicks, CALLERS):
                data = b"%d" % kick
                try:
                    broker.kick(message(data))
                except ServerUnavailableError:
                    raised.append(data)
                else:
                    returned.append(data)

        together(*[lambda number=number: caller(number) for number in range(CALLERS)])
        weather.share = 0.0
        broker.kick(message(b"last"))
        proxies.settle()
        broker.shutdown()
    found = Counter(sent(topology, mechanism, name))
    assert weather.seen["lose the reply"] > 0
    assert weather.seen["delay the request"] > 0
    assert len(returned) + len(raised) == kicks
    assert {data: found[data] for data in returned if found[data] != 1} == {}
    assert {data: found[data] for data in raised if found[data] > 1} == {}
    if patience > 10:
        assert raised == []
