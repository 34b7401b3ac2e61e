# Generated from tests/_async/test_distance.py by scripts/unasync.py; edit that.

"""Servers that are far away: a round trip takes a tenth of a second."""

from functools import partial
from typing import Any

import pytest

from taskiq_redis._sync.batcher import SHOW_DISTANCE
from taskiq_redis._sync.brokers.claims import CLAIM
from taskiq_redis._sync.brokers.delays import PROMOTE
from taskiq_redis._sync.brokers.producer import ENQUEUE
from tests._sync.support import Listener, build, message, opened, result, take
from tests._threads import together, wait_until
from tests.faults.proxy import Distance, Proxies, faulty_network
from tests.servers import Topology

#: s
ROUND_TRIP = 0.1


def through(proxies: Proxies, mechanism: str, **options: Any) -> Any:
    """Build an object that connects through proxies."""
    if proxies.topology.kind == "cluster":
        options["address_remap"] = proxies.remap
    return build(proxies.topology, mechanism, **options)


class DistanceOfWorker(Distance):
    """Counts reads, and requests with two scripts."""

    def __init__(self) -> None:
        super().__init__(ROUND_TRIP, "XREADGROUP")
        self.joined = 0

    def choose(self, request: bytes) -> str:
        """Count a request, and let it pass."""
        self.joined += CLAIM.sha.encode() in request and PROMOTE.sha.encode() in request
        return super().choose(request)


@pytest.mark.full
def test_distant_worker_needs_few_round_trips(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(100)]
    with opened(topology, "stream", queue_name=name) as sender:
        sender.kick_many([message(data) for data in sent])
    distance = DistanceOfWorker()

    def polls_share_round_trips() -> bool:
        return distance.joined > 0

    with faulty_network(topology, distance) as proxies:
        broker = through(proxies, "stream", queue_name=name)
        with Listener(broker, acknowledge=False) as listener:
            wait_until(partial(listener.has, *sent))
            # One fetch per message would be a hundred.
            assert distance.requests < len(sent) / 3
            wait_until(polls_share_round_trips)


@pytest.mark.full
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_many_messages_are_sent_to_a_distant_server_in_few_round_trips(
    topology: Topology, name: str
) -> None:
    distance, sent = Distance(ROUND_TRIP, ENQUEUE.sha), [b"%d" % number for number in range(2000)]
    with faulty_network(topology, distance) as proxies:
        with opened(proxies.topology, "stream", queue_name=name) as broker:
            broker.kick_many([message(data) for data in sent])
    # Twenty, if all batches were as small as those for a server nearby.
    assert distance.requests <= SHOW_DISTANCE + 5
    with opened(topology, "stream", queue_name=name) as reader:
        assert take(reader, len(sent)) == sent


@pytest.mark.full
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_distant_result_does_not_wait_for_the_one_in_flight(topology: Topology, name: str) -> None:
    distance = Distance(ROUND_TRIP, name)
    sent_before_the_first_reply = 0
    with faulty_network(topology, distance) as proxies:
        with opened(proxies.topology, "results", prefix_str=name) as backend:
            for number in range(SHOW_DISTANCE):
                backend.set_result(f"{number}", result())

            def store_first() -> None:
                nonlocal sent_before_the_first_reply
                backend.set_result("first", result())
                sent_before_the_first_reply = distance.requests - before

            def store_second() -> None:
                wait_until(first_is_sent)
                backend.set_result("second", result())

            def first_is_sent() -> bool:
                return distance.requests > before

            # The first time, it opens a second connection. A busy machine may need more.
            for _ in range(10):
                before = distance.requests
                together(store_first, store_second)
                if sent_before_the_first_reply == 2:
                    break
    assert sent_before_the_first_reply == 2
