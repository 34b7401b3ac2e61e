"""Delayed tasks are cancelled by their IDs."""

import base64
from functools import partial
from typing import Any

import pytest
from taskiq import BrokerMessage, TaskiqMessage
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.serializers import PickleSerializer

from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import delayed_key
from taskiq_redis.exceptions import InvalidOptionError
from tests._aio import together, wait_until
from tests._async.signers import SIGNER
from tests._async.support import Listener, build, opened, redis_of
from tests.servers import Topology

pytestmark = pytest.mark.anyio


def add(a: int, b: int) -> int:
    """Return the sum, as a task."""
    return a + b


async def send(broker: Any, task_id: str, *args: Any, delay: float = 60) -> None:
    """Send a delayed task."""
    task = broker.register_task(add, task_name="add")
    await task.kicker().with_task_id(task_id).with_delay(delay).kiq(*args)


def left(topology: Topology, broker: Any) -> list[str]:
    """Return the IDs of the delayed tasks."""
    queue = broker.queue_name
    members = redis_of(topology).zrange(delayed_key(queue), 0, -1)
    verified = [broker._verify_value("message", queue, member[UNIQUE_BYTES:]) for member in members]
    return sorted(broker.formatter.loads(data).task_id for data in verified)


class Reversed(TaskiqFormatter):
    """A formatter whose messages don't contain the bytes of their task's ID."""

    def __init__(self, formatter: TaskiqFormatter) -> None:
        self._formatter = formatter

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        """Format a task, and encode it."""
        made = self._formatter.dumps(message)
        made.message = base64.b64encode(made.message)
        return made

    def loads(self, message: bytes) -> TaskiqMessage:
        """Decode and parse a task."""
        return self._formatter.loads(base64.b64decode(message))


def make_plain(broker: Any) -> None:
    """Leave a broker as it is."""


def make_signed(broker: Any) -> None:
    """Let a broker sign its messages."""
    broker.with_signer(SIGNER)


def make_pickled(broker: Any) -> None:
    """Let a broker pickle its messages."""
    broker.with_serializer(PickleSerializer())


def make_custom(broker: Any) -> None:
    """Let a broker encode its messages."""
    broker.with_formatter(Reversed(broker.formatter))


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("mechanism", "change"),
    [
        ("list", make_plain),
        ("stream", make_signed),
        ("stream", make_pickled),
        ("list", make_custom),
    ],
)
async def test_delayed_task_is_cancelled_by_its_id(
    topology: Topology, name: str, mechanism: str, change: Any
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        change(broker)
        # In JSON, the last one is escaped.
        ids = ["one", "[one]*", "ü☃\n"]
        for task_id in ids:
            await send(broker, task_id, 1, 2)
        for task_id in ids:
            assert task_id in left(topology, broker)
            assert await broker.cancel_delayed(task_id)
            assert task_id not in left(topology, broker)
            assert not await broker.cancel_delayed(task_id)
        await send(broker, "one", 1, 2)
        assert not await broker.cancel_delayed("one", f"{name}:other")
        async with opened(topology, mechanism, queue_name=f"{name}:other") as other:
            change(other)
            assert await other.cancel_delayed("one", name)


async def test_only_the_task_with_this_id_is_cancelled(topology: Topology, name: str) -> None:
    async with opened(topology, "stream", queue_name=name) as broker:
        assert not await broker.cancel_delayed("x")
        ids = ["x", "xx", "x", "task_id", "add"]
        for task_id in ids:
            await send(broker, task_id, "x", '"task_id": "x"')
        redis_of(topology).zadd(delayed_key(name), {b"0123456789abcdefno message x": 1e15})
        assert await broker.cancel_delayed("x")
        redis_of(topology).zrem(delayed_key(name), b"0123456789abcdefno message x")
        assert left(topology, broker) == ["add", "task_id", "xx"]
        with pytest.raises(InvalidOptionError):
            await broker.cancel_delayed("")


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_one_of_many_delayed_tasks_is_cancelled(topology: Topology, name: str) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        await send(broker, "first", 0, 0)
        (member,) = redis_of(topology).zrange(delayed_key(name), 0, -1)
        data = member[UNIQUE_BYTES:]
        copies = [
            b"%016d" % number + data.replace(b"first", b"id%d." % number) for number in range(2000)
        ]
        redis_of(topology).zadd(delayed_key(name), dict.fromkeys(copies, 1e15))
        assert await broker.cancel_delayed("id1234.")
        assert not await broker.cancel_delayed("id1234.")
        assert redis_of(topology).zcard(delayed_key(name)) == 2000


@pytest.mark.parametrize(
    ("topology", "mechanism"),
    [("single", "list"), ("single", "stream"), ("cluster", "stream"), ("sentinel", "list")],
    indirect=["topology"],
)
async def test_task_is_either_cancelled_or_delivered(
    topology: Topology, name: str, mechanism: str
) -> None:
    ids = [f"{number:02}." for number in range(20)]
    async with Listener(build(topology, mechanism, queue_name=name)) as listener:
        broker = listener.broker
        for number, task_id in enumerate(ids):
            await send(broker, task_id, 1, 2, delay=0.1 + number / 100)
        cancelled = await together(*[partial(broker.cancel_delayed, task_id) for task_id in ids])
        kept = [task_id for task_id, done in zip(ids, cancelled, strict=True) if not done]

        async def all_arrived() -> bool:
            return len(listener.got) >= len(kept)

        await wait_until(all_arrived)
        assert not redis_of(topology).exists(delayed_key(name))
        assert sorted(broker.formatter.loads(data).task_id for data in listener.got) == kept
