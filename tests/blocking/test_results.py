"""Reading results through a sent task."""

import logging
import time
from typing import Any

import pydantic
import pytest
from taskiq import TaskiqResult
from taskiq.exceptions import ResultGetError, ResultIsReadyError, TaskiqResultTimeoutError

from taskiq_redis import SyncResultBackend, SyncTaskiqTask
from tests._threads import TIMEOUT, Running
from tests.blocking.support import (
    MemoryBroker,
    MemoryResults,
    isolated,  # noqa: F401
    result,
)


class Point(pydantic.BaseModel):
    x: int


class BrokenResults(MemoryResults):
    def is_result_ready(self, task_id: str) -> bool:
        raise OSError("gone")

    def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        raise OSError("gone")


def test_wait_result_waits_until_result_is_stored() -> None:
    backend = MemoryResults()
    task = SyncTaskiqTask[Any]("id", backend)
    assert not task.is_ready()

    def finish() -> None:
        time.sleep(0.1)
        backend.set_result("id", result(42))

    with Running(finish):
        assert task.wait_result(check_interval=0.01, timeout=TIMEOUT).return_value == 42
    assert task.is_ready()


def test_backend_is_context_manager() -> None:
    backend = MemoryResults()
    with backend as opened:
        assert opened is backend
        assert backend.events == ["backend up"]
    assert backend.events == ["backend up", "backend down"]


def test_stored_result_is_returned_without_waiting() -> None:
    backend = MemoryResults()
    backend.set_result("id", result(42))
    task = SyncTaskiqTask[Any]("id", backend)
    assert task.wait_result(check_interval=60).return_value == 42


def test_wait_result_raises_at_deadline() -> None:
    task = SyncTaskiqTask[Any]("id", MemoryResults())
    begin = time.monotonic()
    with pytest.raises(TaskiqResultTimeoutError) as caught:
        # Sleeping for the whole interval would exceed the time limit of a test.
        task.wait_result(check_interval=3600, timeout=0.2)
    assert time.monotonic() - begin >= 0.2
    assert caught.value.timeout == 0.2


def test_result_stored_during_last_sleep_is_returned() -> None:
    class Results(MemoryResults):
        checks = 0

        def is_result_ready(self, task_id: str) -> bool:
            self.checks += 1
            return self.checks > 1

    backend = Results()
    backend.set_result("id", result(42))
    task = SyncTaskiqTask[Any]("id", backend)
    # The interval is longer than the timeout, so the second check is the last one.
    assert task.wait_result(check_interval=60, timeout=0.1).return_value == 42
    assert backend.checks == 2


def test_with_logs_is_passed_to_backend() -> None:
    with_logs_seen = []

    class Results(MemoryResults):
        def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
            with_logs_seen.append(with_logs)
            return result(1)

        def is_result_ready(self, task_id: str) -> bool:
            return True

    task = SyncTaskiqTask[Any]("id", Results())
    task.get_result()
    task.get_result(with_logs=True)
    task.wait_result(with_logs=True)
    assert with_logs_seen == [False, True, True]


def test_value_is_parsed_into_return_type() -> None:
    backend = MemoryResults()
    backend.set_result("id", result({"x": "1"}))
    assert SyncTaskiqTask("id", backend, Point).get_result().return_value == Point(x=1)


def test_value_of_another_type_is_returned_unparsed(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryResults()
    backend.set_result("id", result("text"))
    task: SyncTaskiqTask[Any] = SyncTaskiqTask("id", backend, Point)
    with caplog.at_level(logging.WARNING):
        assert task.get_result().return_value == "text"
    assert "The return value of task id can't be converted" in caplog.text


def test_result_of_failed_task_is_not_parsed(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryResults()
    backend.set_result("id", result(None, is_err=True))
    with caplog.at_level(logging.WARNING):
        assert SyncTaskiqTask("id", backend, Point).get_result().is_err
    assert caplog.text == ""


def test_unparsable_return_type_is_an_error() -> None:
    backend = MemoryResults()
    backend.set_result("id", result(1))
    unparsable: Any = type("Custom", (), {})
    with pytest.raises(ResultGetError) as caught:
        SyncTaskiqTask[Any]("id", backend, unparsable).get_result()
    assert caught.value.__cause__ is not None


def test_backend_errors_are_raised_as_taskiq_errors() -> None:
    task = SyncTaskiqTask[Any]("id", BrokenResults())
    for call, error in (
        (task.is_ready, ResultIsReadyError),
        (task.wait_result, ResultIsReadyError),
        (task.get_result, ResultGetError),
    ):
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)


def test_get_progress_returns_progress_of_backend() -> None:
    progress = SyncTaskiqTask[Any]("id", MemoryResults()).get_progress()
    assert progress is not None
    assert (progress.state, progress.meta) == ("half way", "id")


def test_backend_without_progress_returns_none() -> None:
    class Results(MemoryResults):
        get_progress = SyncResultBackend.get_progress

    backend = Results()
    known = MemoryResults().get_progress("id")
    assert known is not None
    backend.set_progress("id", known)
    assert backend.get_progress("id") is None


def test_broker_without_backend_returns_empty_results_with_warning() -> None:
    local_broker = MemoryBroker()
    task = local_broker.kicker("task").kiq()
    assert task.is_ready()
    with pytest.warns(UserWarning, match="has no result backend") as caught:
        empty = task.get_result()
    assert (empty.is_err, empty.return_value) == (False, None)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="has no result backend"):
        assert task.wait_result() == empty
    assert task.get_progress() is None
    local_broker.result_backend.set_result("id", empty)
