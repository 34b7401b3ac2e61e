"""Messages that Redis can't deliver to listeners of a channel are refused."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from taskiq_redis.exceptions import ValueTooLargeError
from tests._aio import wait_until
from tests._async.bad_input import MEBIBYTE
from tests._async.support import Listener, build, message, opened, redis_of
from tests.servers import ServerProcess, Topology

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A server whose output buffers a test may limit."""
    with ServerProcess() as server:
        yield server


def limit_output(server: ServerProcess, size: int) -> None:
    """Set the hard limit of the output buffers of listeners."""
    redis_of(server.topology).config_set("client-output-buffer-limit", f"pubsub {size} 0 0")


async def test_message_that_no_listener_can_receive_is_refused(
    server: ServerProcess, name: str
) -> None:
    topology = server.topology
    limit_output(server, 2 * MEBIBYTE)
    fitting = b"x" * int(1.7 * MEBIBYTE)
    listening = build(topology, "pubsub", queue_name=name)
    async with opened(topology, "pubsub", queue_name=name) as broker, Listener(listening) as got:

        async def is_listening() -> bool:
            await broker.kick(message(b"first"))
            return b"first" in got.got

        await wait_until(is_listening)
        for length in (2 * MEBIBYTE, 3 * MEBIBYTE):
            with pytest.raises(ValueTooLargeError) as error:
                await broker.kick(message(b"x" * length))
            assert f"key '{name}', refused a command: {length:,} bytes are" in str(error.value)
            assert "(`client-output-buffer-limit` for pubsub), 2,097,152. " in str(error.value)
        await broker.kick(message(fitting))
        await wait_until(partial(has, got, fitting))
        # The limit is read again before another message is refused.
        limit_output(server, 8 * MEBIBYTE)
        longer = b"x" * 3 * MEBIBYTE
        await broker.kick(message(longer))
        await wait_until(partial(has, got, longer))


async def has(listener: Listener, data: bytes) -> bool:
    """Return whether a message was received."""
    return data in listener.got


@pytest.mark.parametrize("may_ask", [True, False])
async def test_message_longer_than_the_default_limit_is_refused(
    topology: Topology, name: str, may_ask: bool, user: Any
) -> None:
    options = user("+@all", "~*", "&*", *([] if may_ask else ["-config"]))
    long = message(b"x" * 34 * MEBIBYTE)
    async with opened(topology, "pubsub", queue_name=name, **options) as broker:
        with pytest.raises(ValueTooLargeError) as error:
            await broker.kick(long)
        text = str(error.value)
        assert ("for pubsub), 33,554,432." if may_ask else "by default), 33,554,432.") in text
        # Without a listener, it is just published.
        broker.max_message_size = 40 * MEBIBYTE
        await broker.kick(long)


async def test_size_chosen_by_the_user_is_kept(topology: Topology, name: str) -> None:
    options = {"queue_name": name, "max_message_size": 10}
    async with opened(topology, "pubsub", **options) as broker:
        await broker.kick(message(b"x" * 10))
        problem = "11 bytes are too much for the `max_message_size` of this broker, 10"
        with pytest.raises(ValueTooLargeError, match=problem):
            await broker.kick(message(b"x" * 11))


async def test_short_messages_cost_no_further_command(
    topology: Topology, name: str, user: Any
) -> None:
    # The user may not do anything else.
    options = user("+publish", "&*", "+@connection", "+cluster", "+command")
    async with opened(topology, "pubsub", queue_name=name, **options) as broker:
        await broker.kick(message(b"x" * 2**16))
