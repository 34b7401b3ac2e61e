"""Options that the constructors of all public classes refuse, before anything is sent."""

import enum
import inspect
from typing import Any

import pytest
from taskiq.serializers import JSONSerializer

import taskiq_redis
from taskiq_redis._core.checks import check_entry_id, check_name, check_number
from taskiq_redis._core.keys import side_key
from taskiq_redis.exceptions import InvalidOptionError

NOWHERE = "redis://127.0.0.1:1"
TWINS = pytest.mark.parametrize("twin", ["", "Sync"])
KINDS = pytest.mark.parametrize("kind", ["", "Cluster", "Sentinel"])

#: class name with braces for the topology, option with an invalid value, part of the error
WRONG_TYPES: list[tuple[str, dict[str, Any], str]] = [
    ("PubSub{}Broker", {"queue_name": 5}, "5 is of type int. Give a value of type str."),
    ("ListQueue{}Broker", {"queue_name": b"q"}, "b'q' is of type bytes. Give a value of type str."),
    ("RedisStream{}Broker", {"consumer_group_name": 5}, "5 is of type int. Give a value of type"),
    ("RedisStream{}Broker", {"consumer_name": 5}, "5 is of type int. Give a value of type str or"),
    ("RedisStream{}Broker", {"idle_timeout": "x"}, "'x' is of type str. Give a value of type int."),
    (
        "RedisStream{}Broker",
        {"xread_block": 0.5},
        "0.5 is of type float. Give a value of type int.",
    ),
    (
        "RedisStream{}Broker",
        {"xread_count": "9"},
        "'9' is of type str. Give a value of type int or",
    ),
    (
        "RedisStream{}Broker",
        {"maxlen": "9"},
        "'9' is of type str. Give a value of type int or None.",
    ),
    ("RedisStream{}Broker", {"mkstream": "no"}, "'no' is of type str. Give a value of type bool."),
    (
        "RedisStream{}Broker",
        {"additional_streams": ["a"]},
        "['a'] is of type list. Give a value of",
    ),
    ("RedisStream{}Broker", {"additional_streams": {5: ">"}}, "5 is of type int. Give a value of"),
    (
        "RedisStream{}Broker",
        {"additional_streams": {"a": None}},
        "None is not the ID of a stream entry.",
    ),
    (
        "RedisStream{}Broker",
        {"additional_streams": {"a": "$"}},
        "'$' is not the ID of a stream entry. Give",
    ),
    (
        "RedisStream{}Broker",
        {"consumer_id": "now"},
        "'now' is not the ID of a stream entry. Give an ID",
    ),
    (
        "RedisStream{}Broker",
        {"consumer_id": ">"},
        "'>' is not the ID of a stream entry. Give an ID such",
    ),
    ("RedisAsync{}ResultBackend", {"keep_results": "no"}, "'no' is of type str. Give a value of"),
    ("RedisAsync{}ResultBackend", {"result_ex_time": "60"}, "'60' is of type str. Give a value of"),
    ("RedisAsync{}ResultBackend", {"result_px_time": 0.5}, "0.5 is of type float. Give a value of"),
    (
        "RedisAsync{}ResultBackend",
        {"prefix_str": 5},
        "5 is of type int. Give a value of type str or",
    ),
    (
        "RedisAsync{}ResultBackend",
        {"serializer": JSONSerializer},
        "is not a serializer. Give an object",
    ),
    ("Redis{}ScheduleSource", {"prefix": 5}, "5 is of type int. Give a value of type str."),
    (
        "Redis{}ScheduleSource",
        {"serializer": "json"},
        "'json' is not a serializer. Give an object with",
    ),
    ("ListRedis{}ScheduleSource", {"buffer_size": "9"}, "'9' is of type str. Give a value of type"),
    (
        "ListRedis{}ScheduleSource",
        {"skip_past_schedules": "no"},
        "'no' is of type str. Give a value",
    ),
]


def make(class_name: str, **options: Any) -> Any:
    """Construct an object of a public class, without connecting."""
    constructor = getattr(taskiq_redis, class_name)
    sentinel = "sentinels" in inspect.signature(constructor).parameters
    return constructor(*([("127.0.0.1", 1)], "main") if sentinel else (NOWHERE,), **options)


