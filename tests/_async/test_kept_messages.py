"""Dead letters of streams and lists: their limits, and which of them are requeued and purged."""

import time
from functools import partial
from typing import Any

import pytest

from taskiq_redis import DeadLetter
from taskiq_redis._async.brokers.dead_letter_store import CHUNK, NewDeadLetter
from taskiq_redis._core.dead_letters import dead_letter_fields, failure_fields
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis.exceptions import InvalidOptionError, WrongKeyTypeError
from tests._aio import collect, wait_until
from tests._async.pending import LEASE, leave_pending, task_message
from tests._async.support import Listener, build, length, opened, redis_of, result
from tests.servers import Topology

pytestmark = pytest.mark.anyio

each_mechanism = pytest.mark.parametrize("mechanism", ["stream", "list"])


def add_letters(topology: Topology, name: str, *sent: bytes, failed: bool = False) -> list[str]:
    """Add messages to the dead letters of a queue, and return their IDs."""
    fields = dead_letter_fields("a test", 0, "", "", "")
    fields += failure_fields("ValueError: no", "Traceback") if failed else []
    more = dict(zip(fields[::2], fields[1::2], strict=True))
    client, key = redis_of(topology), dead_letters_key(name)
    return [client.xadd(key, {"data": data, **more}).decode() for data in sent]


def fill(topology: Topology, key: str, first_id: int, count: int) -> None:
    """Add many dead letters with given times, from 1 ms after `first_id`."""
    script = """
        for number = 1, ARGV[2] do
          redis.call('XADD', KEYS[1], ARGV[1] + number, 'data', 'old')
        end
    """
    redis_of(topology).eval(script, 1, key, first_id, count)


def queued(topology: Topology, mechanism: str, name: str) -> list[bytes]:
    """Return the messages in a queue, the next one first."""
    client = redis_of(topology)
    if mechanism == "list":
        messages: list[bytes] = client.lrange(name, 0, -1)[::-1]
        return messages
    return [fields[b"data"] for _, fields in client.xrange(name)]


