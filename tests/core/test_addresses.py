"""Addresses: invalid ones are refused, and no text shows a password."""

from typing import Any

import pytest

import taskiq_redis
from taskiq_redis._core.addresses import Cluster, SentinelMaster, SingleNode
from taskiq_redis.exceptions import InvalidOptionError
from tests.leaks import PASSWORD

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
def test_bad_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidOptionError) as single:
        SingleNode(url)
    assert str(single.value).endswith(
        "Give a URL that begins with redis:// or rediss:// or unix://."
    )
    with pytest.raises(InvalidOptionError) as cluster:
        Cluster(url)
    assert str(cluster.value).endswith("Give a URL that begins with redis:// or rediss://.")


@pytest.mark.parametrize("class_name", ON_SINGLE_NODE)
@pytest.mark.parametrize("twin", ["", "Sync"])
def test_public_classes_refuse_a_bad_url_in_the_constructor(class_name: str, twin: str) -> None:
    constructor = getattr(taskiq_redis, twin + class_name)
    for url in ("", "localhost:6379", "amqp://guest:secret@localhost"):
        with pytest.raises(InvalidOptionError, match="`url`") as caught:
            constructor(url)
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
def test_valid_url_is_accepted(url: str) -> None:
    assert SingleNode(url).url == url
    assert Cluster(url).url == url


@pytest.mark.smoke
def test_socket_url_is_refused_for_clusters() -> None:
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
        ("redis://localhost/1?&password=se@secret", "redis://localhost/1"),
        ("redis://user:secret@h1:1", "redis://h1:1"),
    ],
)
def test_str_hides_the_password(url: str, shown: str) -> None:
    assert str(SingleNode(url)) == f"Redis at {shown}"
    assert str(Cluster(url)) == f"Redis Cluster at {shown}"


def test_str_hides_the_password_of_a_socket_url() -> None:
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
def test_malformed_url_is_refused_without_showing_it(url: str, problem: str) -> None:
    for constructor in (SingleNode, Cluster):
        with pytest.raises(InvalidOptionError) as caught:
            constructor(url)
        assert str(caught.value).startswith(
            f"Invalid option `url`: {problem}. Give a URL such as redis"
        )
        assert "sec" not in str(caught.value)
        assert url not in str(caught.value)


def test_socket_url_needs_a_path() -> None:
    with pytest.raises(InvalidOptionError, match="it has no path of a socket"):
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
def test_error_for_a_bad_url_hides_the_password(url: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        SingleNode(url)
    assert "secret" not in str(caught.value)


def test_str_of_a_sentinel_master_hides_options() -> None:
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
def test_repr_hides_the_password(server: object) -> None:
    assert "secret" not in repr(server)


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_sentinel_classes_need_sentinels_and_a_master_name(twin: str) -> None:
    for class_name in ("ListQueueSentinelBroker", "RedisAsyncSentinelResultBackend"):
        constructor = getattr(taskiq_redis, twin + class_name)
        with pytest.raises(InvalidOptionError, match="`sentinels`: it is empty"):
            constructor([], "main")
        with pytest.raises(InvalidOptionError, match="`master_name`: it is empty"):
            constructor([("h", 1)], "")


@pytest.mark.parametrize("size", [0, -1])
def test_pool_size_below_one_is_refused(size: int) -> None:
    for refused in (
        lambda: SingleNode("redis://h", size),
        lambda: Cluster("redis://h", size),
        lambda: SentinelMaster([("h", 1)], "main", max_connection_pool_size=size),
    ):
        with pytest.raises(
            InvalidOptionError, match=f"`max_connection_pool_size`: {size} is too small"
        ):
            refused()
    assert SingleNode("redis://h", 1).max_connection_pool_size == 1
    assert SingleNode("redis://h").max_connection_pool_size is None


URL = f"redis://user:{PASSWORD}@h:26379?password={PASSWORD}"


@pytest.mark.parametrize(
    ("sentinels", "problem"),
    [
        (URL, "'redis://h:26379' is not the (host, port) of a sentinel"),
        ([URL], "'redis://h:26379' is not the (host, port) of a sentinel"),
        ([f"{PASSWORD}@h:26379"], "'h:26379' is not the (host, port) of a sentinel"),
        ([(URL,)], "('redis://h:26379',) is not the (host, port) of a sentinel"),
        ([(URL, 26379)], "'redis://h:26379' is not the name or address of a host"),
        ([(f"{PASSWORD}@h", 26379)], "'h' is not the name or address of a host"),
        ([{"host": "h", "password": PASSWORD}], "the value is not the (host, port) of a sentinel"),
        ({"password": PASSWORD}, "the value is of type dict"),
    ],
)
def test_sentinel_with_a_password_is_refused_without_showing_it(
    sentinels: Any, problem: str
) -> None:
    for kind in ("Async", "Sync"):
        prefix = kind.removeprefix("Async")
        with pytest.raises(InvalidOptionError) as caught:
            getattr(taskiq_redis, f"{prefix}ListQueueSentinelBroker")(sentinels, "main")
        assert str(caught.value).startswith(f"Invalid option `sentinels`: {problem}. Give ")
        assert PASSWORD not in repr(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_connection_pool_size", f"redis://:{PASSWORD}@h"),
        ("max_connection_pool_size", [("password", PASSWORD)]),
        ("sentinel_kwargs", [("password", PASSWORD)]),
    ],
)
def test_option_of_the_wrong_type_is_refused_without_showing_a_password(
    option: str, value: Any
) -> None:
    with pytest.raises(InvalidOptionError, match=f"`{option}`: .* is of type") as caught:
        SentinelMaster([("h", 1)], "main", **{option: value})
    assert PASSWORD not in str(caught.value)
