"""Messages of a queue, and the tasks in them."""

import copy
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest
from taskiq import TaskiqMessage

from taskiq_redis._core.queued_task import QueuedTask
from taskiq_redis.exceptions import SignatureError

TASK = TaskiqMessage(
    task_id="id", task_name="name", labels={"a": "1"}, args=["secret"], kwargs={"b": 2}
)


def queued(load: Any = None) -> QueuedTask:
    return QueuedTask(queue_name="q", id="1-0", data=b"secret", load=load)


def test_task_is_read_once_when_it_is_needed() -> None:
    calls = []

    def load() -> TaskiqMessage:
        calls.append(1)
        return TASK

    task = queued(load)
    assert calls == []
    assert (task.task_id, task.task_name, task.problem) == ("id", "name", None)
    assert (task.labels, task.args, task.kwargs) == ({"a": "1"}, ["secret"], {"b": 2})
    assert calls == [1]


def raising(error: Exception) -> Any:
    def load() -> TaskiqMessage:
        raise error

    return load


@pytest.mark.parametrize(
    ("load", "problem"),
    [
        (None, "there is no message"),
        (raising(KeyError("secret")), "KeyError"),
        (raising(SignatureError(purpose="message", name="q", problem="bad")), "bad"),
        (lambda: None, "AttributeError"),
        (lambda: TASK.model_copy(update={"labels_types": {"a": "x"}}), "ValueError"),
        (lambda: TASK.model_copy(update={"args": 3}), "TypeError"),
        (lambda: TASK.model_copy(update={"task_name": 3}), "ValidationError"),
    ],
)
def test_problem_says_why_there_is_no_task(load: Any, problem: str) -> None:
    task = queued(load)
    assert problem in str(task.problem)
    assert "secret" not in str(task.problem)
    assert (task.task_id, task.task_name) == (None, None)
    assert (task.labels, task.args, task.kwargs) == ({}, [], {})


def test_repr_quotes_no_arguments() -> None:
    task = queued(lambda: TASK)
    assert task.args == ["secret"]
    assert "secret" not in repr(task)
    assert repr(task).startswith("QueuedTask(queue_name='q', id='1-0'")


def test_queued_task_can_be_compared_hashed_and_copied() -> None:
    task = queued(lambda: TASK)
    assert task == queued()
    assert hash(task) == hash(queued())
    assert copy.copy(task).task_id == "id"
    assert asdict(task)["data"] == b"secret"
    with pytest.raises(FrozenInstanceError):
        task.id = "2-0"  # type: ignore[misc]
