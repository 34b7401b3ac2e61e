"""The options: what is refused, what is warned about, and where the warning points."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from taskiq.serializers import JSONSerializer

import taskiq_redis
from taskiq_redis._core.options import (
    QueueOptions,
    ResultOptions,
    ScheduleOptions,
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


def where(made_by: Any) -> tuple[Any, ...]:
    """Return the positional arguments that say where Redis is; nobody connects."""
    sentinel = "sentinels" in inspect.signature(made_by).parameters
    return (SENTINELS, "master") if sentinel else (NOWHERE,)


@pytest.mark.parametrize(
    ("options", "name", "least"),
    [
        (StreamOptions, "xread_block", 1),
        (StreamOptions, "idle_timeout", 1),
        (StreamOptions, "unacknowledged_batch_size", 1),
        (StreamOptions, "xread_count", 1),
        (StreamOptions, "maxlen", 0),
        (ScheduleOptions, "buffer_size", 1),
    ],
)
@pytest.mark.filterwarnings("ignore:`maxlen`")
def test_a_number_that_is_too_small_is_refused(options: Any, name: str, least: int) -> None:
    assert getattr(options(**{name: least}), name) == least
    for small in (least - 1, -1000):
        with pytest.raises(InvalidOptionError) as caught:
            options(**{name: small})
        assert str(caught.value) == (
            f"Invalid option `{name}`: {small} is too small. Give at least {least}."
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
def test_an_empty_name_is_refused(options: Any, name: str, empty: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"`{name}`: it is empty. Give it a name"):
        options(**{name: empty})


def test_an_empty_name_of_a_further_stream_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="`additional_streams`: it is empty"):
        StreamOptions(additional_streams={"a": ">", "": ">"})


@pytest.mark.parametrize("name", ["maxlen", "xread_count", "unacknowledged_lock_timeout"])
def test_none_is_no_limit(name: str) -> None:
    options: Any = StreamOptions
    assert getattr(options(**{name: None}), name) is None


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["result_ex_time", "result_px_time"])
@pytest.mark.parametrize("time", [0, -1])
def test_results_can_not_expire_before_they_are_there(name: str, time: int) -> None:
    options: Any = ResultOptions
    with pytest.raises(ExpireTimeMustBeMoreThanZeroError, match="must be more than zero"):
        options(**{name: time})


def test_results_expire_once() -> None:
    with pytest.raises(DuplicateExpireTimeSelectedError, match=r"Give one of them\.$"):
        ResultOptions(result_ex_time=1, result_px_time=1)
    # The other fault is the worse one.
    with pytest.raises(ExpireTimeMustBeMoreThanZeroError):
        ResultOptions(result_ex_time=0, result_px_time=1)
    assert ResultOptions(result_ex_time=1).result_px_time is None
    assert ResultOptions(result_px_time=1).result_ex_time is None


@pytest.mark.parametrize("options", [QueueOptions, StreamOptions, ResultOptions, ScheduleOptions])
def test_the_defaults_are_fine_and_can_not_be_changed(options: Any) -> None:
    made = options()
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    with pytest.raises(TypeError):
        options("positional")


@pytest.mark.parametrize("options", [QueueOptions, StreamOptions, ResultOptions, ScheduleOptions])
def test_each_option_is_described_once(options: Any) -> None:
    own = set(dataclasses.fields(options)) - set(
        dataclasses.fields(options.__mro__[1]) if options is StreamOptions else ()
    )
    # Some versions of Python strip the indentation of docstrings.
    doc = inspect.cleandoc(options.__doc__)
    for field in own:
        assert doc.count(f"\n    {field.name}: ") == 1, field.name


def test_a_name_without_a_hash_tag_is_refused_where_it_needs_one() -> None:
    check_hash_tag("prefix", "{app}:schedule")
    for name in ("schedule", "{}schedule", "a}b{"):
        with pytest.raises(InvalidOptionError) as caught:
            check_hash_tag("prefix", name)
        assert f"`prefix`: the keys of {name!r} are spread" in str(caught.value)
        assert f"as in {{{name}}}." in str(caught.value)


def test_a_name_whose_side_keys_would_be_elsewhere_is_refused() -> None:
    for name in ("taskiq", "{app}:queue", "queue:{app}", "{app", "{app}}"):
        check_side_keys("queue_name", name)
    for name in ("app}", "}", "{}", "{}app", "}app{"):
        with pytest.raises(InvalidOptionError) as caught:
            check_side_keys("queue_name", name)
        assert str(caught.value) == (
            f"Invalid option `queue_name`: on a cluster, no key beside {name!r} would share its hash "
            "slot. Leave out the closing brace, or write a hash tag before it, such as {app}."
        )


@pytest.mark.parametrize(
    "made_by",
    [
        taskiq_redis.ListRedisClusterScheduleSource,
        taskiq_redis.SyncListRedisClusterScheduleSource,
    ],
)
def test_an_indexed_source_on_a_cluster_needs_a_hash_tag(made_by: Any) -> None:
    with pytest.raises(InvalidOptionError, match="Put braces around"):
        made_by(NOWHERE, "schedule")


WARNINGS = [
    pytest.param({"maxlen": 5}, "`maxlen` drops messages that no worker has received", id="maxlen"),
    pytest.param(
        {"unacknowledged_lock_timeout": 5.0}, "has no effect: taking messages over", id="lock"
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize("made_by", STREAM_BROKERS)
@pytest.mark.parametrize(("options", "message"), WARNINGS)
def test_a_warning_names_the_line_of_the_constructor_s_caller(
    made_by: Any, options: dict[str, Any], message: str
) -> None:
    arguments = where(made_by)
    with pytest.warns(UserWarning, match=message) as caught:
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        made_by(*arguments, **options)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)


@pytest.mark.parametrize("made_by", STREAM_BROKERS)
def test_the_defaults_of_a_public_class_warn_of_nothing(made_by: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made_by(*where(made_by))


@pytest.mark.parametrize("made_by", STREAM_BROKERS)
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
def test_a_public_class_refuses_what_its_options_refuse(
    made_by: Any, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOptionError, match=f"Invalid option `{next(iter(wrong))}`"):
        made_by(*where(made_by), **wrong)


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
def test_the_other_public_classes_refuse_it_too(
    twin: str, kind: str, class_name: str, wrong: dict[str, Any], error: type[Exception]
) -> None:
    made_by = getattr(taskiq_redis, twin + class_name.format(kind))
    with pytest.raises(error) as caught:
        made_by(*where(made_by), **wrong)
    assert isinstance(caught.value, TaskIQRedisError)


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_what_is_read_back_is_what_was_given(twin: str) -> None:
    given = {
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
    }
    broker = getattr(taskiq_redis, f"{twin}RedisStreamBroker")(NOWHERE, **given)
    assert read_back(broker, StreamOptions) == StreamOptions(**given)  # type: ignore[arg-type]
    broker.queue_name = "changed"
    assert read_back(broker, StreamOptions).queue_name == "changed"

    serializer = JSONSerializer()
    kept = {"keep_results": False, "result_ex_time": 5, "serializer": serializer, "prefix_str": "p"}
    backend = getattr(taskiq_redis, f"{twin}RedisAsyncResultBackend")(NOWHERE, **kept)
    assert read_back(backend, ResultOptions) == ResultOptions(**kept)  # type: ignore[arg-type]

    planned = {"prefix": "p", "serializer": serializer, "buffer_size": 7}
    for class_name in ("RedisScheduleSource", "ListRedisScheduleSource"):
        source = getattr(taskiq_redis, twin + class_name)(NOWHERE, **planned)
        assert read_back(source, ScheduleOptions) == ScheduleOptions(**planned)  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "message"), WARNINGS)
def test_a_twin_does_not_warn_again(options: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        broker = taskiq_redis.RedisStreamBroker(NOWHERE, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taskiq_redis.to_sync(broker)
