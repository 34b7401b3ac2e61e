"""Options: validation, warnings and their line, and reading options back."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from taskiq.serializers import JSONSerializer

import taskiq_redis
from taskiq_redis._core.options import (
    ChannelOptions,
    QueueOptions,
    ResultOptions,
    ScheduleOptions,
    StoredQueueOptions,
    StreamOptions,
    check_hash_tag,
    check_side_keys,
    read_back,
)
from taskiq_redis.exceptions import (
    DuplicateExpireTimeSelectedError,
    ExpireTimeMustBeMoreThanZeroError,
    InvalidOptionError,
    TaskIQRedisError,
)

NOWHERE = "redis://127.0.0.1:1"
SENTINELS = [("127.0.0.1", 1)]

STREAM_BROKERS: list[Callable[..., Any]] = [
    taskiq_redis.RedisStreamBroker,
    taskiq_redis.RedisStreamClusterBroker,
    taskiq_redis.RedisStreamSentinelBroker,
    taskiq_redis.SyncRedisStreamBroker,
    taskiq_redis.SyncRedisStreamClusterBroker,
    taskiq_redis.SyncRedisStreamSentinelBroker,
]


#: class of options, and a public class with all of them
CONSTRUCTORS: dict[Any, Callable[..., Any]] = {
    QueueOptions: taskiq_redis.PubSubBroker,
    ChannelOptions: taskiq_redis.PubSubBroker,
    StoredQueueOptions: taskiq_redis.ListQueueBroker,
    StreamOptions: taskiq_redis.RedisStreamBroker,
    ResultOptions: taskiq_redis.RedisAsyncResultBackend,
    ScheduleOptions: taskiq_redis.ListRedisScheduleSource,
}


EACH = list(CONSTRUCTORS)


def options_of(options: Any, **changes: Any) -> Any:
    """Return options with the defaults of the public constructor, but for some.

    Args:
        options: class of the options.
        changes: values that differ from the defaults.
    """
    parameters = inspect.signature(CONSTRUCTORS[options]).parameters
    names = [field.name for field in dataclasses.fields(options)]
    return options(**{name: parameters[name].default for name in names} | changes)


def address(constructor: Any) -> tuple[Any, ...]:
    """Return the positional arguments with the address of Redis."""
    sentinel = "sentinels" in inspect.signature(constructor).parameters
    return (SENTINELS, "master") if sentinel else (NOWHERE,)


@pytest.mark.parametrize(
    ("options", "name", "minimum"),
    [
        (StreamOptions, "xread_block", 1),
        (StreamOptions, "idle_timeout", 1),
        (StreamOptions, "unacknowledged_batch_size", 1),
        (StreamOptions, "xread_count", 1),
        (StreamOptions, "maxlen", 0),
        (StoredQueueOptions, "max_dead_letters", 1),
        (StoredQueueOptions, "dead_letter_ttl", 0.001),
        (ScheduleOptions, "buffer_size", 1),
    ],
)
@pytest.mark.filterwarnings("ignore:`maxlen`")
def test_number_that_is_too_small_is_refused(options: Any, name: str, minimum: float) -> None:
    assert getattr(options_of(options, **{name: minimum}), name) == minimum
    for small in (minimum - 1, -1000):
        with pytest.raises(InvalidOptionError) as caught:
            options_of(options, **{name: small})
        assert str(caught.value) == (
            f"Invalid option `{name}`: {small} is too small. Give at least {minimum}."
        )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (QueueOptions, "queue_name"),
        (StreamOptions, "queue_name"),
        (StreamOptions, "consumer_group_name"),
        (ScheduleOptions, "prefix"),
    ],
)
@pytest.mark.parametrize("empty", ["", None])
def test_empty_name_is_refused(options: Any, name: str, empty: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"`{name}`: it is empty. Give a name"):
        options_of(options, **{name: empty})


def test_empty_name_of_an_additional_stream_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="`additional_streams`: it is empty"):
        options_of(StreamOptions, additional_streams={"a": ">", "": ">"})


@pytest.mark.parametrize("name", ["maxlen", "xread_count", "unacknowledged_lock_timeout"])
def test_none_is_accepted_for_no_limit(name: str) -> None:
    assert getattr(options_of(StreamOptions, **{name: None}), name) is None


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["result_ex_time", "result_px_time"])
@pytest.mark.parametrize("time", [0, -1])
def test_expiry_time_must_be_positive(name: str, time: int) -> None:
    with pytest.raises(ExpireTimeMustBeMoreThanZeroError, match="must be more than zero"):
        options_of(ResultOptions, **{name: time})


def test_only_one_expiry_time_is_accepted() -> None:
    with pytest.raises(DuplicateExpireTimeSelectedError, match=r"Give one of them\.$"):
        options_of(ResultOptions, result_ex_time=1, result_px_time=1)
    # An invalid time is reported first.
    with pytest.raises(ExpireTimeMustBeMoreThanZeroError):
        options_of(ResultOptions, result_ex_time=0, result_px_time=1)
    assert options_of(ResultOptions, result_ex_time=1).result_px_time is None
    assert options_of(ResultOptions, result_px_time=1).result_ex_time is None


@pytest.mark.parametrize("options", EACH)
def test_options_are_frozen_and_keyword_only(options: Any) -> None:
    instance = options_of(options)
    for field in dataclasses.fields(instance):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, None)
    with pytest.raises(TypeError, match="positional"):
        options("positional")


@pytest.mark.parametrize("options", EACH)
def test_every_option_has_one_description(options: Any) -> None:
    base = options.__mro__[1]
    own = set(dataclasses.fields(options)) - set(
        dataclasses.fields(base) if dataclasses.is_dataclass(base) else ()
    )
    # Python 3.13 removes the indentation of docstrings.
    doc = inspect.cleandoc(options.__doc__)
    for field in own:
        assert doc.count(f"\n    {field.name}: ") == 1, field.name


def test_check_hash_tag_refuses_a_prefix_without_one() -> None:
    check_hash_tag("prefix", "{app}:schedule")
    for name in ("schedule", "{}schedule", "a}b{"):
        with pytest.raises(InvalidOptionError) as caught:
            check_hash_tag("prefix", name)
        assert f"`prefix`: the keys with the prefix {name!r} would be in many slots" in str(
            caught.value
        )
        assert f"as in {{{name}}}:" in str(caught.value)


def test_check_side_keys_refuses_a_queue_with_side_keys_in_another_slot() -> None:
    for name in ("taskiq", "{app}:queue", "queue:{app}", "{app", "{app}}"):
        check_side_keys("queue_name", name)
    for name in ("app}", "}", "{}", "{}app", "}app{"):
        with pytest.raises(InvalidOptionError) as caught:
            check_side_keys("queue_name", name)
        assert str(caught.value) == (
            f"Invalid option `queue_name`: on a cluster, the side keys of {name!r} would be in "
            "another hash slot. Leave out the closing brace, or put a hash tag such as {app} before it."
        )


@pytest.mark.parametrize(
    "constructor",
    [
        taskiq_redis.ListRedisClusterScheduleSource,
        taskiq_redis.SyncListRedisClusterScheduleSource,
    ],
)
def test_indexed_source_on_a_cluster_needs_a_hash_tag(constructor: Any) -> None:
    with pytest.raises(InvalidOptionError, match="Put braces around"):
        constructor(NOWHERE, "schedule")


WARNINGS = [
    pytest.param({"maxlen": 5}, "`maxlen` drops messages that no worker has received", id="maxlen"),
    pytest.param(
        {"unacknowledged_lock_timeout": 5.0}, "has no effect: claiming messages", id="lock"
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize("constructor", STREAM_BROKERS)
@pytest.mark.parametrize(("options", "message"), WARNINGS)
def test_warning_shows_the_line_that_calls_the_constructor(
    constructor: Any, options: dict[str, Any], message: str
) -> None:
    arguments = address(constructor)
    with pytest.warns(UserWarning, match=message) as caught:
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        constructor(*arguments, **options)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)


@pytest.mark.parametrize("constructor", STREAM_BROKERS)
def test_defaults_do_not_warn(constructor: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constructor(*address(constructor))


@pytest.mark.parametrize("constructor", STREAM_BROKERS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"queue_name": ""},
        {"consumer_group_name": ""},
        {"additional_streams": {"": ">"}},
        {"xread_block": 0},
        {"idle_timeout": 0},
        {"unacknowledged_batch_size": 0},
        {"xread_count": 0},
        {"maxlen": -1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_stream_brokers_refuse_invalid_options(constructor: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=f"Invalid option `{next(iter(wrong))}`"):
        constructor(*address(constructor), **wrong)


@pytest.mark.parametrize("twin", ["", "Sync"])
@pytest.mark.parametrize("kind", ["", "Cluster", "Sentinel"])
@pytest.mark.parametrize(
    ("class_name", "wrong", "error"),
    [
        ("PubSub{}Broker", {"queue_name": ""}, InvalidOptionError),
        ("ListQueue{}Broker", {"queue_name": ""}, InvalidOptionError),
        ("RedisAsync{}ResultBackend", {"result_ex_time": 0}, ExpireTimeMustBeMoreThanZeroError),
        (
            "RedisAsync{}ResultBackend",
            {"result_ex_time": 1, "result_px_time": 1},
            DuplicateExpireTimeSelectedError,
        ),
        ("Redis{}ScheduleSource", {"prefix": ""}, InvalidOptionError),
        ("ListRedis{}ScheduleSource", {"prefix": ""}, InvalidOptionError),
        ("ListRedis{}ScheduleSource", {"buffer_size": 0}, InvalidOptionError),
    ],
)
def test_other_public_classes_refuse_invalid_options(
    twin: str, kind: str, class_name: str, wrong: dict[str, Any], error: type[Exception]
) -> None:
    constructor = getattr(taskiq_redis, twin + class_name.format(kind))
    with pytest.raises(error) as caught:
        constructor(*address(constructor), **wrong)
    assert isinstance(caught.value, TaskIQRedisError)


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_read_back_returns_the_current_options(twin: str) -> None:
    stream = {
        "queue_name": "q",
        "consumer_group_name": "g",
        "consumer_name": "c",
        "consumer_id": "0",
        "mkstream": False,
        "xread_block": 1,
        "approximate": False,
        "idle_timeout": 2,
        "unacknowledged_batch_size": 3,
        "xread_count": 4,
        "additional_streams": {"a": ">"},
        "keep_failed": True,
        "max_dead_letters": 8,
        "dead_letter_ttl": 1.5,
    }
    broker = getattr(taskiq_redis, f"{twin}RedisStreamBroker")(NOWHERE, **stream)
    assert read_back(broker, StreamOptions) == options_of(StreamOptions, **stream)
    broker.queue_name = "changed"
    assert read_back(broker, StreamOptions).queue_name == "changed"

    serializer = JSONSerializer()
    result = {
        "keep_results": False,
        "result_ex_time": 5,
        "serializer": serializer,
        "prefix_str": "p",
    }
    backend = getattr(taskiq_redis, f"{twin}RedisAsyncResultBackend")(NOWHERE, **result)
    assert read_back(backend, ResultOptions) == options_of(ResultOptions, **result)

    schedule = {"prefix": "p", "serializer": serializer, "buffer_size": 7}
    for class_name in ("RedisScheduleSource", "ListRedisScheduleSource"):
        source = getattr(taskiq_redis, twin + class_name)(NOWHERE, **schedule)
        assert read_back(source, ScheduleOptions) == options_of(ScheduleOptions, **schedule)


@pytest.mark.parametrize(("options", "message"), WARNINGS)
def test_to_sync_does_not_warn_again(options: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        broker = taskiq_redis.RedisStreamBroker(NOWHERE, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taskiq_redis.to_sync(broker)
