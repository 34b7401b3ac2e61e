"""Declaring and finding tasks, and the attributes of a blocking broker."""

import logging
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import AsyncBroker, BrokerMessage, TaskiqEvents, TaskiqMiddleware
from taskiq.brokers.shared_broker import async_shared_broker
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.result_backends.dummy import DummyResultBackend
from taskiq.serializers import PickleSerializer
from taskiq.warnings import TaskiqDeprecationWarning

from taskiq_redis import SyncBroker, SyncKicker, SyncTaskiqDecoratedTask
from tests.blocking.support import (
    AsyncMemoryBroker,
    MemoryBroker,
    MemoryResults,
    isolated,  # noqa: F401
    take_tasks,
)


def make_function() -> Callable[[int], int]:
    def double(number: int) -> int:
        """Double a number."""
        return number * 2

    return double


broker = MemoryBroker()


@broker.task(color="red")
def in_module(number: int) -> int:
    return number + 1


take_tasks(__name__)


def test_broker_has_attributes_of_taskiqs_broker() -> None:
    broker, async_broker = MemoryBroker(), AsyncMemoryBroker()
    assert vars(async_broker).keys() <= vars(broker).keys()
    for name in ("serializer", "formatter", "state"):
        assert type(getattr(broker, name)) is type(getattr(async_broker, name))
    public = {name for name in dir(AsyncBroker) if not name.startswith("_")}
    assert public - {"global_task_registry"} <= set(dir(SyncBroker))


def test_task_can_be_called_as_function() -> None:
    local_broker = MemoryBroker()
    task = local_broker.task(make_function())
    assert isinstance(task, SyncTaskiqDecoratedTask)
    assert task(21) == 42
    assert task.task_name == f"{__name__}:double"
    assert (task.broker, task.labels, task.return_type) == (local_broker, {}, int)
    assert repr(task) == f"SyncTaskiqDecoratedTask({__name__}:double)"
    assert vars(task)["__name__"] == "double"
    assert vars(task)["__qualname__"].endswith(".double")
    assert task.__doc__ == "Double a number."
    assert local_broker.sent == []


@pytest.mark.parametrize(
    "declare",
    [
        lambda local_broker, func: local_broker.task(func),
        lambda local_broker, func: local_broker.task()(func),
        lambda local_broker, func: local_broker.task("given")(func),
        lambda local_broker, func: local_broker.task(task_name="given", a=1)(func),
        lambda local_broker, func: local_broker.task(a=1, b="x")(func),
        lambda local_broker, func: local_broker.register_task(func),
        lambda local_broker, func: local_broker.register_task(func, "given", a=1),
    ],
)
def test_declared_name_labels_and_return_type_equal_taskiqs(
    declare: Callable[[Any, Any], Any],
) -> None:
    ours, theirs = (
        declare(local_broker, make_function())
        for local_broker in (MemoryBroker(), AsyncMemoryBroker())
    )
    assert ours.task_name == theirs.task_name
    assert ours.labels == theirs.labels
    assert ours.return_type == theirs.return_type