@TWINS
@KINDS
@pytest.mark.parametrize(
    ("class_name", "wrong", "message"), WRONG_TYPES, ids=lambda value: str(value)[:40]
)
def test_option_of_the_wrong_type_is_refused(
    twin: str, kind: str, class_name: str, wrong: dict[str, Any], message: str
) -> None:
    (option,) = wrong
    with pytest.raises(InvalidOptionError) as caught:
        make(twin + class_name.format(kind), **wrong)
    assert str(caught.value).startswith(f"Invalid option `{option}`: ")
    assert message in str(caught.value)


@TWINS
@pytest.mark.parametrize(
    ("class_name", "right"),
    [
        ("RedisStreamBroker", {"consumer_id": 0}),
        ("RedisStreamBroker", {"consumer_id": "1700000000000-0"}),
        ("RedisStreamBroker", {"additional_streams": {"a": 0, "b": "5-1", "c": ">"}}),
        ("RedisStreamBroker", {"mkstream": 1}),
        ("RedisAsyncResultBackend", {"prefix_str": ""}),
    ],
    ids=str,
)
def test_convertible_values_are_accepted(twin: str, class_name: str, right: dict[str, Any]) -> None:
    instance = make(twin + class_name, **right)
    assert {name: getattr(instance, name) for name in right} == right


class DuckSerializer:
    """A serializer that isn't a `TaskiqSerializer`."""

    def dumpb(self, value: Any) -> bytes:
        return b""

    def loadb(self, value: bytes) -> Any:
        return None


class Queue(str, enum.Enum):
    """Queue names as an enum."""

    FAST = "fast"


def test_any_object_with_the_methods_of_a_serializer_is_accepted() -> None:
    for class_name in ("RedisAsyncResultBackend", "ListRedisScheduleSource"):
        serializer = DuckSerializer()
        assert make(class_name, serializer=serializer).serializer is serializer


def test_string_enum_is_accepted_as_a_name() -> None:
    assert make("ListQueueClusterBroker", queue_name=Queue.FAST).queue_name == "fast"
    assert side_key(Queue.FAST, "due") == "{fast}:due"


STRANGE = ["{a}b", "a:b", "a b", "a\nb", "a\0b", "ünï ☃ 𝄞", "*?[a]", "x" * 100_000, " "]


@TWINS
@KINDS
@pytest.mark.parametrize("text", STRANGE, ids=lambda text: repr(text)[:20])
def test_name_may_be_any_text(twin: str, kind: str, text: str) -> None:
    for class_name in ("PubSub{}Broker", "ListQueue{}Broker", "RedisStream{}Broker"):
        assert make(twin + class_name.format(kind), queue_name=text).queue_name == text
    assert make(f"{twin}RedisAsync{kind}ResultBackend", prefix_str=text).prefix_str == text
    prefix = f"{{tag}}{text}"
    for class_name in ("Redis{}ScheduleSource", "ListRedis{}ScheduleSource"):
        assert make(twin + class_name.format(kind), prefix=prefix).prefix == prefix


@TWINS
@KINDS
@pytest.mark.parametrize(
    ("class_name", "option"),
    [
        ("PubSub{}Broker", "queue_name"),
        ("ListQueue{}Broker", "queue_name"),
        ("RedisStream{}Broker", "queue_name"),
        ("RedisStream{}Broker", "consumer_group_name"),
        ("RedisStream{}Broker", "consumer_name"),
        ("RedisAsync{}ResultBackend", "prefix_str"),
        ("Redis{}ScheduleSource", "prefix"),
        ("ListRedis{}ScheduleSource", "prefix"),
    ],
)
def test_name_that_is_not_valid_text_is_refused(
    twin: str, kind: str, class_name: str, option: str
) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        make(twin + class_name.format(kind), **{option: "a\udcff"})
    assert str(caught.value) == (
        rf"Invalid option `{option}`: 'a\udcff' can't be encoded as UTF-8 (surrogates not allowed). "
        "Give a name that is valid text."
    )


@TWINS
@pytest.mark.parametrize(
    "class_name", ["PubSub{}Broker", "ListQueue{}Broker", "RedisStream{}Broker"]
)
@pytest.mark.parametrize("queue", ["a}b", "}", "{}a", "}a{"])
def test_cluster_broker_refuses_a_queue_without_side_keys_in_its_slot(
    twin: str, class_name: str, queue: str
) -> None:
    for kind in ("", "Sentinel"):
        assert make(twin + class_name.format(kind), queue_name=queue).queue_name == queue
    with pytest.raises(InvalidOptionError, match="`queue_name`: on a cluster, the side keys of"):
        make(twin + class_name.format("Cluster"), queue_name=queue)


