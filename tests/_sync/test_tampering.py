# Generated from tests/_async/test_tampering.py by scripts/unasync.py; edit that.

"""Keys that another program has changed: no message vanishes, and one bad value hides no other."""

import logging

import pytest

from tests._sync.support import message, opened, redis_of
from tests._sync.test_kicks import sent
from tests._threads import together
from tests.servers import Topology, client_of, keys_of

MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "stream"])

#: what the key with the number of a producer's last batch, which is 1, may be changed to
NUMBERS = ["1", "2", "9999999999", "9" * 400, "inf", "-inf", "nan", "0x10", "1e9", "", "-1", " 2"]


def producer_of(topology: Topology, name: str) -> str:
    """Return the only key with the number of a producer's last batch."""
    (key,) = keys_of(topology, f"*{name}*:producer:*")
    return key


@pytest.mark.smoke
@MECHANISMS
def test_message_is_sent_whatever_the_number_of_the_producer_is(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(topology)
    for index, number in enumerate(NUMBERS):
        queue = f"{name}-{index}"
        with opened(topology, mechanism, queue_name=queue) as broker:
            broker.kick(message(b"first"))
            key = producer_of(topology, queue)
            client.set(key, number)
            caplog.clear()
            together(*[lambda: broker.kick(message(b"second"))] * 3)
            broker.kick(message(b"third"))
        found = sent(topology, mechanism, queue)
        assert found == [b"first", *[b"second"] * 3, b"third"], number
        # A number that isn't higher than that of the last batch does no harm.
        assert [repr(key) in text for text in caplog.messages] == [True] * (number != "1")


@MECHANISMS
def test_delayed_message_is_sent_whatever_the_number_of_the_producer_is(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.kick(message(b"first", delay=100, _delayed=True))
        client_of(topology).set(producer_of(topology, name), "9999999999")
        broker.kick(message(b"second", delay=200, _delayed=True))
    (delayed,) = [key for key in keys_of(topology, f"*{name}*") if ":producer:" not in key]
    found = redis_of(topology).zrange(delayed, 0, -1)
    assert [found[0].endswith(b"first"), found[1].endswith(b"second")] == [True, True]


@MECHANISMS
def test_message_is_sent_if_the_key_of_the_producer_has_another_type(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(topology)
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.kick(message(b"first"))
        key = producer_of(topology, name)
        client.delete(key)
        client.rpush(key, "x")
        broker.kick(message(b"second"))
        broker.kick(message(b"third"))
    assert sent(topology, mechanism, name) == [b"first", b"second", b"third"]
    (warning,) = caplog.messages
    assert repr(key) in warning
    assert client.lrange(key, 0, -1) == [b"x"]


@MECHANISMS
def test_value_of_the_producer_s_key_is_not_logged(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        broker.kick(message(b"first"))
        client_of(topology).set(producer_of(topology, name), b"secret \xff" * 100_000)
        with caplog.at_level(logging.DEBUG, "taskiq_redis"):
            broker.kick(message(b"second"))
    assert "secret" not in caplog.text
    assert sent(topology, mechanism, name) == [b"first", b"second"]