@pytest.mark.parametrize("script", ["run.py", "./apps/shop/run.py", "apps//run", "/srv/run.py"])
def test_task_in_main_module_is_named_as_by_taskiq(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    names = []
    for local_broker in (MemoryBroker(), AsyncMemoryBroker()):
        function = make_function()
        function.__module__ = "__main__"
        names.append(local_broker.task(function).task_name)
    assert names[0] == names[1]
    assert names[0].endswith("run:double")


def test_lambdas_get_unique_names() -> None:
    local_broker = MemoryBroker()
    names = {local_broker.task(lambda: None).task_name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith(f"{__name__}:lambda_") for name in names)


def test_function_without_annotations_has_no_return_type() -> None:
    assert MemoryBroker().register_task(lambda: None).return_type is None


def test_decorator_can_be_used_more_than_once() -> None:
    declare = MemoryBroker().task(a=1)
    first, second = declare(make_function()), declare(lambda: None)
    assert first.task_name != second.task_name


def test_function_declared_repeatedly_is_renamed_once() -> None:
    function = make_function()
    AsyncMemoryBroker().task(function)
    tasks = [
        MemoryBroker().task(function),
        MemoryBroker().task(function),
        MemoryBroker().register_task(function, "other"),
    ]
    assert function.__name__ == "double__taskiq_original"
    assert function.__qualname__.endswith(".double__taskiq_original")
    assert [task.task_name for task in tasks] == [f"{__name__}:double"] * 2 + ["other"]
    assert {vars(task)["__name__"] for task in tasks} == {"double"}


def test_function_of_task_can_be_pickled_for_process_pool() -> None:
    function = in_module.original_func
    assert pickle.loads(pickle.dumps(function)) is function
    broker.register_task(function, "another name")
    assert pickle.loads(pickle.dumps(function)) is function


def test_declaring_a_task_again_is_refused() -> None:
    local_broker = MemoryBroker()
    for task in (local_broker.task(make_function()), AsyncMemoryBroker().task(make_function())):
        with pytest.raises(TypeError, match="is a task already"):
            MemoryBroker().task(task)


def test_task_is_registered_for_async_brokers() -> None:
    local_broker = MemoryBroker()
    task = local_broker.task(make_function(), color="red")
    shared = AsyncMemoryBroker().find_task(task.task_name)
    assert shared is not None
    assert shared.original_func is task.original_func
    assert shared.broker is async_shared_broker
    assert (shared.labels, shared.return_type) == ({"color": "red"}, int)
    assert shared.labels is not task.labels


def test_shared_task_of_same_name_is_not_replaced_for_workers() -> None:
    theirs = async_shared_broker.task("taken")(lambda: "theirs")
    ours = MemoryBroker().task("taken")(make_function())
    assert AsyncMemoryBroker().find_task("taken") is theirs
    assert ours.broker.find_task("taken") is ours


def test_reloaded_module_replaces_its_functions() -> None:
    local_broker = MemoryBroker()
    local_broker.task(make_function())
    newer = local_broker.task(make_function())
    shared = AsyncMemoryBroker().find_task(newer.task_name)
    assert shared is not None
    assert shared.original_func is newer.original_func


def test_find_task_searches_own_then_async_then_global_registry() -> None:
    local_broker, twin = MemoryBroker(), AsyncMemoryBroker()
    own = local_broker.register_task(make_function(), "own")
    other = MemoryBroker().register_task(make_function(), "other")
    on_twin = twin.register_task(make_function(), "other")
    assert local_broker.find_task("nowhere") is None
    assert local_broker.find_task("own") is own
    found = local_broker.find_task("other")
    assert found is not None
    assert found.original_func is other.original_func
    local_broker.async_task_registry = twin.local_task_registry
    assert local_broker.find_task("other") is on_twin
    tasks = local_broker.get_all_tasks()
    assert tasks.keys() == {"own", "other"}
    assert all(local_broker.find_task(name) is task for name, task in tasks.items())


def test_kicker_accepts_task_of_any_broker() -> None:
    local_broker = MemoryBroker()
    tasks: list[Any] = [
        MemoryBroker().task(make_function(), color="red"),
        AsyncMemoryBroker().task(make_function(), color="red"),
    ]
    for task in tasks:
        kicker = local_broker.kicker(task).with_labels(color="blue")
        assert (kicker.task_name, kicker.return_type) == (task.task_name, int)
        assert kicker.broker is local_broker
        assert task.labels == {"color": "red"}
        kicker.kiq(1)
    assert [message.labels for message in local_broker.sent] == [{"color": "blue"}] * 2


def test_kicker_accepts_task_name() -> None:
    local_broker = MemoryBroker()
    local_broker.register_task(make_function(), "known", color="red")
    local_broker.kicker("known").kiq(1)
    local_broker.kicker("elsewhere").with_labels(size=1).kiq(1)
    assert [(sent.task_name, sent.labels) for sent in local_broker.sent] == [
        ("known", {"color": "red"}),
        ("elsewhere", {"size": "1"}),
    ]


@pytest.mark.parametrize("given", [make_function(), None, 3, MemoryBroker()])
def test_kicker_refuses_other_values(given: Any) -> None:
    with pytest.raises(TypeError, match=r"is not a task\. Declare it with @broker\.task"):
        MemoryBroker().kicker(given)


def test_kicker_is_created_by_decorator_class() -> None:
    class Kicker(SyncKicker[Any, Any]):
        pass

    class Task(SyncTaskiqDecoratedTask[Any, Any]):
        def kicker(self) -> Kicker:
            return Kicker(self.task_name, self.broker, dict(self.labels), self.return_type)

    local_broker = MemoryBroker()
    local_broker.decorator_class = Task
    assert isinstance(local_broker.task(make_function()), Task)
    for given in ("elsewhere", AsyncMemoryBroker().task(make_function())):
        kicker: object = local_broker.kicker(given)
        assert isinstance(kicker, Kicker)


def test_constructor_options_warn_of_deprecation_at_callers_line() -> None:
    backend = MemoryResults()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        local_broker = MemoryBroker(result_backend=backend, task_id_generator=lambda: "id")
    assert [warning.category for warning in caught] == [TaskiqDeprecationWarning] * 2
    assert {warning.filename for warning in caught} == {__file__}
    assert local_broker.result_backend is backend
    assert local_broker.id_generator() == "id"


def test_with_result_backend_refuses_async_backend() -> None:
    async_backend: Any = DummyResultBackend()
    local_broker = MemoryBroker()
    before = local_broker.result_backend
    with pytest.raises(TypeError, match="to_sync"):
        local_broker.with_result_backend(async_backend)
    assert local_broker.result_backend is before


def test_constructor_refuses_async_result_backend() -> None:
    async_backend: Any = DummyResultBackend()
    with (
        pytest.warns(TaskiqDeprecationWarning),
        pytest.raises(TypeError, match="DummyResultBackend is not a blocking result backend"),
    ):
        MemoryBroker(result_backend=async_backend)


def test_with_methods_can_be_chained() -> None:
    class Formatter(ProxyFormatter):
        def dumps(self, message: Any) -> BrokerMessage:
            return super().dumps(message).model_copy(update={"labels": {"formatted": "yes"}})

    backend, serializer, middleware = MemoryResults(), PickleSerializer(), TaskiqMiddleware()
    local_broker = MemoryBroker()
    as_broker: Any = local_broker
    chained = (
        local_broker.with_result_backend(backend)
        .with_id_generator(lambda: "id")
        .with_serializer(serializer)
        .with_formatter(Formatter(as_broker))
        .with_middlewares(middleware)
        .with_event_handlers(TaskiqEvents.CLIENT_STARTUP, lambda state: None)
    )
    assert chained is local_broker
    local_broker.kicker("task").kiq()
    assert middleware.broker is as_broker
    assert local_broker.sent[0].labels == {"formatted": "yes"}
    assert serializer.loadb(local_broker.sent[0].message)["task_id"] == "id"


def test_default_formatter_uses_current_serializer() -> None:
    local_broker = MemoryBroker()
    local_broker.serializer = PickleSerializer()
    local_broker.kicker("task").kiq()
    assert pickle.loads(local_broker.sent[0].message)["task_name"] == "task"


def test_value_that_is_no_middleware_is_ignored_with_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    local_broker = MemoryBroker()
    with caplog.at_level(logging.WARNING):
        local_broker.add_middlewares("no middleware")  # type: ignore[arg-type]
    assert local_broker.middlewares == []
    assert "'no middleware' is not a TaskiqMiddleware" in caplog.text


def test_dependency_contexts_are_merged() -> None:
    local_broker = MemoryBroker()
    local_broker.add_dependency_context({int: 1})
    local_broker.add_dependency_context({str: "x"})
    assert local_broker.custom_dependency_context == {int: 1, str: "x"}


def test_listen_yields_sent_messages() -> None:
    local_broker = MemoryBroker()
    local_broker.kicker("task").kiq(1)
    data = next(local_broker.listen())
    assert local_broker.formatter.loads(data).args == [1]
