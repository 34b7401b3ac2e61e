"""Recordings of the keys that taskiq-redis 1.2.4 wrote into Redis, to compare with byte by byte.

Each file in `golden` contains the keys that one call wrote: type, time to live in milliseconds, and
the value in base64. `META.json` names the versions that wrote them.
"""

import base64
import inspect
import json
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pydantic_core
import pytest
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.serializers import JSONSerializer, ORJSONSerializer, PickleSerializer

import taskiq_redis
from tests.servers import Topology, client_of, keys_of

GOLDEN = Path(__file__).with_name("golden")
SERIALIZERS = ("json", "orjson", "pickle")


def load(name: str) -> dict[str, Any]:
    """Read a recording."""
    recorded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return recorded


def serializer_of(name: str) -> TaskiqSerializer:
    """Create the serializer of a name, or skip the test if its library is missing."""
    if name == "orjson":
        pytest.importorskip("orjson")
    kinds: dict[str, type[TaskiqSerializer]] = {
        "json": JSONSerializer,
        "orjson": ORJSONSerializer,
        "pickle": PickleSerializer,
    }
    return kinds[name]()


def raw(value: str) -> bytes:
    """Decode recorded bytes."""
    return base64.b64decode(value)


def check_bytes(written: bytes, recorded: bytes) -> None:
    """Compare written bytes with recorded ones.

    Pickles depend on which equal strings are the same object, which varies between versions of
    pydantic. With another version than in the recording, compare the unpickled values.
    """
    same_version = pydantic_core.__version__ == load("META")["pydantic_core"]
    if recorded.startswith(b"\x80") and not same_version:
        assert written[:1] == recorded[:1]
        assert repr(pickle.loads(written)) == repr(pickle.loads(recorded))
    else:
        assert written == recorded


def restore(topology: Topology, key: str, recorded: dict[str, Any]) -> None:
    """Write a recorded key into Redis."""
    client = client_of(topology)
    value = recorded["value"]
    assert recorded["pttl"] == -1
    if recorded["type"] == "string":
        client.set(key, raw(value))
    elif recorded["type"] == "list":
        client.rpush(key, *map(raw, value))
    else:
        for entry in value["entries"]:
            fields = {raw(field): raw(data) for field, data in entry["fields"]}
            client.xadd(key, fields, id=entry["id"])


def check_key(topology: Topology, key: str, recorded: dict[str, Any]) -> None:
    """Compare a key in Redis with a recorded one: type, time to live and value."""
    client = client_of(topology)
    assert client.type(key).decode() == recorded["type"]
    left, recorded_left = client.pttl(key), recorded["pttl"]
    if recorded_left < 0:
        assert left == recorded_left
    else:
        # Time passed during the recording, and since the key was written.
        assert recorded_left - 30_000 < left < recorded_left + 5000
    value = recorded["value"]
    if recorded["type"] == "string":
        check_bytes(client.get(key), raw(value))
    elif recorded["type"] == "list":
        written = client.lrange(key, 0, -1)
        assert len(written) == len(value)
        for ours, theirs in zip(written, value, strict=True):
            check_bytes(ours, raw(theirs))
    else:
        entries = client.xrange(key)
        assert len(entries) == len(value["entries"])
        for (_, fields), entry in zip(entries, value["entries"], strict=True):
            assert list(fields) == [raw(field) for field, _ in entry["fields"]]
            for field, data in entry["fields"]:
                check_bytes(fields[raw(field)], raw(data))


def names(topology: Topology, name: str) -> list[str]:
    """Return all keys that contain the name of a test."""
    return keys_of(topology, f"*{name}*")


async def maybe_await(outcome: Any) -> Any:
    """Return the result of a call of either twin."""
    return await outcome if inspect.isawaitable(outcome) else outcome


async def listed(iterator: Any) -> list[Any]:
    """Return what an iterator of either twin yields."""
    if hasattr(iterator, "__aiter__"):
        return [each async for each in iterator]
    return list(iterator)


def build(twin: str, class_name: str, topology: Topology, **options: Any) -> Any:
    """Create an object of a public class or its twin."""
    return getattr(taskiq_redis, twin + class_name)(topology.url, **options)


UTC = timezone.utc
INDIA = timezone(timedelta(hours=5, minutes=30))
INSTANT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
#: arguments of the recorded schedules, by their ids
SCHEDULES: dict[str, dict[str, Any]] = {
    "cron1": {"cron": "*/5 * * * *"},
    "cron2": {"cron": "0 1 * * *", "cron_offset": timedelta(hours=3)},
    "cron3": {"cron": "0 1 * * *", "cron_offset": "Europe/Berlin", "task_id": "fixedtask"},
    "time1": {"time": INSTANT},
    "time2": {"time": INSTANT.replace(tzinfo=None)},
    "time3": {"time": INSTANT.astimezone(INDIA)},
    "int1": {"interval": 30},
    "int2": {"interval": timedelta(minutes=2)},
}
