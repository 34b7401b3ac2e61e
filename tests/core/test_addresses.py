"""Where Redis is: addresses that can't be right, and none that shows a password."""

from typing import Any

import pytest

import taskiq_redis
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis.exceptions import InvalidOptionError

BAD_URLS: list[Any] = [
    "",
    None,
    "localhost",
    "localhost:6379",
    "http://localhost",
    "redis:/localhost",
    "redis//localhost",
    "://localhost",
    "REDIS ://localhost",
    " redis://localhost",
]

ON_SINGLE_NODE = [
    "PubSubBroker",
    "ListQueueBroker",
    "RedisStreamBroker",
    "RedisAsyncResultBackend",
    "RedisScheduleSource",
    "ListRedisScheduleSource",
]


@pytest.mark.parametrize("url", BAD_URLS, ids=repr)
def test_a_bad_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidOptionError) as single:
        SingleNode(url)
    assert str(single.value).endswith("It begins with redis:// or rediss:// or unix://.")
    with pytest.raises(InvalidOptionError) as cluster:
        Cluster(url)
    assert str(cluster.value).endswith("It begins with redis:// or rediss://.")


@pytest.mark.parametrize("class_name", ON_SINGLE_NODE)
@pytest.mark.parametrize("twin", ["", "Sync"])
def test_a_public_class_refuses_a_bad_url_at_once(class_name: str, twin: str) -> None:
    made_by = getattr(taskiq_redis, twin + class_name)
    for url in ("", "localhost:6379", "amqp://guest:secret@localhost"):
        with pytest.raises(InvalidOptionError, match="`url`") as caught:
            made_by(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://:password@localhost?socket_timeout=5",
        "rediss://user:password@[::1]:6379/0",
        "redis://",
    ],
)
def test_good_urls_are_taken(url: str) -> None:
    assert SingleNode(url).url == url
    assert Cluster(url).url == url


@pytest.mark.smoke
def test_a_socket_is_for_one_server_only() -> None:
    assert SingleNode("unix:///run/redis.sock").url == "unix:///run/redis.sock"
    with pytest.raises(InvalidOptionError):
        Cluster("unix:///run/redis.sock")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://:secret@localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://user:secret@localhost", "redis://localhost"),
        ("redis://user:se%40cret@localhost", "redis://localhost"),
        ("redis://user:se@secret@localhost", "redis://localhost"),
        ("redis://localhost?password=secret&username=user", "redis://localhost"),
        ("redis://localhost/1?password=secret#secret", "redis://localhost/1"),
        ("redis://localhost/1?password=se@secret", "redis://localhost/1"),
        ("redis://user:secret@localhost?db=1&password=se@secret", "redis://localhost"),
        ("rediss://user:secret@[::1]:6379/0", "rediss://[::1]:6379/0"),
        ("redis://user:secret@h1:1", "redis://h1:1"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert str(SingleNode(url)) == f"Redis at {shown}"
    assert str(Cluster(url)) == f"Redis Cluster at {shown}"


def test_a_password_of_a_socket_is_not_shown() -> None:
    server = SingleNode("unix://user:secret@/run/redis.sock?db=1&password=secret")
    assert str(server) == "Redis at unix:///run/redis.sock"


MALFORMED = [
    ("redis://host:abc", "its port is not a number from 1 to 65535"),
    ("redis://host:-1", "its port is not a number from 1 to 65535"),
    ("redis://host:0", "its port is not a number from 1 to 65535"),
    ("redis://host:65536", "its port is not a number from 1 to 65535"),
    ("redis://host:1:2", "its port is not a number from 1 to 65535"),
    ("redis://user:sec/ret@localhost", "its port is not a number from 1 to 65535"),
    ("redis://user:sec?ret@localhost", "its port is not a number from 1 to 65535"),
    ("redis://user:sec#ret@localhost", "its port is not a number from 1 to 65535"),
    ("redis://[::1", "its host is malformed"),
    ("redis://host/sec", "its database is not a number"),
    ("redis://host/-1", "its database is not a number"),
    ("redis://host/1/2", "its database is not a number"),
]


@pytest.mark.parametrize(("url", "problem"), MALFORMED)
def test_a_malformed_url_is_refused_and_not_shown(url: str, problem: str) -> None:
    for made_by in (SingleNode, Cluster):
        with pytest.raises(InvalidOptionError) as caught:
            made_by(url)
        assert str(caught.value).startswith(f"Invalid option `url`: {problem}. It looks like redis")
        assert "sec" not in str(caught.value)
        assert url not in str(caught.value)


def test_a_socket_has_a_path() -> None:
    with pytest.raises(InvalidOptionError, match="it names no socket"):
        SingleNode("unix://")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host",
        "x://:secret@[/",
        "user:secret@host",
        "redis:/user:secret@host",
    ],
)
def test_the_error_about_a_bad_url_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        SingleNode(url)
    assert "secret" not in str(caught.value)


def test_sentinels_and_their_master_are_shown_without_options() -> None:
    server = SentinelMaster(
        [("h1", 1), ("h2", 2)],
        "main",
        sentinel_kwargs={"password": "secret"},
        connection_kwargs={"password": "secret"},
    )
    assert str(server) == "Redis master 'main' of the sentinels h1:1, h2:2"


@pytest.mark.parametrize(
    "server",
    [
        SingleNode("redis://user:secret@localhost", connection_kwargs={"password": "secret"}),
        Cluster("redis://user:secret@localhost", connection_kwargs={"password": "secret"}),
        SentinelMaster([("h", 1)], "main", connection_kwargs={"password": "secret"}),
    ],
    ids=lambda server: type(server).__name__,
)
def test_a_password_is_not_shown_by_a_debugger(server: object) -> None:
    assert "secret" not in repr(server)


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_a_sentinel_class_needs_sentinels_and_a_name(twin: str) -> None:
    for class_name in ("ListQueueSentinelBroker", "RedisAsyncSentinelResultBackend"):
        made_by = getattr(taskiq_redis, twin + class_name)
        with pytest.raises(InvalidOptionError, match="`sentinels`: it is empty"):
            made_by([], "main")
        with pytest.raises(InvalidOptionError, match="`master_name`: it is empty"):
            made_by([("h", 1)], "")


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_has_room_for_a_connection(size: int) -> None:
    for refused in (
        lambda: SingleNode("redis://h", size),
        lambda: Cluster("redis://h", size),
        lambda: SentinelMaster([("h", 1)], "main", max_connection_pool_size=size),
    ):
        with pytest.raises(InvalidOptionError, match=f"{size} connections are too few"):
            refused()
    assert SingleNode("redis://h", 1).max_connection_pool_size == 1
    assert SingleNode("redis://h").max_connection_pool_size is None
