"""Key names: hash slots, minutes, and patterns for SCAN."""

import itertools
import random
import time as time_module
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from redis import exceptions as errors
from redis.crc import key_slot

from taskiq_redis._core.keys import (
    ScheduleKeys,
    escape_glob,
    has_side_keys,
    hash_tag,
    minute_of,
    minute_to_unix,
    progress_key,
    result_key,
    side_key,
)
from taskiq_redis._core.redis_errors import translate
from tests.servers import Topology, client_of, keys_of

#: names without braces, and names with a hash tag
NAMES = [
    "taskiq",
    "a b",
    "ü☃",
    "app:queue",
    "x" * 300,
    "{app}",
    "{app}:queue",
    "queue:{app}",
    "{app}{other}",
    "{app}:{",
    "{{app}}",
    "}{app}",
    "a}b{c}",
]


def slot(key: str) -> int:
    return key_slot(key.encode())


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("taskiq", None),
        ("", None),
        ("{}", None),
        ("{}app", None),
        ("{}{app}", None),
        ("{app", None),
        ("app}", None),
        ("}app{", None),
        ("{app}", "app"),
        ("a:{app}:b", "app"),
        ("{app}{other}", "app"),
        ("{{app}}", "{app"),
        ("}{app}", "app"),
        ("{ }", " "),
    ],
)
def test_hash_tag_is_the_one_of_redis(name: str, tag: str | None) -> None:
    assert hash_tag(name) == tag
    if tag is not None:
        assert slot(name) == slot(tag)


def test_hash_tag_decides_the_slot_of_random_names() -> None:
    chance = random.Random(1)
    for _ in range(500):
        tag = "".join(chance.choices("abc{ü:", k=chance.randint(1, 4)))
        before, after = ("".join(chance.choices("xy:}{", k=chance.randint(0, 3))) for _ in "ab")
        before = before.replace("{", "")
        name = f"{before}{{{tag}}}{after}"
        assert hash_tag(name) == tag
        assert slot(name) == slot(tag)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["dead", "due", "workers:1"])
def test_side_key_is_in_the_slot_of_its_queue(name: str, suffix: str) -> None:
    key = side_key(name, suffix)
    assert slot(key) == slot(name)
    assert key != name
    assert key.endswith(f":{suffix}")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("taskiq", "{taskiq}:dead"),
        ("{app}:queue", "{app}:queue:dead"),
        ("queue:{app}", "queue:{app}:dead"),
    ],
)
def test_side_key_adds_braces_if_the_queue_has_no_hash_tag(name: str, key: str) -> None:
    assert side_key(name, "dead") == key


def test_side_keys_of_different_names_differ() -> None:
    keys = [side_key(name, suffix) for name in NAMES for suffix in ("dead", "due")]
    assert len(set(keys)) == len(keys)


@pytest.mark.smoke
def test_has_side_keys_compares_the_slots() -> None:
    for length in range(1, 6):
        for name in map("".join, itertools.product("ab{}", repeat=length)):
            keys = [side_key(name, suffix) for suffix in ("dead", "due", "workers:1")]
            assert has_side_keys(name) == all(slot(key) == slot(name) for key in keys), name
    assert not has_side_keys("")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("prefix", "key"), [(None, "id"), ("", ":id"), ("app", "app:id"), ("a:b", "a:b:id")]
)
def test_result_keys_are_those_of_1_2_4(prefix: str | None, key: str) -> None:
    assert result_key("id", prefix) == key
    assert progress_key(result_key("id", prefix)) == f"{key}__progress"


def test_schedule_keys_are_those_of_1_2_4() -> None:
    keys = ScheduleKeys("schedule")
    assert keys.cron == "schedule:cron"
    assert keys.interval == "schedule:interval"
    assert keys.data("id") == "schedule:data:id"
    assert keys.minute("2030-01-02T03:04") == "schedule:time:2030-01-02T03:04"
    assert keys.due == "{schedule}:due"


def test_keys_of_a_prefix_with_a_hash_tag_share_a_slot() -> None:
    keys = ScheduleKeys("{app}:schedule")
    names = [
        keys.cron,
        keys.interval,
        keys.due,
        keys.data("some id"),
        keys.minute("2030-01-02T03:04"),
    ]
    assert {slot(name) for name in names} == {slot("app")}
    assert len(set(names)) == len(names)


UTC = timezone.utc
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("time", "minute"),
    [
        (datetime(2030, 1, 2, 3, 4), "2030-01-02T03:04"),  # noqa: DTZ001 - it is UTC
        (datetime(2030, 1, 2, 3, 4, tzinfo=UTC), "2030-01-02T03:04"),
        (datetime(2030, 1, 2, 3, 4, 59, 999999, tzinfo=UTC), "2030-01-02T03:04"),
        (datetime(2030, 1, 2, 8, 34, tzinfo=INDIA), "2030-01-02T03:04"),
        (datetime(2030, 1, 1, 22, 4, tzinfo=timezone(timedelta(hours=-5))), "2030-01-02T03:04"),
        (datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(seconds=1))), "2030-01-02T03:03"),
        (datetime(2029, 12, 31, 20, 0, tzinfo=timezone(timedelta(hours=-4))), "2030-01-01T00:00"),
        (datetime(999, 1, 2, 3, 4, tzinfo=UTC), "0999-01-02T03:04"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31T23:59"),
    ],
    ids=str,
)
def test_minute_is_in_utc(time: datetime, minute: str) -> None:
    assert minute_of(time) == minute
    unix = minute_to_unix(minute)
    assert unix is not None
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix)
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    assert timedelta(0) <= aware - begin < timedelta(minutes=1)


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=INDIA),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=5))),
    ],
    ids=str,
)
def test_minute_outside_the_calendar_is_its_first_or_last(time: datetime) -> None:
    assert minute_of(time) in {"0001-01-01T00:00", "9999-12-31T23:59"}