@TWINS
def test_cluster_broker_refuses_an_additional_stream_without_side_keys_in_its_slot(
    twin: str,
) -> None:
    streams = {"{a}b": ">", "a}b": ">"}
    assert (
        make(f"{twin}RedisStreamBroker", additional_streams=streams).additional_streams == streams
    )
    with pytest.raises(
        InvalidOptionError, match=r"`additional_streams`: on a .* side keys of 'a}b'"
    ):
        make(f"{twin}RedisStreamClusterBroker", additional_streams=streams)


#: connection options that redis-py refuses, or accepts and fails later
WRONG_CONNECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"nonsense": 1}, "`connection_kwargs`: .*unexpected keyword argument 'nonsense'"),
    ({"protocol": 5}, "`connection_kwargs`: protocol must be either 2 or 3"),
    (
        {"socket_timeout": "5"},
        "`socket_timeout`: '5' is not a number. Give a number of at least 0.001.",
    ),
    ({"socket_timeout": 0}, "`socket_timeout`: 0 is too small. Give at least 0.001."),
    ({"socket_connect_timeout": -1}, "`socket_connect_timeout`: -1 is too small."),
    (
        {"health_check_interval": "5"},
        "`health_check_interval`: '5' is not a number. Give a number of at least 0.",
    ),
    ({"max_connections": 0}, "`max_connections`: 0 is too small. Give at least 1."),
    (
        {"max_connections": "5"},
        "`max_connections`: '5' is not a number. Give a number of at least 1.",
    ),
    ({"retry": 3}, "`retry`: 3 doesn't fit this client"),
    ({"retry_on_error": ["x"]}, "`retry_on_error`: 'x' is not a class of exceptions."),
]

CLASSES = [
    "PubSub{}Broker",
    "ListQueue{}Broker",
    "RedisStream{}Broker",
    "RedisAsync{}ResultBackend",
    "Redis{}ScheduleSource",
    "ListRedis{}ScheduleSource",
]


@TWINS
@KINDS
@pytest.mark.parametrize(("wrong", "message"), WRONG_CONNECTIONS, ids=lambda value: str(value)[:30])
def test_connection_options_are_checked_by_the_constructor(
    twin: str, kind: str, wrong: dict[str, Any], message: str
) -> None:
    for class_name in CLASSES:
        with pytest.raises(InvalidOptionError, match=message):
            make(twin + class_name.format(kind), **wrong)


QUERIES = [
    ("?socket_timeout=abc", "`url`: Invalid value for 'socket_timeout' in connection URL."),
    ("?db=x", "`url`: Invalid value for 'db' in connection URL."),
    ("?max_connections=x", "`url`: Invalid value for 'max_connections' in connection URL."),
    ("?nonsense=1", "`connection_kwargs`: .*unexpected keyword argument 'nonsense'"),
    ("?socket_timeout=0", "`socket_timeout`: 0.0 is too small."),
]


@TWINS
@pytest.mark.parametrize("kind", ["", "Cluster"])
@pytest.mark.parametrize(("query", "message"), QUERIES)
def test_connection_options_in_a_url_are_checked_by_the_constructor(
    twin: str, kind: str, query: str, message: str
) -> None:
    for class_name in CLASSES:
        with pytest.raises(InvalidOptionError, match=message):
            getattr(taskiq_redis, twin + class_name.format(kind))(NOWHERE + query)


@TWINS
def test_cluster_classes_refuse_a_database_other_than_0(twin: str) -> None:
    constructor = getattr(taskiq_redis, f"{twin}ListQueueClusterBroker")
    for url, options in ((f"{NOWHERE}/1", {}), (f"{NOWHERE}?db=1", {}), (NOWHERE, {"db": 1})):
        with pytest.raises(InvalidOptionError, match="a cluster has no database but 0"):
            constructor(url, **options)
    constructor(f"{NOWHERE}/0", db=0)


