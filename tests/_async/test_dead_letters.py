"""Messages that are not run any more: which they are, and how they are managed."""

from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.dead_letters import DEAD_LETTER_FIELDS
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis.exceptions import DeadLetterError, InvalidOptionError
from tests._aio import collect, wait_until
from tests._async.pending import (
    LEASE,
    leave_pending,
    task_message,
)
from tests._async.support import (
    Listener,
    build,
    call,
    message,
    opened,
    redis_of,
    result,
)
from tests.servers import Topology

pytestmark = pytest.mark.anyio


async def test_foreign_entries_among_dead_letters_are_tolerated(
    topology: Topology, name: str
) -> None:
    client = redis_of(topology)
    notes = dict.fromkeys(DEAD_LETTER_FIELDS, "x")
    client.xadd(dead_letters_key(name), notes)
    client.xadd(dead_letters_key(name), {"data": "foreign"})
    client.xadd(dead_letters_key(name), {"data": "ours", "more": "y", **notes})
    async with opened(topology, "stream", queue_name=name) as broker:
        assert await broker.requeue_dead_letters() == 2
    assert [fields for _, fields in client.xrange(name)] == [
        {b"data": b"foreign"},
        {b"data": b"ours", b"more": b"y"},
    ]
    assert client.xlen(dead_letters_key(name)) == 1


async def test_worker_runs_one_suspected_poison_message_at_a_time(
    topology: Topology, name: str
) -> None:
    sent = [b"%d" % number for number in range(4)]
    await leave_pending(topology, name, "dead", *sent, deliveries=2)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    async with Listener(broker, acknowledge=False) as listener:
        for number in range(1, len(sent) + 1):
            await wait_until(partial(has_received, listener, number))
            await broker.kick(message(b"harmless"))
            await wait_until(partial(has_received, listener, number, of=b"harmless"))
            assert len([data for data in listener.got if data in sent]) == number
            (suspect,) = [held for held in listener.held if held.data in sent]
            listener.held.remove(suspect)
            await call(suspect.ack)
        assert sorted(data for data in listener.got if data in sent) == sent


async def has_received(listener: Listener, count: int, of: bytes | None = None) -> bool:
    """Return whether `count` messages equal to `of`, or not "harmless", were received."""
    found = [data for data in listener.got if (data != b"harmless" if of is None else data == of)]
    return len(found) >= count


async def test_message_with_too_many_deliveries_becomes_a_dead_letter(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        broker.with_result_backend(results)
        poison = task_message(broker, "bad:task", "id-1").message
        (entry_id,) = await leave_pending(topology, name, "last", poison, deliveries=5)
        async with Listener(broker) as listener:
            await wait_until(partial(has_dead_letters, broker, 1))
            assert listener.got == []
            (letter,) = await collect(broker.dead_letters())
            assert (letter.data, letter.entry_id) == (poison, entry_id)
            assert (letter.deliveries, letter.consumer) == (5, "last")
            assert (letter.group, letter.queue_name) == ("taskiq", name)
            assert letter.sent_at <= letter.died_at
            stored = await results.get_result("id-1")
            assert stored.is_err
            assert "5 workers received the task" in str(stored.error)
            assert isinstance(stored.error, DeadLetterError)
            assert (stored.error.deliveries, stored.error.entry_id) == (5, entry_id)
            assert redis_of(topology).xlen(name) == 0
            # Its delivery count starts again.
            assert await broker.requeue_dead_letters(letter.id) == 1
            await wait_until(partial(listener.has, poison))
            # A waiter gets the result of the new run.
            assert not await results.is_result_ready("id-1")
            assert await collect(broker.dead_letters()) == []
            assert not redis_of(topology).exists(dead_letters_key(name))
    assert "Added a dead letter" in caplog.text


async def has_dead_letters(broker: Any, count: int) -> bool:
    """Return whether a broker's queue has `count` dead letters."""
    return len(await collect(broker.dead_letters())) == count


async def test_dead_letter_does_not_overwrite_existing_result(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        broker.with_result_backend(results)
        sent = task_message(broker, "a:task", "id-1").message
        await results.set_result("id-1", result(7))
        await leave_pending(topology, name, "last", sent, deliveries=5)
        async with Listener(broker) as listener:
            await wait_until(partial(has_dead_letters, broker, 1))
            assert await broker.requeue_dead_letters() == 1
            await wait_until(partial(listener.has, sent))
        assert (await results.get_result("id-1")).return_value == 7


async def test_error_result_that_can_not_be_deleted_does_not_stop_requeueing(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
        sent = [task_message(broker, "a:task", f"id-{number}").message for number in range(2)]
        await leave_pending(topology, name, "last", *sent, deliveries=5)
        async with Listener(broker) as listener:
            await wait_until(partial(has_dead_letters, broker, 2))
            redis_of(topology).lpush(f"{name}:id-0", "a list")
            broker.with_result_backend(results)
            assert await broker.requeue_dead_letters() == 2
            await wait_until(partial(listener.has, *sent))
    assert "The error result of the task 'a:task' with the id 'id-0'" in caplog.text


async def test_message_is_redelivered_without_limit_if_max_deliveries_is_none(
    topology: Topology, name: str
) -> None:
    await leave_pending(topology, name, "dead", b"a", deliveries=50)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE, max_deliveries=None)
    async with Listener(broker) as listener:
        await wait_until(partial(listener.has, b"a"))
        assert await collect(broker.dead_letters()) == []


async def test_dead_letters_are_listed_requeued_and_purged(topology: Topology, name: str) -> None:
    sent = [b"%d" % number for number in range(250)]
    await leave_pending(topology, name, "dead", *sent, deliveries=1)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE, max_deliveries=1)
    async with Listener(broker) as listener:

        async def all_are_dead_letters() -> bool:
            return len(await collect(broker.dead_letters(limit=1000))) == len(sent)

        await wait_until(all_are_dead_letters, timeout=60)
        assert listener.got == []
    letters = await collect(broker.dead_letters(limit=120))
    assert len({letter.data for letter in letters} & set(sent)) == 120
    assert [letter.id for letter in await collect(broker.dead_letters())][:120] == [
        letter.id for letter in letters
    ]
    assert await broker.purge_dead_letters(letters[0].id, letters[1].id, "1-1") == 2
    assert await broker.requeue_dead_letters(letters[2].id, letters[0].id) == 1
    assert redis_of(topology).xlen(name) == 1
    assert await broker.requeue_dead_letters() == 247
    assert redis_of(topology).xlen(name) == 248
    assert not redis_of(topology).exists(dead_letters_key(name))
    assert await broker.purge_dead_letters(all=True) == 0
    for ids, everything in ((), False), (("1-1",), True):
        with pytest.raises(InvalidOptionError, match="`all=True` to delete all"):
            await broker.purge_dead_letters(*ids, all=everything)
    assert await collect(broker.dead_letters(queue_name=f"{name}:other")) == []
    await broker.shutdown()


async def test_dead_letter_stays_in_stream_for_another_group(topology: Topology, name: str) -> None:
    await leave_pending(topology, name, "dead", b"a", deliveries=5)
    redis_of(topology).xgroup_create(name, "second", id="0")
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE)
    async with Listener(broker):
        await wait_until(partial(has_dead_letters, broker, 1))
    assert redis_of(topology).xlen(name) == 1
