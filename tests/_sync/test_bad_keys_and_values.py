# Generated from tests/_async/test_bad_keys_and_values.py by scripts/unasync.py; edit that.

"""Keys of another type, too long values and unusual names get clear errors, and lose nothing."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis._core.wire import LARGEST_ID
from taskiq_redis.exceptions import (
    CommandRefusedError,
    InvalidOptionError,
    ResultIsMissingError,
    ScheduleEncodeError,
    ServerUnavailableError,
    ValueTooLargeError,
    WrongKeyTypeError,
)
from tests._sync.bad_input import (
    BROKERS,
    FAIL_SOON,
    MEBIBYTE,
    ON,
    QUEUES,
    SOURCES,
    at_port,
    names_of,
    schedule,
    use,
)
from tests._sync.support import Listener, build, message, opened, redis_of, result, take
from tests._threads import wait_until
from tests.servers import (
    LocalCluster,
    LocalSentinel,
    ServerProcess,
    Topology,
    keys_of,
)

# --- Keys of another type -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "key"),
    [("results", "{}:id"), ("progress", "{}:id__progress"), ("keys", "{{{}}}:id")],
)
def test_key_of_another_type_is_not_overwritten(
    topology: Topology, name: str, mechanism: str, key: str
) -> None:
    key = key.format(name)
    redis_of(topology).xadd(key, {"data": "a task, perhaps"})
    kind = "results" if mechanism == "progress" else mechanism
    with opened(topology, kind, **names_of(kind, name)) as made:
        with pytest.raises(WrongKeyTypeError, match=f"key '{key}', refused a command: WRONGTYPE"):
            use(made, mechanism)
    assert redis_of(topology).xlen(key) == 1


def test_largest_id_in_stream_is_reported_until_the_key_is_deleted(
    topology: Topology, name: str
) -> None:
    redis = redis_of(topology)
    with opened(topology, "stream", queue_name=name) as broker:
        broker.kick(message(b"first"))
        redis.xadd(name, {"data": b"largest"}, id=LARGEST_ID)
        for _ in range(2):
            with pytest.raises(CommandRefusedError, match="exhausted the last possible ID") as info:
                broker.kick(message(b"lost"))
            assert f"key '{name}', refused" in str(info.value)
            assert "delete the key when all its entries are processed (DEL)" in str(info.value)
        assert not broker._producer.get()._refusal.active
        with Listener(build(topology, "stream", queue_name=name)) as listener:
            wait_until(partial(listener.has, b"first", b"largest"))
            redis.delete(name)
            broker.kick(message(b"after"))
            wait_until(partial(listener.has, b"first", b"largest", b"after"))


def test_stored_result_and_progress_replace_earlier_ones(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        for number in range(3):
            backend.set_result(name, result(number))
            backend.set_progress(name, TaskProgress(state="x", meta=number))
        assert backend.get_result(name).return_value == 2
        progress = backend.get_progress(name)
        assert progress is not None
        assert progress.meta == 2


def test_progress_key_of_another_type_is_reported(topology: Topology, name: str) -> None:
    redis_of(topology).rpush(f"{name}__progress", "a list")
    with opened(topology, "results") as backend:
        with pytest.raises(WrongKeyTypeError, match=f"key '{name}__progress', refused"):
            backend.get_progress(name)


#: suffixes of the keys of an indexed source
FOREIGN = ["data:id", "due"]


@pytest.mark.parametrize("suffix", FOREIGN)
def test_failed_schedule_change_changes_no_key(topology: Topology, name: str, suffix: str) -> None:
    prefix = f"{{{name}}}"
    time = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
    when: dict[str, Any] = {"time": time}
    other: dict[str, Any] = {"cron": "0 0 * * *"}
    key = f"{prefix}:{suffix}"
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedule(schedule(**when))
        if suffix == "data:id":
            redis_of(topology).delete(key)
        else:
            # Keep the index beside the key of another type.
            redis_of(topology).rename(key, f"{prefix}:kept")
        redis_of(topology).hset(key, "field", "value")
        before = dump(topology, prefix)
        for change in (
            lambda: source.add_schedule(schedule(**when)),
            lambda: source.add_schedule(schedule(**other)),
            lambda: source.delete_schedule("id"),
        ):
            with pytest.raises(WrongKeyTypeError, match=f"WRONGTYPE {key} is a hash, not a "):
                change()
        assert dump(topology, prefix) == before


def dump(topology: Topology, prefix: str) -> dict[str, bytes]:
    """Return the serialized values of all keys with a prefix."""
    return {key: redis_of(topology).dump(key) for key in keys_of(topology, f"{prefix}*")}


@pytest.mark.parametrize("suffix", ["cron", "interval"])
def test_index_key_of_another_type_does_not_hide_other_schedules(
    topology: Topology, name: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"{{{name}}}"
    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    with opened(topology, "indexed", prefix=prefix) as source:
        source.add_schedule(schedule(time=soon))
        redis_of(topology).set(f"{prefix}:{suffix}", "a string")
        assert [task.schedule_id for task in source.get_schedules()] == ["id"]
    assert (
        f"may have added to the key '{prefix}:{suffix}' is skipped: it isn't a list." in caplog.text
    )


def test_due_index_of_another_type_is_reported(topology: Topology, name: str) -> None:
    prefix = f"{{{name}}}"
    redis_of(topology).set(f"{prefix}:due", "a string")
    with opened(topology, "indexed", prefix=prefix) as source:
        with pytest.raises(WrongKeyTypeError, match=f"WRONGTYPE {prefix}:due is a string, not a"):
            source.get_schedules()


# --- Values that are too long --------------------------------------------------------------------


@pytest.fixture
def low_limit(topology: Topology) -> Iterator[Topology]:
    """Servers with the smallest limit for values that can be configured, 1 MiB.

    Less than that fits into the output buffers of listeners to a channel.
    """
    extra = {
        "proto-max-bulk-len": str(MEBIBYTE),
        "client-output-buffer-limit": f"pubsub {MEBIBYTE // 2} 0 0",
    }
    kinds = {"single": ServerProcess, "cluster": LocalCluster, "sentinel": LocalSentinel}
    with kinds[topology.kind](extra=extra) as servers:
        yield servers.topology


def test_too_long_value_is_refused(low_limit: Topology, name: str) -> None:
    long = b"x" * (MEBIBYTE + 1)
    error_text = (
        r"refused a command: [0-9,]+ bytes are more than its proto-max-bulk-len of 1,048,576\."
    )
    for mechanism in BROKERS:
        with opened(low_limit, mechanism, queue_name=f"{name}{mechanism}") as broker:
            with pytest.raises(ValueTooLargeError, match=f"key '{name}{mechanism}', {error_text}"):
                broker.kick(message(long))
            if mechanism == "pubsub":
                with pytest.raises(ValueTooLargeError, match=r"limit` for pubsub\), 524,288\."):
                    broker.kick(message(long[: MEBIBYTE // 2]))
            # The next message gets a working connection.
            broker.kick(message(b"a"))
            if mechanism in QUEUES:
                assert take(broker, 1) == [b"a"]
    for mechanism in SOURCES:
        with opened(low_limit, mechanism, prefix=f"{{{name}}}") as source:
            too_long = schedule(time=datetime.now(timezone.utc)).model_copy(
                update={"args": [long.decode()]}
            )
            with pytest.raises(ValueTooLargeError, match=error_text):
                source.add_schedule(too_long)
            assert source.get_schedules() == []
    with opened(low_limit, "results", prefix_str=name) as backend:
        with pytest.raises(ValueTooLargeError, match=error_text):
            backend.set_progress("id", TaskProgress(state="x", meta=long.decode()))
        assert backend.get_progress("id") is None


def test_too_long_result_is_stored_as_error(
    low_limit: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(low_limit, "results", prefix_str=name) as backend:
        backend.set_result("id", result("x" * (3 * MEBIBYTE), labels={"a": "b"}))
        read = backend.get_result("id")
    assert read.is_err
    assert read.labels == {"a": "b"}
    assert "bytes are more than its proto-max-bulk-len" in str(read.error)
    assert "Send a reference to the data" in str(read.error)
    assert "The result of task id is stored as an error." in caplog.text


@ON["single"]
def test_lost_connection_is_not_reported_as_too_long_value(
    topology: Topology, name: str, silent_port: int
) -> None:
    options = {"socket_timeout": 0.2, **FAIL_SOON}
    with opened(at_port(topology, silent_port), "list", **options) as broker:
        with pytest.raises(ServerUnavailableError, match="did not answer"):
            broker.kick(message(b"x" * 2 * MEBIBYTE))


@pytest.mark.parametrize("may_ask", [True, False])
def test_long_value_below_the_limit_is_stored(
    topology: Topology, name: str, may_ask: bool, user: Any
) -> None:
    long = "x" * 2 * MEBIBYTE
    options = user("+@all", "~*", *([] if may_ask else ["-config"]))
    with opened(topology, "results", prefix_str=name, **options) as backend:
        backend.set_result("id", result(long))
        assert backend.get_result("id").return_value == long


# --- Names ---------------------------------------------------------------------------------------

UNUSUAL_NAMES = ["{a}b", "b{a", "a:b:: ", " ", " a\nb\r\n\0", "ünï ☃ 𝄞", "*?[a]^\\'\"", "x" * 5000]


@pytest.mark.parametrize("mechanism", QUEUES)
def test_queue_may_have_any_name(topology: Topology, name: str, mechanism: str) -> None:
    for text in UNUSUAL_NAMES:
        options: dict[str, Any] = {"queue_name": f"{text}{name}"}
        if mechanism == "stream":
            options |= {"consumer_group_name": text, "consumer_name": text}
        with opened(topology, mechanism, **options) as broker:
            broker.kick(message(b"own"))
            assert take(broker, 1) == [b"own"]
            # The label may be any text, too.
            broker.kick(message(b"other", queue_name=f"{name}{text}"))
        with opened(topology, mechanism, **{**options, "queue_name": f"{name}{text}"}) as other:
            assert take(other, 1) == [b"other"]


def test_channel_may_have_any_name(topology: Topology, name: str) -> None:
    for text in UNUSUAL_NAMES[::2]:
        with Listener(build(topology, "pubsub", queue_name=f"{text}{name}")) as listener:

            def is_received(listener: Listener = listener) -> Any:
                # A message published before the subscription is lost.
                listener.broker.kick(message(b"a"))
                return listener.got

            wait_until(is_received)


def test_task_id_and_prefix_may_be_any_text(topology: Topology, name: str) -> None:
    for text in [*UNUSUAL_NAMES, ""]:
        with opened(topology, "results", prefix_str=f"{name}{text}") as backend:
            for task_id in (text, f"{text}}}"):
                backend.set_result(task_id, result(text))
                backend.set_progress(task_id, TaskProgress(state=text, meta=None))
                assert backend.get_result(task_id).return_value == text
                progress = backend.get_progress(task_id)
                assert progress is not None
                assert progress.state == text


@pytest.mark.parametrize("mechanism", SOURCES)
def test_schedule_id_and_prefix_may_be_any_text(
    topology: Topology, name: str, mechanism: str
) -> None:
    for text in UNUSUAL_NAMES:
        with opened(topology, mechanism, prefix=f"{{{name}}}{text}") as source:
            source.startup()
            source.add_schedule(schedule(text))
            (read,) = source.get_schedules()
            assert read.schedule_id == text
            source.delete_schedule(text)
            assert source.get_schedules() == []


@pytest.mark.parametrize("mechanism", BROKERS)
@pytest.mark.parametrize("text", ["a\ud800", "\udcff"])
def test_message_with_invalid_unicode_in_names_is_refused(
    topology: Topology, name: str, mechanism: str, text: str
) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(InvalidOptionError, match=r"`queue_name`: .* can't be encoded as UTF-8"):
            broker.kick(message(b"a", queue_name=text))
        with pytest.raises(InvalidOptionError, match=r"`task_id`: .* can't be encoded as UTF-8"):
            broker.kick(message(b"a").model_copy(update={"task_id": text}))
    assert keys_of(topology, f"*{name}*") == []


def test_result_of_task_id_with_invalid_unicode_is_refused(topology: Topology, name: str) -> None:
    task_id = f"{name}\ud800"
    with opened(topology, "results") as backend:
        for call in (
            lambda: backend.set_result(task_id, result(1)),
            lambda: backend.get_result(task_id),
            lambda: backend.is_result_ready(task_id),
            lambda: backend.get_progress(task_id),
            lambda: backend.delete_result(task_id),
        ):
            with pytest.raises(CommandRefusedError, match="Give names and IDs that are valid text"):
                call()


@pytest.mark.parametrize("mechanism", SOURCES)
def test_schedule_id_with_invalid_unicode_is_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    with opened(topology, mechanism, prefix=f"{{{name}}}") as source:
        # The default serializer may be the first to refuse it.
        with pytest.raises((CommandRefusedError, ScheduleEncodeError), match="surrogates not"):
            source.add_schedule(schedule("\ud800"))
        with pytest.raises(CommandRefusedError, match="Give names and IDs that are valid text"):
            source.delete_schedule("\ud800")


@pytest.mark.parametrize("mechanism", BROKERS)
def test_empty_task_id_is_refused(topology: Topology, name: str, mechanism: str) -> None:
    with opened(topology, mechanism, queue_name=name) as broker:
        with pytest.raises(InvalidOptionError, match="`task_id`: it is empty"):
            broker.kick(message(b"a").model_copy(update={"task_id": ""}))
    with opened(topology, "results", prefix_str=name) as backend:
        with pytest.raises(ResultIsMissingError):
            backend.get_result("")


@pytest.mark.parametrize("mechanism", BROKERS)
def test_queue_name_without_hash_tag_for_related_keys_is_refused(
    topology: Topology, name: str, mechanism: str
) -> None:
    queue = f"{name}}}"
    with opened(topology, mechanism, queue_name=name) as broker:
        if topology.kind != "cluster":
            broker.kick(message(b"a", queue_name=queue))
            return
        with pytest.raises(InvalidOptionError) as error:
            broker.kick(message(b"a", queue_name=queue))
    assert str(error.value) == (
        f"Invalid option `queue_name`: on a cluster, the side keys of '{queue}' would be in another "
        "hash slot. Leave out the closing brace, or put a hash tag such as {app} before it."
    )
    assert keys_of(topology, f"*{name}*") == []


# --- Pool size ----------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["single", "sentinel"], indirect=True)
def test_exhausted_pool_is_reported(topology: Topology, name: str) -> None:
    size: dict[str, Any] = {"max_connections": 1}
    if topology.kind == "single":
        size = {"max_connection_pool_size": 1, "timeout": 0.1}
    # Sending has no connections of its own then.
    size |= {"socket_timeout": 1, "socket_connect_timeout": 1}
    with opened(topology, "list", queue_name=name, **size, **FAIL_SOON) as broker:
        pool: Any = broker._connection.client.connection_pool
        taken = pool.get_connection()
        with pytest.raises(ServerUnavailableError) as error:
            broker.kick(message(b"a"))
        pool.release(taken)
        assert "raise `max_connection_pool_size` or `max_connections`." in str(error.value)
        assert "can't execute it now" in str(error.value)
        assert redis_of(topology).llen(name) == 0
        broker.kick(message(b"a"))
        assert redis_of(topology).llen(name) == 1
