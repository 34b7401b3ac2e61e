# Generated from tests/_async/test_results.py by scripts/unasync.py; edit that.

"""Storing and reading results and progress, on every topology."""

import pickle
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.serializers import JSONSerializer, PickleSerializer

from taskiq_redis.exceptions import (
    ResultDecodeError,
    ResultEncodeError,
    ResultIsMissingError,
    ServerUnavailableError,
    WrongKeyTypeError,
)
from tests._sync.support import connections_named, on_all_nodes, opened, redis_of, result
from tests._threads import together
from tests.servers import Topology


class Exploding:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("code from Redis was run",))


@pytest.mark.smoke
def test_result_is_stored_and_read(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        assert not backend.is_result_ready(name)
        backend.set_result(name, result({"a": [1, None]}, log="log", labels={"x": "y"}))
        assert backend.is_result_ready(name)
        assert backend.get_result(name) == result({"a": [1, None]}, labels={"x": "y"})
        assert backend.get_result(name, with_logs=True).log == "log"


def test_error_is_stored_and_read(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_result(name, result(None, is_err=True, error=ValueError("bad", 42)))
        error = backend.get_result(name).error
        assert isinstance(error, ValueError)
        assert error.args == ("bad", 42)


def test_missing_result_is_reported(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        with pytest.raises(ResultIsMissingError, match=name):
            backend.get_result(name)


@pytest.mark.smoke
def test_progress_is_stored_and_read(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        assert backend.get_progress(name) is None
        backend.set_progress(name, TaskProgress(state="half", meta={"done": 5}))
        assert backend.get_progress(name) == TaskProgress(state="half", meta={"done": 5})


def test_reading_deletes_result_and_progress_if_results_are_not_kept(
    topology: Topology, name: str
) -> None:
    with opened(topology, "results", keep_results=False) as backend:
        backend.set_progress(name, TaskProgress(state="half", meta=None))
        backend.set_result(name, result(1))
        assert backend.get_result(name).return_value == 1
        assert not redis_of(topology).exists(name)
        assert not redis_of(topology).exists(f"{name}__progress")
        with pytest.raises(ResultIsMissingError):
            backend.get_result(name)


def test_unreadable_result_is_not_deleted_with_others(topology: Topology, name: str) -> None:
    redis_of(topology).set(f"{name}b", b"garbage")
    with opened(topology, "results", keep_results=False) as backend:
        backend.set_result(f"{name}a", result(1))
        read = backend.get_results([f"{name}a", f"{name}b"])
        assert read[f"{name}a"].return_value == 1
        with pytest.raises(ResultDecodeError, match=f"{name}b"):
            read[f"{name}b"].raise_for_error()
        assert not backend.is_result_ready(f"{name}a")
        assert backend.is_result_ready(f"{name}b")


@pytest.fixture
def reader(topology: Topology, name: str) -> Any:
    """A user without rights to the key of the progress."""
    rules = {"enabled": True, "nopass": True, "keys": [name], "categories": ["+@all"]}
    on_all_nodes(topology, lambda node: node.acl_setuser(name, **rules))
    yield name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


def test_result_is_returned_even_if_its_deletion_fails(
    topology: Topology, name: str, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"keep_results": False, "username": reader, "password": "any"}
    with opened(topology, "results", **options) as backend:
        backend.set_result(name, result(1))
        assert backend.get_result(name).return_value == 1
    assert "could not be deleted" in caplog.text
    assert f"{name}__progress" in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        b"garbage \xff",
        pickle.dumps("not a result"),
        pickle.dumps({"is_err": "?"}),
        pickle.dumps(Exploding()),
    ],
    ids=["empty", "cut", "garbage", "text", "wrong", "code"],
)
def test_undecodable_result_is_reported_and_kept(topology: Topology, name: str, raw: bytes) -> None:
    redis_of(topology).set(name, raw)
    redis_of(topology).set(f"{name}__progress", raw)
    with opened(topology, "results", keep_results=False) as backend:
        with pytest.raises(ResultDecodeError, match=f"{name}.*was not deleted"):
            backend.get_result(name)
        with pytest.raises(ResultDecodeError, match=f"{name}__progress.*was not deleted"):
            backend.get_progress(name)
    assert redis_of(topology).get(name) == raw


def test_key_of_another_type_is_reported(topology: Topology, name: str) -> None:
    redis_of(topology).rpush(name, "a list")
    with opened(topology, "results") as backend:
        with pytest.raises(WrongKeyTypeError):
            backend.get_result(name)


def test_unserializable_result_is_stored_as_error(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_result(name, result(object(), labels={"x": 1}))
        read = backend.get_result(name)
        assert read.is_err
        assert "can't be serialized" in str(read.error)
        assert read.labels == {"x": "1"}
        with pytest.raises(ResultEncodeError, match="progress of task"):
            backend.set_progress(name, TaskProgress(state="x", meta=object()))


def test_given_serializer_is_used(topology: Topology, name: str) -> None:
    with opened(topology, "results", serializer=JSONSerializer()) as backend:
        backend.set_result(name, result(1))
        assert redis_of(topology).get(name).startswith(b'{"is_err": false')
        assert backend.get_result(name).return_value == 1
    redis_of(topology).set(name, pickle.dumps(result(Model(x=1))))
    with opened(topology, "results") as backend:
        with pytest.raises(ResultDecodeError, match="TaskiqResult, but only plain values"):
            backend.get_result(name)
    with opened(topology, "results", serializer=PickleSerializer()) as backend:
        assert backend.get_result(name).return_value == Model(x=1)


class Model(BaseModel):
    """A value that the default serializer doesn't unpickle."""

    x: int


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [({"result_ex_time": 60}, 50_000, 60_000), ({"result_px_time": 61_000}, 50_000, 61_000)],
)
def test_results_and_progress_expire(
    topology: Topology, name: str, options: dict[str, int], least: int, most: int
) -> None:
    with opened(topology, "results", **options) as backend:
        backend.set_result(name, result(1))
        backend.set_progress(name, TaskProgress(state="x", meta=None))
    for key in (name, f"{name}__progress"):
        assert least < redis_of(topology).pttl(key) <= most


def test_decode_responses_does_not_change_results(topology: Topology, name: str) -> None:
    with opened(topology, "results", decode_responses=True) as backend:
        backend.set_result(name, result("ü"))
        backend.set_progress(name, TaskProgress(state="ü", meta=None))
        assert backend.get_result(name).return_value == "ü"
        assert backend.get_progress(name) == TaskProgress(state="ü", meta=None)


def test_keys_can_have_a_prefix(topology: Topology, name: str) -> None:
    with opened(topology, "results", prefix_str=name) as backend:
        backend.set_result("id", result(1))
        backend.set_progress("id", TaskProgress(state="x", meta=None))
        assert backend.get_result("id").return_value == 1
    assert redis_of(topology).exists(f"{name}:id")
    assert redis_of(topology).exists(f"{name}:id__progress")


@pytest.mark.parametrize("task_id", ["{a}b", "with space", "new\nline", "ünï", "a:b", "*"])
def test_task_id_may_be_any_text(topology: Topology, name: str, task_id: str) -> None:
    with opened(topology, "results", prefix_str=name) as backend:
        backend.set_result(task_id, result(task_id))
        assert backend.get_result(task_id).return_value == task_id


def test_get_results_returns_stored_results(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        for number in range(3):
            backend.set_result(f"{name}{number}", result(number))
        read = backend.get_results([f"{name}{number}" for number in (0, 2, 9)])
        assert {key: value.return_value for key, value in read.items()} == {
            f"{name}0": 0,
            f"{name}2": 2,
        }
        backend.delete_result(f"{name}0")
        assert not backend.is_result_ready(f"{name}0")


def test_connections_are_reused_for_many_results(topology: Topology, name: str) -> None:
    seen: set[str] = set()
    with opened(topology, "results", client_name=name) as backend:
        for number in range(200):
            backend.set_result(f"{name}{number}", result(number))
            now = connections_named(topology, name)
            assert now, "no connection was kept"
            seen |= now
    assert len(seen) < 20


def test_results_can_be_stored_and_read_concurrently(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:

        def store_and_read(number: int) -> Any:
            backend.set_result(f"{name}{number}", result(number))
            return backend.get_result(f"{name}{number}").return_value

        calls = [partial(store_and_read, number) for number in range(100)]
        assert together(*calls) == list(range(100))


@pytest.mark.full
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_unreachable_server_is_reported(topology: Topology) -> None:
    unreachable = Topology(kind=topology.kind, url="redis://127.0.0.1:1")
    with opened(unreachable, "results") as backend:
        with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1 did not answer"):
            backend.get_result("id")
