# Generated from tests/_async/test_tampering.py by scripts/unasync.py; edit that.

"""Keys that another program has changed: no message vanishes, and one bad value hides no other."""

import logging
from functools import partial
from typing import Any

import pytest

from taskiq_redis._core.dead_letters import DEAD_LETTER_FIELDS
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis._sync.brokers import producer
from taskiq_redis.exceptions import ResultDecodeError, WrongKeyTypeError
from tests._sync.bad_input import schedule
from tests._sync.pending import LEASE, is_nothing_pending, leave_pending, task_message
from tests._sync.support import Listener, call, message, opened, redis_of, result
from tests._sync.test_kicks import sent
from tests._threads import collect, together, wait_until
from tests.servers import Topology, client_of, keys_of

ON_ONE = pytest.mark.parametrize("topology", ["single"], indirect=True)
MECHANISMS = pytest.mark.parametrize("mechanism", ["list", "stream"])

#: what the key with the number of a producer's last batch, which is 1, may be changed to
NUMBERS = ["1", "2", "9999999999", "9" * 400, "inf", "nan", "0x10", ""]


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


@pytest.mark.parametrize("mechanism", ["stream"])
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
def test_number_of_a_producer_that_keeps_changing_is_no_refusal_of_scripts(
    topology: Topology,
    name: str,
    mechanism: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def evaluate(*_: Any) -> bytes:
        return b"77"

    with opened(topology, mechanism, queue_name=name) as broker:
        with monkeypatch.context() as patch:
            patch.setattr(producer, "evaluate", evaluate)
            broker.kick(message(b"first"))
        assert "was changed by another program" in caplog.text
        broker.kick(message(b"second"))
        # The second one was sent exactly once, by the script.
        assert producer_of(topology, name)
    assert sent(topology, mechanism, name) == [b"first", b"second"]
    assert "grant" not in caplog.text


@pytest.mark.parametrize("mechanism", ["stream"])
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


@pytest.mark.parametrize("mechanism", ["list"])
@ON_ONE
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


@pytest.mark.parametrize("mechanism", ["indexed", "keys"])
@pytest.mark.parametrize("ends", ["9" * 300, "99999999999999", "x", ""])
@ON_ONE
def test_schedule_is_sent_whatever_its_claim_is(
    topology: Topology, name: str, mechanism: str, ends: str
) -> None:
    with opened(topology, mechanism, prefix=f"{{{name}}}") as source:
        source.add_schedule(schedule(interval=1))
        (task,) = source.get_schedules()
        redis_of(topology).hset(source._keys.claims, "id", f"{ends} other")
        source.pre_send(task)
        source.post_send(task)


#: what the version of an index may be changed to
VERSIONS = ["abc", "inf", "nan", "1.5", "-1", "0x10", str(2**63 - 1), str(2**63 - 3), ""]


@ON_ONE
def test_schedules_are_added_and_read_whatever_the_version_of_their_index_is(
    topology: Topology, name: str
) -> None:
    with opened(topology, "indexed", prefix=f"{{{name}}}") as source:
        source.add_schedule(schedule("first"))
        added = {"first"}
        for version in VERSIONS:
            redis_of(topology).hset(source._keys.meta, "version", version)
            for schedule_id in (f"a{version}", f"b{version}"):
                source.add_schedule(schedule(schedule_id))
                added.add(schedule_id)
                found = {each.schedule_id for each in source.get_schedules()}
                assert found == added, version


@ON_ONE
def test_index_with_a_damaged_version_is_read_again(topology: Topology, name: str) -> None:
    prefix = f"{{{name}}}"
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedule(schedule())
        redis_of(topology).hset(source._keys.meta, "version", "abc")
        # As 1.2.4 adds a schedule.
        redis_of(topology).rpush(source._keys.cron, "other")
    with opened(topology, "indexed", prefix=prefix) as source:
        assert [each.schedule_id for each in source.get_schedules()] == ["id"]


CORRUPT = [b"", b"\x80\x04.", b"{}", b"\x80\x04N.", b"secret" * 1000]


@pytest.mark.smoke
@pytest.mark.parametrize("keep", [pytest.param(True, marks=pytest.mark.slow), False])
def test_unreadable_result_hides_no_others(topology: Topology, name: str, keep: bool) -> None:
    client = redis_of(topology)
    bad = [f"{name}-bad-{number}" for number in range(len(CORRUPT))]
    other = f"{name}-list"
    good = [f"{name}-good-{number}" for number in range(3)]
    for key, data in zip(bad, CORRUPT, strict=True):
        client.set(key, data)
    client.rpush(other, "x")
    wanted = [bad[0], good[0], other, *bad[1:], *good[1:]]
    with opened(topology, "results", keep_results=keep) as backend:
        for read in (backend.get_results, backend.wait_results):
            for number, key in enumerate(good):
                backend.set_result(key, result(number))
            found = read(wanted)
            assert found.keys() == set(wanted)
            assert [found[key].return_value for key in good] == [0, 1, 2]
            for key in bad:
                assert found[key].is_err
                with pytest.raises(ResultDecodeError, match=key):
                    found[key].raise_for_error()
                assert "secret" not in str(found[key].error)
            with pytest.raises(WrongKeyTypeError, match=other):
                found[other].raise_for_error()
            # What can't be read isn't deleted.
            assert [client.exists(key) for key in (*bad, other)] == [1] * (len(bad) + 1)
            assert [client.exists(key) for key in good] == [keep] * len(good)
        assert list(backend.get_results([other, name])) == [other]
        for key, kind in ((bad[0], ResultDecodeError), (other, WrongKeyTypeError)):
            with pytest.raises(kind):
                backend.wait_result(key, timeout=5)
            with pytest.raises(kind):
                backend.get_result(key)


def test_one_of_many_results_of_another_type_is_an_error_result(
    topology: Topology, name: str
) -> None:
    # The last one is alone in its batch.
    keys = [f"{{{name}}}-{number}" for number in range(101)]
    with opened(topology, "results") as backend:
        for key in keys[:-1:20]:
            backend.set_result(key, result(1))
        redis_of(topology).rpush(keys[-1], "x")
        found = backend.get_results(keys)
    assert [each.return_value for each in found.values()] == [1] * 5 + [None]
    assert isinstance(found[keys[-1]].error, WrongKeyTypeError)


@ON_ONE
def test_unreadable_dead_letter_hides_no_others(topology: Topology, name: str) -> None:
    client, key = redis_of(topology), dead_letters_key(name)
    client.xadd(key, {"data": "first"})
    for text in ("9" * 5000, "\u0663", "-1", "x", "", "1e9", b"\xff" * 5000):
        client.xadd(key, {"data": "odd", **dict.fromkeys(DEAD_LETTER_FIELDS, text)})
    client.xadd(key, {b"\xff": b"\xff"})
    client.xadd(key, {"data": "last"})
    with opened(topology, "stream", queue_name=name) as broker:
        letters = collect(broker.dead_letters())
    assert [letter.data for letter in letters] == [b"first", *[b"odd"] * 7, None, b"last"]
    assert [letter.deliveries for letter in letters] == [0, 0, 3, *[0] * 7]


@pytest.mark.smoke
def test_dead_letter_that_can_not_be_requeued_stops_no_others(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, key = redis_of(topology), dead_letters_key(name)
    client.xadd(key, {"data": "first"})
    large = client.xadd(key, {"data": "large", **{f"f{number}": "" for number in range(5000)}})
    client.xadd(key, {"data": "last"})
    with opened(topology, "stream", queue_name=name) as broker:
        assert broker.requeue_dead_letters() == 2
        (warning,) = caplog.messages
        assert large.decode() in warning
        assert broker.requeue_dead_letters(large.decode()) == 0
        assert [letter.data for letter in collect(broker.dead_letters())] == [b"large"]
        assert [fields[b"data"] for _, fields in client.xrange(name)] == [b"first", b"last"]
        # Any other error, such as for a full server, is raised.
        client.delete(name)
        client.set(name, "x")
        client.xadd(key, {"data": "again"})
        with pytest.raises(WrongKeyTypeError):
            broker.requeue_dead_letters()


@ON_ONE
@pytest.mark.parametrize("place", ["first", pytest.param("last", marks=pytest.mark.slow)])
def test_entry_with_many_fields_becomes_a_dead_letter(
    topology: Topology, name: str, place: str
) -> None:
    many = {f"f{number}": str(number) for number in range(5000)}
    fields = {"data": "poison", **many} if place == "first" else {**many, "data": "poison"}
    client = redis_of(topology)
    client.xadd(name, {"other": "without a message", **many})
    leave_pending(topology, name, "last", b"dummy")
    entry_id = client.xadd(name, fields)
    client.xreadgroup("taskiq", "last", {name: ">"})
    client.xclaim(name, "taskiq", "last", 0, [entry_id], idle=10**7, retrycount=5)
    with opened(topology, "stream", queue_name=name, idle_timeout=LEASE) as broker:
        with Listener(broker) as listener:
            broker.kick(message(b"good"))
            wait_until(partial(listener.has, b"dummy", b"good"))

            def are_dead() -> bool:
                return bool(client.xlen(dead_letters_key(name)) == 2)

            wait_until(are_dead)
        letters = {letter.data: letter for letter in collect(broker.dead_letters())}
    assert letters.keys() == {None, b"poison"}
    assert letters[b"poison"].deliveries == 5
    assert letters[b"poison"].fields["f10"] == b"10"
    assert "has no field 'data'" in letters[None].reason


GARBAGE = b"no message of taskiq"


def acknowledge_in_handler(broker: Any, count: int) -> None:
    """Acknowledge messages while an exception is handled, as taskiq's receiver does."""
    for received in broker.listen():
        try:
            int("no number")
        except ValueError:
            call(received.ack)
        count -= 1
        if not count:
            break


@pytest.mark.parametrize("is_worker", [True, False])
def test_only_a_worker_moves_what_it_can_not_parse_to_the_dead_letters(
    topology: Topology, name: str, is_worker: bool
) -> None:
    client = redis_of(topology)
    with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = is_worker
        broker.startup()
        broker.kick(task_message(broker, "a:task", "id"))
        broker.kick(message(GARBAGE))
        acknowledge_in_handler(broker, 2)
        letters = collect(broker.dead_letters())
        assert is_nothing_pending(topology, name)
    assert [letter.data for letter in letters] == [GARBAGE] * is_worker
    for letter in letters:
        assert "can't be parsed" in letter.reason
        assert (letter.group, letter.consumer) == ("taskiq", broker.consumer_name)
    assert client.xlen(name) == 0


@ON_ONE
def test_worker_that_parses_by_itself_acknowledges_anything(topology: Topology, name: str) -> None:
    with opened(topology, "stream", queue_name=name) as broker:
        broker.is_worker_process = True
        broker.startup()
        broker.kick(message(GARBAGE))
        for received in broker.listen():
            call(received.ack)
            break
        assert collect(broker.dead_letters()) == []
        assert is_nothing_pending(topology, name)