@each_mechanism
async def test_dead_letters_are_chosen_by_their_task(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        tasks = [task_message(broker, f"task:{number % 2}", f"id-{number}") for number in range(6)]
        sent = [task.message for task in tasks]
        # More than one page, with letters that no formatter can read.
        add_letters(topology, name, *sent[:3], *[b"garbage"] * CHUNK, *sent[3:])
        assert await broker.requeue_dead_letters(task_name="task:1") == 3
        assert queued(topology, mechanism, name) == sent[1::2]
        assert await broker.purge_dead_letters(task_name="task:1") == 0
        assert await broker.purge_dead_letters(task_name="task:0") == 3
        assert await broker.requeue_dead_letters(task_name="garbage") == 0
        assert await broker.purge_dead_letters(all=True) == CHUNK
    assert not redis_of(topology).exists(dead_letters_key(name))


@each_mechanism
async def test_contradictory_choices_are_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        add_letters(topology, name, b"a")
        for manage in (broker.requeue_dead_letters, broker.purge_dead_letters):
            with pytest.raises(InvalidOptionError, match="both IDs and the name of a task"):
                await manage("1-1", task_name="t")
            for wrong in ("", 5):
                with pytest.raises(InvalidOptionError, match="`task_name`"):
                    await manage(task_name=wrong)
        for options in ({}, {"all": True, "task_name": "t"}):
            with pytest.raises(InvalidOptionError, match="unclear which dead letters to delete"):
                await broker.purge_dead_letters(**options)
        assert len(await collect(broker.dead_letters())) == 1


@each_mechanism
async def test_ids_that_no_dead_letter_can_have_are_left_out(
    topology: Topology, name: str, mechanism: str
) -> None:
    wrong = ("task-id", "1-1-1", "-", f"1-{2**80}")
    async with opened(topology, mechanism, queue_name=name) as broker:
        (letter,) = add_letters(topology, name, b"a")
        for manage in (broker.requeue_dead_letters, broker.purge_dead_letters):
            assert await manage(*wrong) == 0
        assert await broker.requeue_dead_letters(*wrong, letter) == 1


async def test_dead_letter_of_a_list_is_sent_again_after_other_messages(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        redis_of(topology).lpush(name, b"before")
        first, _ = add_letters(topology, name, b"a", b"b")
        foreign = redis_of(topology).xadd(dead_letters_key(name), {"no": "message"}).decode()
        assert await broker.requeue_dead_letters(first, "1-1", foreign) == 1
        assert await broker.requeue_dead_letters() == 1
        assert queued(topology, "list", name) == [b"before", b"a", b"b"]
        (kept,) = await collect(broker.dead_letters())
        assert (kept.id, kept.data) == (foreign, None)
        redis_of(topology).delete(name)
        redis_of(topology).set(name, "another type")
        add_letters(topology, name, b"c")
        with pytest.raises(WrongKeyTypeError):
            await broker.requeue_dead_letters()
        assert len(await collect(broker.dead_letters())) == 2


@each_mechanism
async def test_requeueing_a_failed_task_deletes_its_error_result(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with (
        opened(topology, "results", prefix_str=name) as results,
        opened(topology, mechanism, queue_name=name) as broker,
    ):
        broker.with_result_backend(results)
        sent = [task_message(broker, "task", f"id-{number}").message for number in range(3)]
        add_letters(topology, name, *sent[:2], failed=True)
        add_letters(topology, name, sent[2])
        error = {"is_err": True, "error": ValueError("no")}
        await results.set_result("id-0", result(None, **error))
        # Somebody else has run the second one; the third one is here for another reason.
        await results.set_result("id-1", result(7))
        await results.set_result("id-2", result(None, **error))
        letters: list[DeadLetter] = await collect(broker.dead_letters())
        assert [letter.error for letter in letters] == ["ValueError: no"] * 2 + [None]
        assert [letter.fields for letter in letters] == [{"data": data} for data in sent]
        assert await broker.requeue_dead_letters() == 3
        ready = [await results.is_result_ready(f"id-{number}") for number in range(3)]
        assert ready == [False, True, True]
    if mechanism == "stream":
        found = [fields for _, fields in redis_of(topology).xrange(name)]
        assert found == [{b"data": data} for data in sent]


async def keep(broker: Any, letter: NewDeadLetter) -> bool:
    """Add a dead letter."""
    fields = dead_letter_fields("a test", 0, "", "", "")
    added: bool = await broker._dead_letters.add_message(letter, fields)
    return added


async def test_dead_letter_is_added_once_although_its_reply_was_lost(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        letter = NewDeadLetter(name, b"a")
        assert await keep(broker, letter)
        assert await keep(broker, NewDeadLetter(name, b"a"))
        assert await keep(broker, letter)
        assert [each.data for each in await collect(broker.dead_letters())] == [b"a", b"a"]
        assert all(each.fields == {"data": b"a"} for each in await collect(broker.dead_letters()))


async def test_dead_letter_that_can_not_be_added_is_logged(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(dead_letters_key(name), "another type")
    async with opened(topology, "list", queue_name=name) as broker:
        assert not await keep(broker, NewDeadLetter(name, b"secret"))
    assert f"to the queue {name!r}: a message of 6 bytes is lost" in caplog.text
    assert "secret" not in caplog.text


async def test_number_of_dead_letters_is_limited(topology: Topology, name: str) -> None:
    fill(topology, dead_letters_key(name), 1000, 2100)
    async with opened(topology, "list", queue_name=name, max_dead_letters=3) as broker:
        lengths = []
        for number in range(4):
            assert await keep(broker, NewDeadLetter(name, b"%d" % number))
            lengths.append(redis_of(topology).xlen(dead_letters_key(name)))
        # Each deletes a bounded number.
        assert lengths == [1101, 102, 3, 3]
        assert [letter.data for letter in await collect(broker.dead_letters())] == [
            b"1",
            b"2",
            b"3",
        ]


async def test_age_of_dead_letters_is_limited(topology: Topology, name: str) -> None:
    client, key = redis_of(topology), dead_letters_key(name)
    now = round(time.time() * 1000)
    fill(topology, key, now - 8_000_000, 1500)
    client.xadd(key, {"data": b"young"}, id=f"{now - 1_000_000}-0")
    async with opened(topology, "list", queue_name=name, dead_letter_ttl=3600) as broker:
        assert await keep(broker, NewDeadLetter(name, b"new"))
        # It deletes a bounded number.
        assert client.xlen(key) >= 502
        assert await keep(broker, NewDeadLetter(name, b"newer"))
        letters = await collect(broker.dead_letters())
        assert [letter.data for letter in letters] == [b"young", b"new", b"newer"]


@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_dead_letter_is_kept_if_an_acl_forbids_its_limits(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis_of(topology)
    rules = ["reset", "on", f">{name}", "~*", "&*", "+@all"]
    client.execute_command("ACL", "SETUSER", name, *rules, "-xtrim")
    login = {"username": name, "password": name}
    limits = {"max_dead_letters": 1, "dead_letter_ttl": 3600}
    async with opened(topology, "list", queue_name=name, **login, **limits) as broker:
        for number in range(3):
            assert await keep(broker, NewDeadLetter(name, b"%d" % number))
        assert len(await collect(broker.dead_letters())) == 3
        client.execute_command("ACL", "SETUSER", name, "+xtrim")
        assert await keep(broker, NewDeadLetter(name, b"last"))
        assert [letter.data for letter in await collect(broker.dead_letters())] == [b"last"]
    client.acl_deluser(name)
    assert caplog.text.count("Grant XTRIM and XLEN") == 1
    assert "Dead letters are limited again" in caplog.text


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("limit", [{"max_dead_letters": 2}, {"dead_letter_ttl": 3600}])
async def test_dead_letters_of_a_stream_have_limits(
    topology: Topology, name: str, limit: Any
) -> None:
    client, key = redis_of(topology), dead_letters_key(name)
    for number in range(3):
        client.xadd(key, {"data": b"old"}, id=f"1700000000000-{number}")
    await leave_pending(topology, name, "dead", b"a", b"b", deliveries=5)
    broker = build(topology, "stream", queue_name=name, idle_timeout=LEASE, **limit)
    async with Listener(broker):
        await wait_until(partial(has_letters, broker, b"a", b"b"))
    assert length(topology, "stream", name) == 0


async def has_letters(broker: Any, *sent: bytes) -> bool:
    """Return whether these messages, and no others, are dead letters."""
    return sorted(letter.data for letter in await collect(broker.dead_letters())) == sorted(sent)
