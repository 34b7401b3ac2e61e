"""Which queues the label `queue_name` may name."""

from enum import Enum
from typing import Any

import pytest
from taskiq.exceptions import SendTaskError

from taskiq_redis.exceptions import InvalidOptionError
from tests._async.support import build, message, opened, redis_of
from tests.servers import Topology, keys_of

pytestmark = pytest.mark.anyio

MECHANISMS = pytest.mark.parametrize("mechanism", ["stream", "list", "pubsub"])


def add(a: int, b: int) -> int:
    """Return the sum, as a task."""
    return a + b


@MECHANISMS
async def test_label_with_another_queue_is_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    text = (
        rf"`queue_name`: a label names the queue '{name}:other', which is not allowed. If tasks "
        r"may be sent there, add it to `with_allowed_queues\(...\)`"
    )
    forged = message(b"x", queue_name=f"{name}:other")
    async with opened(topology, mechanism, queue_name=name) as broker:
        assert broker.with_allowed_queues(f"{name}:allowed") is broker
        with pytest.raises(InvalidOptionError, match=text):
            await broker.kick(forged)
        # None of several messages is sent.
        with pytest.raises(InvalidOptionError, match=text):
            await broker.kick_many([message(b"x"), forged])
        task = broker.register_task(add, task_name="add")
        with pytest.raises(SendTaskError) as caught:
            await task.kicker().with_labels(queue_name=f"{name}:other").kiq(1, 2)
        assert f"'{name}:other', which is not allowed" in str(caught.value.__cause__)
        assert keys_of(topology, f"*{name}*") == []


@pytest.mark.parametrize("mechanism", ["stream", "list"])
async def test_own_and_allowed_queues_are_sent_to(
    topology: Topology, name: str, mechanism: str
) -> None:
    queues = [name, f"{name}:one", f"{name}:second"]
    async with opened(topology, mechanism, queue_name=name) as broker:
        broker.with_allowed_queues(*queues[1:])
        await broker.kick_many([message(b"x", queue_name=queue) for queue in queues])
        await broker.kick(message(b"x"))
        for queue in queues:
            assert redis_of(topology).exists(queue)
        broker.with_allowed_queues()
        with pytest.raises(InvalidOptionError, match="not allowed"):
            await broker.kick(message(b"x", queue_name=queues[1]))
        await broker.kick(message(b"x", queue_name=name))


class Queue(str, Enum):
    """Queues of a program."""

    SLOW = "slow"


async def test_member_of_an_enum_names_its_queue(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        broker.with_allowed_queues(Queue.SLOW)
        assert broker._queue_of(message(b"x", queue_name="slow")) == "slow"
        broker.with_allowed_queues("slow")
        assert broker._queue_of(message(b"x", queue_name=Queue.SLOW)) == "slow"


@pytest.mark.parametrize("wrong", ["", None, 5])
async def test_name_that_is_no_queue_is_refused(topology: Topology, name: str, wrong: Any) -> None:
    broker = build(topology, "stream", queue_name=name)
    with pytest.raises(InvalidOptionError, match="`with_allowed_queues`"):
        broker.with_allowed_queues("a", wrong)