@TWINS
@pytest.mark.parametrize(
    ("sentinels", "message"),
    [
        ("127.0.0.1", "'127.0.0.1' is not the (host, port) of a sentinel."),
        (["127.0.0.1:26379"], "'127.0.0.1:26379' is not the (host, port) of a sentinel."),
        ([("127.0.0.1",)], "('127.0.0.1',) is not the (host, port) of a sentinel."),
        ([("127.0.0.1", "x")], "('127.0.0.1', 'x') is not the (host, port) of a sentinel."),
        ([(5, 26379)], "(5, 26379) is not the (host, port) of a sentinel."),
        (5, "5 is of type int. Give a value of type Sequence."),
    ],
)
def test_sentinels_that_are_not_pairs_are_refused(twin: str, sentinels: Any, message: str) -> None:
    for class_name in ("ListQueueSentinelBroker", "RedisAsyncSentinelResultBackend"):
        with pytest.raises(InvalidOptionError) as caught:
            getattr(taskiq_redis, twin + class_name)(sentinels, "main")
        assert str(caught.value).startswith(f"Invalid option `sentinels`: {message}")


@TWINS
@pytest.mark.parametrize(
    "wrong",
    [{"master_name": 5}, {"min_other_sentinels": "1"}, {"sentinel_kwargs": 5}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_sentinel_options_of_the_wrong_type_are_refused(twin: str, wrong: dict[str, Any]) -> None:
    constructor = getattr(taskiq_redis, f"{twin}RedisStreamSentinelBroker")
    with pytest.raises(InvalidOptionError, match=f"`{next(iter(wrong))}`: .* is of type"):
        constructor([("127.0.0.1", "26379")], **{"master_name": "main", **wrong})


def test_checks_of_names_numbers_and_entry_ids() -> None:
    check_name("n", "a")
    for number in (None, 1, 1.5):
        check_number("n", number, 1)
    for entry_id in (0, "0", "5-1", "$"):
        check_entry_id("i", entry_id, "$")
    for wrong in ("", "-1", "1-", "-", "+", "1-2-3", ">", "０"):  # noqa: RUF001
        with pytest.raises(InvalidOptionError):
            check_entry_id("i", wrong, "$")


#: class, wrong option, what the error suggests
TYPOS = [
    ("ListQueue{}Broker", "queue", "queue_name"),
    ("PubSub{}Broker", "channel", "queue_name"),
    ("RedisStream{}Broker", "queue_nme", "queue_name"),
    ("RedisStream{}Broker", "group", "consumer_group_name"),
    ("RedisStream{}Broker", "max_retries", "max_deliveries"),
    ("RedisStream{}Broker", "visibility_timeout", "idle_timeout"),
    ("RedisStream{}Broker", "Kick_Timeout", "kick_timeout"),
    ("RedisAsync{}ResultBackend", "expire", "result_ex_time"),
    ("RedisAsync{}ResultBackend", "ttl", "result_ex_time"),
    ("RedisAsync{}ResultBackend", "result_exp_time", "result_ex_time"),
    ("RedisAsync{}ResultBackend", "keep_result", "keep_results"),
    ("RedisAsync{}ResultBackend", "prefix", "prefix_str"),
    ("ListRedis{}ScheduleSource", "prefix_str", "prefix"),
    ("ListRedis{}ScheduleSource", "buffersize", "buffer_size"),
    ("ListQueue{}Broker", "usernam", "username"),
    ("RedisAsync{}ResultBackend", "passwd", "password"),
    ("RedisStream{}Broker", "socket_timeot", "socket_timeout"),
]


@TWINS
@pytest.mark.parametrize("kind", ["", "Cluster", "Sentinel"])
@pytest.mark.parametrize(("class_name", "wrong", "meant"), TYPOS)
def test_error_for_an_unknown_option_suggests_the_right_one(
    twin: str, kind: str, class_name: str, wrong: str, meant: str
) -> None:
    constructor = getattr(taskiq_redis, twin + class_name.format(kind))
    where = ([("127.0.0.1", 26379)], "main") if kind == "Sentinel" else (NOWHERE,)
    with pytest.raises(InvalidOptionError) as caught:
        constructor(*where, **{wrong: 1})
    assert f"unexpected keyword argument '{wrong}'. Did you mean `{meant}`? " in str(caught.value)


@TWINS
def test_error_for_an_unknown_option_suggests_options_of_subclasses(twin: str) -> None:
    base: Any = getattr(taskiq_redis, f"{twin}ListQueueBroker")

    class Own(base):
        def __init__(self, *args: Any, retention: int = 1, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    for wrong, meant in (("retension", "retention"), ("queue", "queue_name")):
        with pytest.raises(InvalidOptionError, match=f"Did you mean `{meant}`"):
            Own(NOWHERE, **{wrong: 1})
    with pytest.raises(InvalidOptionError) as caught:
        Own(NOWHERE, nonsense=1)
    assert "Did you mean" not in str(caught.value)