@pytest.fixture
def india(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose local time is 5.5 hours ahead of UTC."""
    if not hasattr(time_module, "tzset"):
        pytest.skip("the time zone of a process can't be changed on this system")
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "IST-5:30")
        time_module.tzset()
        yield
    time_module.tzset()


@pytest.mark.smoke
@pytest.mark.usefixtures("india")
def test_local_time_zone_is_ignored() -> None:
    naive = datetime(2030, 1, 2, 3, 4)  # noqa: DTZ001 - it is UTC
    assert naive.timestamp() != naive.replace(tzinfo=UTC).timestamp()
    assert minute_of(naive) == "2030-01-02T03:04"
    assert minute_to_unix("2030-01-02T03:04") == naive.replace(tzinfo=UTC).timestamp()
    assert minute_of(naive.astimezone()) == "2030-01-01T21:34"


def test_minutes_sort_like_their_unix_times() -> None:
    times = [datetime(year, 1, 1, tzinfo=UTC) for year in (1, 999, 1000, 1969, 1970, 2038, 9999)]
    minutes = [minute_of(time) for time in times]
    assert minutes == sorted(minutes)
    scores = [minute_to_unix(minute) for minute in minutes]
    assert scores == sorted(score for score in scores if score is not None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2030-01-02",
        "2030-13-02T03:04",
        "2030-02-30T03:04",
        "2030-01-02T03:04:05",
        "2030-01-02T24:00",
        "0000-01-02T03:04",
        "30-01-02T03:04",
        "2030-01-02T03:04Z",
    ],
)
def test_other_text_is_not_a_minute(text: str) -> None:
    assert minute_to_unix(text) is None
    assert ScheduleKeys("schedule").parse_minute(f"schedule:time:{text}") is None


@pytest.mark.parametrize("text", ["2030-1-2T3:4", "２０３０-01-02T03:04", "2030-01-02T03:4"])  # noqa: RUF001
def test_other_spellings_of_a_minute_are_refused(text: str) -> None:
    assert minute_to_unix(text) is None


@pytest.mark.parametrize("prefix", ["schedule", "a:b", "{app}:x", "time", "a*b", "x:time:y"])
def test_minute_is_parsed_from_its_key(prefix: str) -> None:
    keys = ScheduleKeys(prefix)
    minute = "2030-01-02T03:04"
    assert keys.parse_minute(keys.minute(minute)) == minute
    for other in (minute, keys.cron, keys.data("2030-01-02T03:04"), keys.due, ""):
        assert keys.parse_minute(other) is None
    assert keys.parse_minute(f"other:{keys.minute(minute)}") is None
    assert ScheduleKeys(f"{prefix}:more").parse_minute(keys.minute(minute)) is None


WILD = ["a*b", "a?b", "a[bc]d", "a[^b]c", "a[b-d]e", "a\\b", "a\\*b", "[", "]", "a]b[", "^", "-"]


@pytest.mark.smoke
def test_escape_glob_escapes_only_wildcards() -> None:
    assert escape_glob("a*?[b]^-\\c") == r"a\*\?\[b\]\^\-\\c"
    assert escape_glob("{app}:schedule_1.ü") == "{app}:schedule_1.ü"


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_scan_with_an_escaped_name_matches_only_that_name(topology: Topology, name: str) -> None:
    redis = client_of(topology)
    decoys = ["aXb", "ab", "abd", "acc", "ace", "a", "\\", "a\\xb"]
    for key in [*WILD, *decoys]:
        redis.set(f"{name}:{key}", "")
    for key in [*WILD, *decoys]:
        assert keys_of(topology, escape_glob(f"{name}:{key}")) == [f"{name}:{key}"]


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_scan_for_minutes_matches_only_its_prefix(topology: Topology, name: str) -> None:
    redis = client_of(topology)
    minute = "2030-01-02T03:04"
    for prefix in (f"{name}[x]", f"{name}x", f"{name}*"):
        redis.rpush(ScheduleKeys(prefix).minute(minute), "id")
    for prefix in (f"{name}[x]", f"{name}*"):
        keys = ScheduleKeys(prefix)
        assert keys_of(topology, keys.any_minute) == [keys.minute(minute)]


#: keys of a command, and the advice if they are in several hash slots
SLOTS = [
    (("schedule:*", "{schedule}:*"), ": write '{schedule}' instead of 'schedule'."),
    (("taskiq", "{taskiq}:delayed"), "write '{taskiq}' instead of 'taskiq'."),
    (("app:tasks", "{app:tasks}:dead"), "write '{app:tasks}' instead of 'app:tasks'."),
    (("results:1", "results:2"), "write '{results}' instead of 'results'."),
    (("a", "b"), "as in '{tasks}:a' and '{tasks}:b', or in `prefix_str='{results}'`."),
    ((), "as in '{tasks}:a' and '{tasks}:b', or in `prefix_str='{results}'`."),
]


@pytest.mark.parametrize(("keys", "advice"), SLOTS)
@pytest.mark.parametrize(
    "error",
    [
        errors.ClusterCrossSlotError("Keys in request don't hash to the same slot"),
        errors.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
        errors.ResponseError("Script attempted to access keys that do not hash to the same slot"),
        errors.ResponseError("CROSSSLOT keys of other shards"),
    ],
)
def test_advice_for_keys_in_several_slots_has_name_in_braces(
    error: Exception, keys: tuple[str, ...], advice: str
) -> None:
    text = str(translate(error, "Redis", *keys))
    assert "This service spreads keys over several servers" in text
    assert advice in text
