"""What a broker on Redis refuses to send is refused in `swapped`, too."""

import asyncio
from typing import Annotated, Any

import pytest
from taskiq import Context, TaskiqDepends
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker

from taskiq_redis import (
    ListQueueBroker,
    PubSubBroker,
    RedisStreamBroker,
    SyncRedisStreamBroker,
    to_sync,
)
from taskiq_redis.exceptions import InvalidOptionError
from taskiq_redis.testing import swapped
from tests.memory.support import URL, offline

__all__ = ["offline"]

BROKERS: Any = (RedisStreamBroker, ListQueueBroker, PubSubBroker)


def one() -> int:
    return 1


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("changes", [{"queue_name": "other"}, {"queue_name": "a\ud800"}])
def test_refused_queue_is_refused(kind: Any, changes: dict[str, Any]) -> None:
    broker = kind(URL).with_allowed_queues("allowed")
    task, twin = broker.register_task(one, "one"), to_sync(broker)
    with swapped(broker) as sent:
        with pytest.raises(SendTaskError) as caught:
            asyncio.run(task.kicker().with_labels(**changes).kiq())
        assert isinstance(caught.value.__cause__, InvalidOptionError)
        with pytest.raises(SendTaskError) as caught:
            twin.kicker(task).with_labels(**changes).kiq()
        assert isinstance(caught.value.__cause__, InvalidOptionError)
        twin.kicker(task).with_labels(queue_name="allowed").kiq()
        assert sent.only().queue_name == "allowed"


@pytest.mark.parametrize("kind", BROKERS)
def test_none_of_many_is_recorded_if_one_is_refused(kind: Any) -> None:
    broker = kind(URL).with_allowed_queues()
    task, twin = broker.register_task(one, "one"), to_sync(broker)
    message = broker.formatter.dumps(_message(task, {}))
    refused = broker.formatter.dumps(_message(task, {"queue_name": "other"}))
    with swapped(broker) as sent:
        with pytest.raises(InvalidOptionError):
            twin.kick_many([message, refused])
        with pytest.raises(InvalidOptionError):
            asyncio.run(broker.kick_many([message, refused]))
        assert len(sent) == 0


def test_what_task_of_blocking_broker_sends_is_refused() -> None:
    broker: Any = SyncRedisStreamBroker(URL).with_allowed_queues()
    child, refused = broker.register_task(one, "one"), list[object]()

    @broker.task
    async def parent(context: Annotated[Context, TaskiqDepends()]) -> None:
        kicker: AsyncKicker[..., Any] = AsyncKicker(
            child.task_name, context.broker, {"queue_name": "other"}
        )
        try:
            await kicker.kiq()
        except SendTaskError as error:
            refused.append(error.__cause__)

    with swapped(broker, run=True):
        parent.kiq()
    assert [type(each) for each in refused] == [InvalidOptionError]


def _message(task: Any, labels: dict[str, str]) -> Any:
    return task.kicker().with_labels(**labels)._prepare_message()
