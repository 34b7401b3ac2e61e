"""Results and progress of 1.2.4 are read, and written with the same bytes."""

import sys
from decimal import Decimal
from typing import Any

import pytest
from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress, TaskState

from taskiq_redis.exceptions import ResultIsMissingError
from tests.compat.recorded import (
    INSTANT,
    build,
    check_bytes,
    check_key,
    load,
    maybe_await,
    names,
    raw,
    restore,
    serializer_of,
)
from tests.servers import Topology, client_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


class Custom(Exception):  # noqa: N818 - the name is recorded
    """An error of a user's program, which was the main module in the recording."""

    __module__ = "__main__"


#: return values and errors of the recorded tasks
OUTCOMES: dict[str, dict[str, Any]] = {
    "none": {"return_value": None},
    "int": {"return_value": 42, "log": "some log", "labels": {"a": "1"}},
    "str": {"return_value": "ü☃"},
    "bigint": {"return_value": 2**70},
    "dict": {"return_value": {"a": [1, 2.5, None, True], 1: "intkey"}},
    "set": {"return_value": {1}},
    "datetime": {"return_value": INSTANT},
    "decimal": {"return_value": Decimal("1.10")},
    "bytes-utf8": {"return_value": b"abc"},
    "bytes-bin": {"return_value": b"\xff\x00"},
    "object": {"return_value": object()},
    "exc-as-value": {"return_value": ValueError("x")},
    "err-value": {"error": ValueError("bad", 42)},
    "err-custom": {"error": Custom("boom")},
    "err-bytesarg": {"error": ValueError(b"\xff")},
}


@pytest.fixture(autouse=True)
def _custom_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "Custom", Custom, raising=False)


def outcome(case: str) -> TaskiqResult[Any]:
    fields = {"return_value": None, "log": None, "labels": {}, **OUTCOMES[case]}
    return TaskiqResult(is_err="error" in fields, execution_time=0.25, **fields)


WRITTEN = [case for case in OUTCOMES if "write_error" not in load(f"result-{case}-json")]


@pytest.mark.parametrize("case", WRITTEN)
async def test_result_of_1_2_4_is_read(
    topology: Topology, name: str, twin: str, form: str, case: str
) -> None:
    recorded = load(f"result-{case}-{form}")
    if "write_error" in recorded:
        return  # orjson can't write such large numbers
    restore(topology, f"{name}:tid", recorded["keys"]["tid"])
    for serializer in _readers(form):
        backend = build(
            twin, "RedisAsyncResultBackend", topology, prefix_str=name, serializer=serializer
        )
        assert await maybe_await(backend.is_result_ready("tid"))
        result = await maybe_await(backend.get_result("tid", with_logs=True))
        await maybe_await(backend.shutdown())
        expected = recorded["read_back"]
        assert repr(result.return_value) == expected["return_value"]
        assert repr(result.error) == expected["error"]
        assert repr(getattr(result.error, "__cause__", None)) == expected["cause"]
        assert (getattr(result.error, "__traceback__", None) is not None) == expected["traceback"]
        assert result.is_err == ("error" in OUTCOMES[case])
        assert result.log == OUTCOMES[case].get("log")
        assert result.labels == OUTCOMES[case].get("labels", {})
        assert result.execution_time == 0.25


def _readers(form: str) -> list[Any]:
    """Return the serializers that read a form; the default one reads pickle."""
    return [serializer_of(form), *([None] if form == "pickle" else [])]


