"""`repr` shows the class, the queue or prefix and the server, and no secrets."""

from typing import Any

import pytest

import taskiq_redis
from taskiq_redis._taskiq.task import SentTask
from tests.leaks import PASSWORD
from tests.parity.classes import CLASSES, MECHANISMS, both, options
from tests.parity.test_attributes import close

BROKERS = [name for kind in ("pub/sub", "list", "stream") for name in MECHANISMS[kind]]
SOURCES = [name for kind in ("schedules", "indexed schedules") for name in MECHANISMS[kind]]


def make_with_secrets(kind: Any, **given: Any) -> Any:
    """Create an object with passwords in all options that take one; no server is needed."""
    given |= {"username": "me", "password": PASSWORD}
    if "sentinels" in options(kind):
        sentinel_kwargs = {"password": PASSWORD}
        return kind([("h", 1)], "mymaster", sentinel_kwargs=sentinel_kwargs, **given)
    return kind(f"redis://me:{PASSWORD}@h:1?client_name={PASSWORD}", **given)


def texts_of(made: Any) -> list[str]:
    return [repr(made), str(made), f"{made!r}"]


EACH_TWIN = pytest.mark.parametrize("twin", [0, 1], ids=["async", "sync"])


@pytest.mark.smoke
@EACH_TWIN
@pytest.mark.parametrize("name", CLASSES)
def test_repr_hides_passwords(name: str, twin: int) -> None:
    kind = both(name)[twin]
    made = make_with_secrets(kind)
    for shown in texts_of(made):
        assert shown.startswith(f"<{kind.__name__} ")
        assert PASSWORD not in shown
    close(made)


@EACH_TWIN
@pytest.mark.parametrize("name", CLASSES)
def test_repr_shows_server(name: str, twin: int) -> None:
    made = make_with_secrets(both(name)[twin])
    if "Sentinel" in name:
        assert "on Redis master 'mymaster' of the sentinels h:1>" in repr(made)
    elif "Cluster" in name:
        assert "on Redis Cluster at redis://h:1>" in repr(made)
    else:
        assert "on Redis at redis://h:1>" in repr(made)
    close(made)


@EACH_TWIN
def test_repr_of_broker_shows_queue(twin: int) -> None:
    for name in BROKERS:
        made = make_with_secrets(both(name)[twin], queue_name="mail")
        assert " queue 'mail' on " in repr(made)
        close(made)


@EACH_TWIN
def test_repr_of_schedule_source_shows_prefix(twin: int) -> None:
    for name in SOURCES:
        made = make_with_secrets(both(name)[twin], prefix="{plan}")
        assert " prefix '{plan}' on " in repr(made)
        close(made)


@EACH_TWIN
def test_repr_of_result_backend_shows_prefix_if_set(twin: int) -> None:
    for name in MECHANISMS["results"]:
        for given, shown in (({}, False), ({"prefix_str": "mine"}, True)):
            made = make_with_secrets(both(name)[twin], **given)
            assert (" prefix 'mine' on " in repr(made)) == shown
            close(made)


def test_full_repr_of_broker() -> None:
    made = taskiq_redis.RedisStreamBroker("redis://localhost:6379")
    assert repr(made) == "<RedisStreamBroker queue 'taskiq' on Redis at redis://localhost:6379>"
    close(made)


@EACH_TWIN
def test_repr_of_task_and_kicker_shows_only_task_name(twin: int) -> None:
    made = make_with_secrets(both("ListQueueBroker")[twin])

    @made.task("send", token=PASSWORD)
    def send(text: str) -> None: ...

    kicker = send.kicker().with_labels(secret=PASSWORD)
    assert repr(send) == ("DecoratedTask(send)", "SyncTaskiqDecoratedTask(send)")[twin]
    assert repr(kicker) == ("TaskKicker(send)", "SyncKicker(send)")[twin]
    assert PASSWORD not in repr(send.call(PASSWORD))
    close(made)


def test_repr_of_sent_task_shows_only_id() -> None:
    for twin, kind in enumerate((SentTask, taskiq_redis.SyncTaskiqTask)):
        backend = make_with_secrets(both("RedisAsyncResultBackend")[twin])
        sent = kind("some-id", backend)
        assert repr(sent) == f"{kind.__name__}(some-id)"
        close(backend)
