# Generated from tests/_async/test_stop.py by scripts/unasync.py; edit that.

"""`stop()` ends listeners, and leaves everything usable."""

from typing import Any

import pytest

from tests._sync.support import build, data_of, message
from tests._threads import Running, wait_until
from tests.servers import Topology

MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "pubsub", "stream"])


@pytest.mark.smoke
@MECHANISMS
def test_stop_ends_listeners_and_shutdown_allows_new_ones(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name)
    received: list[bytes] = []
    ended: list[str] = []

    def listen() -> None:
        for each in broker.listen():
            data = data_of(each)
            received.append(data)
        ended.append("listener")

    def got_message() -> bool:
        # More than one, as those that are published before the listener subscribes are lost.
        broker.kick(message(b"a"))
        return bool(received)

    def has_ended() -> bool:
        return bool(ended)

    for _ in range(2):
        received.clear()
        ended.clear()
        with Running(listen):
            wait_until(got_message)
            broker.stop()
            wait_until(has_ended)
        broker.shutdown()


def test_a_listener_that_starts_after_stop_ends_at_once(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    broker.stop()
    broker.kick(message(b"a"))
    for _ in broker.listen():
        pytest.fail("it listened")
    broker.shutdown()


def test_fetched_messages_are_handed_back_after_stop(topology: Topology, name: str) -> None:
    broker = build(topology, "stream", queue_name=name)
    sent = [b"%d" % number for number in range(20)]
    for data in sent:
        broker.kick(message(data))
    started: list[bytes] = []
    for each in broker.listen():
        started.append(data_of(each))
        if len(started) == 5:
            broker.stop()
    assert len(started) == 5
    broker.shutdown()
    rest: list[bytes] = []
    next_broker: Any = build(topology, "stream", queue_name=name)
    for each in next_broker.listen():
        rest.append(data_of(each))
        if len(rest) == len(sent) - len(started):
            next_broker.stop()
    assert sorted(started + rest) == sorted(sent)
    next_broker.shutdown()