@pytest.mark.parametrize("case", OUTCOMES)
async def test_result_is_written_as_by_1_2_4(
    topology: Topology, name: str, twin: str, form: str, case: str
) -> None:
    recorded = load(f"result-{case}-{form}")
    for serializer in _readers(form):
        backend = build(
            twin, "RedisAsyncResultBackend", topology, prefix_str=name, serializer=serializer
        )
        await maybe_await(backend.set_result("tid", outcome(case)))
        if "write_error" in recorded:
            # In 1.2.4, the caller got the error, and no result was stored.
            stored = await maybe_await(backend.get_result("tid"))
            assert stored.is_err
            assert "can't be serialized" in str(stored.error)
        else:
            check_key(topology, f"{name}:tid", recorded["keys"]["tid"])
        await maybe_await(backend.shutdown())
        assert names(topology, name) == [f"{name}:tid"]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prefix": {"prefix_str": "pfx"},
    "ex": {"result_ex_time": 60},
    "px": {"result_px_time": 61_000},
}


def own_key(name: str, recorded: str) -> str:
    """Return the key of this test for a recorded key."""
    prefix, colon, task_id = recorded.rpartition(":")
    return f"{prefix and name + prefix}{colon}{name}{task_id}"


@pytest.mark.parametrize("case", OPTIONS)
async def test_options_have_same_effect_as_in_1_2_4(
    topology: Topology, name: str, twin: str, form: str, case: str
) -> None:
    recorded = {
        key: value for key, value in load(f"options-{form}")["keys"].items() if f"tid-{case}" in key
    }
    assert len(recorded) == 3
    options = {**OPTIONS[case]}
    if "prefix_str" in options:
        options["prefix_str"] = name + options["prefix_str"]
    backend = build(
        twin, "RedisAsyncResultBackend", topology, serializer=serializer_of(form), **options
    )
    started: TaskProgress[Any] = TaskProgress(state=TaskState.STARTED, meta={"pct": 5})
    custom: TaskProgress[Any] = TaskProgress(state="custom", meta=None)
    await maybe_await(backend.set_progress(f"{name}tid-{case}", started))
    await maybe_await(backend.set_progress(f"{name}tid-{case}-s", custom))
    await maybe_await(backend.set_result(f"{name}tid-{case}", outcome("int")))
    assert names(topology, name) == sorted(own_key(name, key) for key in recorded)
    for key, value in recorded.items():
        check_key(topology, own_key(name, key), value)
    assert await maybe_await(backend.is_result_ready(f"{name}tid-{case}"))
    assert await maybe_await(backend.get_progress(f"{name}tid-{case}")) == started
    assert await maybe_await(backend.get_progress(f"{name}tid-{case}-s")) == custom
    await maybe_await(backend.shutdown())


async def test_progress_of_1_2_4_is_read(
    topology: Topology, name: str, twin: str, form: str
) -> None:
    recorded = load(f"options-{form}")["keys"]
    for key in ("tid-plain", "tid-plain-s"):
        restore(topology, f"{name}:{key}__progress", recorded[f"{key}__progress"])
    for serializer in _readers(form):
        backend = build(
            twin, "RedisAsyncResultBackend", topology, prefix_str=name, serializer=serializer
        )
        progress = await maybe_await(backend.get_progress("tid-plain"))
        assert (progress.state, progress.meta) == (TaskState.STARTED, {"pct": 5})
        progress = await maybe_await(backend.get_progress("tid-plain-s"))
        assert (progress.state, progress.meta) == ("custom", None)
        assert await maybe_await(backend.get_progress("missing")) is None
        await maybe_await(backend.shutdown())


@pytest.mark.smoke
async def test_result_is_deleted_after_reading_if_not_kept(
    topology: Topology, name: str, twin: str, form: str
) -> None:
    backend = build(
        twin,
        "RedisAsyncResultBackend",
        topology,
        keep_results=False,
        serializer=serializer_of(form),
    )
    key = f"{name}tid-del"
    await maybe_await(backend.set_result(key, outcome("int")))
    written = client_of(topology).get(key)
    check_bytes(written, raw(load(f"result-int-{form}")["keys"]["tid"]["value"]))
    assert (await maybe_await(backend.get_result(key))).return_value == 42
    assert names(topology, name) == []
    with pytest.raises(ResultIsMissingError):
        await maybe_await(backend.get_result(key))
    await maybe_await(backend.shutdown())
