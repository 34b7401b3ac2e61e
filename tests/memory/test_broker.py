"""`SyncInMemoryBroker` runs tasks as a worker would, in the thread that sends them."""

import asyncio
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from taskiq import (
    Context,
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqDepends,
    TaskiqEvents,
    TaskiqState,
)
from taskiq.depends.progress_tracker import ProgressTracker
from taskiq.exceptions import SendTaskError, TaskiqResultTimeoutError

from taskiq_redis import SyncInMemoryBroker, SyncInMemoryResultBackend
from taskiq_redis._taskiq.portal import stop_portal
from taskiq_redis.exceptions import (
    ArgumentEncodeError,
    InvalidOptionError,
    ResultNotReadError,
    TaskNotRunError,
)
from tests._threads import TIMEOUT, together
from tests.forks import in_child
from tests.memory.support import (
    AsyncHooks,
    PlainHooks,
    is_thread,
    offline,  # noqa: F401
)


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.smoke
def test_sync_task_runs_in_thread_that_sends_it() -> None:
    broker, here = SyncInMemoryBroker(), threading.current_thread()

    @broker.task
    def where() -> bool:
        return is_thread(here)

    @broker.task
    async def async_where() -> bool:
        return is_thread(here)

    assert where.kiq().wait_result().return_value is True
    assert async_where.kiq().wait_result().return_value is False


def test_each_of_many_threads_runs_its_own_tasks() -> None:
    broker = SyncInMemoryBroker()

    @broker.task
    def ident() -> int:
        return threading.get_ident()

    def send() -> None:
        for _ in range(20):
            assert ident.kiq().get_result().return_value == threading.get_ident()

    together(*[send] * 5)


def test_arguments_are_serialized_and_cast() -> None:
    broker = SyncInMemoryBroker()
    seen: list[Any] = []

    @broker.task
    def take(point: Point, many: tuple[int, ...], plain: Any) -> None:
        seen.append((point, many, plain))

    take.kiq(Point(1, 2), many=(3, 4), plain=(5, 6))
    assert seen == [(Point(1, 2), (3, 4), [5, 6])]
    with pytest.raises(ArgumentEncodeError, match="'plain'"):
        take.kiq(Point(1, 2), (3,), plain=object())
    assert len(seen) == 1


def test_arguments_are_not_cast_without_cast_types() -> None:
    broker = SyncInMemoryBroker(cast_types=False)

    @broker.task
    def kind(point: Point) -> str:
        return type(point).__name__

    assert kind.kiq(Point(1, 2)).get_result().return_value == "dict"


def test_return_value_has_declared_type() -> None:
    broker = SyncInMemoryBroker()

    @broker.task
    def point() -> Point:
        return {"x": 1, "y": 2}  # type: ignore[return-value]

    assert point.kiq().wait_result().return_value == Point(1, 2)


def test_labels_keep_their_types() -> None:
    broker = SyncInMemoryBroker()

    @broker.task(number=3)
    def labels(context: Context = TaskiqDepends()) -> dict[str, Any]:
        return context.message.labels

    task = labels.kicker().with_labels(flag=True).with_task_id("the-id").kiq()
    assert task.task_id == "the-id"
    assert task.get_result().return_value == {"number": 3, "flag": True}


# taskiq_dependencies calls `throw` in a deprecated way.
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature:DeprecationWarning")
def test_dependencies_are_resolved_overridden_and_closed() -> None:
    broker = SyncInMemoryBroker()
    events: list[str] = []

    def real() -> str:
        raise AssertionError

    def connection() -> Generator[str, None, None]:
        events.append("opened")
        try:
            yield "connection"
        except ValueError:
            events.append("rolled back")
        finally:
            events.append("closed")

    async def asynchronous() -> str:
        return "async"

    broker.dependency_overrides = {real: lambda: "fake"}
    broker.add_dependency_context({Point: Point(1, 2)})
    broker.state.value = "state"

    @broker.task
    def use(
        one: Annotated[str, TaskiqDepends(real)],
        two: Annotated[str, TaskiqDepends(connection)],
        three: Annotated[str, TaskiqDepends(asynchronous)],
        point: Annotated[Point, TaskiqDepends()],
        state: Annotated[TaskiqState, TaskiqDepends()],
    ) -> list[Any]:
        if point.x == 5:
            raise ValueError
        return [one, two, three, point.x, state.value]

    task: Any = use
    assert task.kiq().get_result().return_value == ["fake", "connection", "async", 1, "state"]
    assert events == ["opened", "closed"]
    broker.add_dependency_context({Point: Point(5, 5)})
    assert task.kiq().get_result().is_err
    assert events[2:] == ["opened", "rolled back", "closed"]


@pytest.mark.parametrize("hooks", [PlainHooks, AsyncHooks])
def test_hooks_of_clients_and_workers_run(hooks: Any) -> None:
    events: list[str] = []
    broker = SyncInMemoryBroker().with_middlewares(hooks(events))

    @broker.task
    def fail(context: Context = TaskiqDepends()) -> None:
        events.append(f"sent: {context.message.labels['sent']}")
        raise ValueError("no")

    with broker:
        result = fail.kiq().wait_result()
    assert isinstance(result.error, ValueError)
    assert events == [
        "startup",
        "pre_send",
        "pre_execute",
        "sent: yes",
        "on_error",
        "post_execute",
        "post_save",
        "post_send",
        "shutdown",
    ]


def test_event_handlers_of_clients_and_workers_run() -> None:
    broker, events = SyncInMemoryBroker(), list[str]()
    for event in TaskiqEvents:
        broker.add_event_handler(event, lambda _, event=event: events.append(event.value))  # type: ignore[misc]
    with broker:
        pass
    assert events == ["CLIENT_STARTUP", "WORKER_STARTUP", "WORKER_SHUTDOWN", "CLIENT_SHUTDOWN"]


@pytest.mark.parametrize("keep_result", [True, False])
@pytest.mark.parametrize("kind", [SimpleRetryMiddleware, SmartRetryMiddleware])
def test_retries_run_at_once_and_last_result_counts(kind: Any, keep_result: bool) -> None:
    retries = kind(default_retry_count=3, no_result_on_retry=keep_result)
    broker = SyncInMemoryBroker().with_middlewares(retries)
    attempts: list[Any] = []

    @broker.task(retry_on_error=True, delay=3600)
    def third(context: Context = TaskiqDepends()) -> int:
        attempts.append(context.message.labels.get("_retries"))
        if len(attempts) < 3:
            raise ValueError(len(attempts))
        return len(attempts)

    result = third.kiq().wait_result()
    assert (result.return_value, result.is_err) == (3, False)
    assert attempts == [None, 1, 2]


def test_held_retries_run_one_at_each_call() -> None:
    broker = SyncInMemoryBroker(hold_delayed=True).with_middlewares(SmartRetryMiddleware())
    attempts: list[int] = []

    @broker.task(retry_on_error=True)
    def second() -> int:
        attempts.append(1)
        return 1 // (len(attempts) - 1)

    task = second.kiq()
    with pytest.raises(TaskNotRunError, match="run_delayed"):
        task.wait_result()
    assert (len(attempts), broker.run_delayed(), broker.run_delayed()) == (1, 1, 0)
    assert task.wait_result().return_value == 1


def test_delays_are_skipped_or_held_in_order() -> None:
    ran: list[int] = []

    def record(number: int) -> None:
        ran.append(number)

    skipping, holding = SyncInMemoryBroker(), SyncInMemoryBroker(hold_delayed=True)
    for broker in (skipping, holding):
        task = broker.register_task(record, task_name="record")
        for number in (3, 1, 2):
            task.kicker().with_delay(number * 3600).kiq(number)
        task.kiq(4)
    assert ran == [3, 1, 2, 4, 4]
    assert (holding.run_delayed(), ran[5:]) == (3, [1, 2, 3])
    with pytest.raises(SendTaskError, match="delay"):
        skipping.kicker("record").with_labels(delay="soon").kiq(1)


def test_timeout_label_ends_async_task() -> None:
    broker = SyncInMemoryBroker()

    @broker.task(timeout=0.01)
    async def endless() -> None:
        await asyncio.Event().wait()

    assert isinstance(endless.kiq().wait_result().error, TimeoutError)


def test_error_is_stored_or_raised_as_it_is() -> None:
    storing, raising = SyncInMemoryBroker(), SyncInMemoryBroker(raise_errors=True)
    ran: list[int] = []

    @storing.task
    def fail(number: int) -> None:
        ran.append(number)
        try:
            _ = dict[str, str]()["cause"]
        except KeyError as error:
            raise ValueError(number) from error

    assert isinstance(fail.kiq(1).wait_result().error, ValueError)
    own = raising.register_task(fail.original_func, task_name="own")
    for send in (lambda: own.kiq(2), lambda: own.kiq_many([own.call(2), own.call(3)])):
        with pytest.raises(ValueError, match="2") as caught:
            send()
        assert isinstance(caught.value.__cause__, KeyError)
        assert isinstance(caught.value.__context__, KeyError)
    assert ran == [1, 2, 2]


def test_error_is_raised_after_last_retry_only() -> None:
    broker = SyncInMemoryBroker(raise_errors=True).with_middlewares(SimpleRetryMiddleware())
    attempts: list[int] = []

    @broker.task(retry_on_error=True)
    def fail(until: int) -> int:
        attempts.append(1)
        if len(attempts) < until:
            raise ValueError(len(attempts))
        return len(attempts)

    assert fail.kiq(3).wait_result().return_value == 3
    with pytest.raises(ValueError, match="6"):
        fail.kiq(7)


def test_raise_errors_needs_in_place() -> None:
    with pytest.raises(InvalidOptionError, match="in_place"):
        SyncInMemoryBroker(in_place=False, raise_errors=True)


def test_send_raises_the_error_of_a_hook() -> None:
    class Broken(PlainHooks):
        def pre_execute(self, message: Any) -> Any:
            raise LookupError("broken")

    broker = SyncInMemoryBroker().with_middlewares(Broken([]))

    @broker.task
    def run() -> None: ...

    with pytest.raises(SendTaskError, match="LookupError: broken"):
        run.kiq()


def test_unknown_task_is_an_error() -> None:
    with pytest.raises(SendTaskError, match="other:task"):
        SyncInMemoryBroker().kicker("other:task").kiq()


def test_kiq_many_runs_all() -> None:
    broker = SyncInMemoryBroker()

    @broker.task
    async def double(number: int) -> int:
        return number * 2

    tasks = double.kiq_many([double.call(number) for number in range(3)])
    assert [task.wait_result().return_value for task in tasks] == [0, 2, 4]
    found = broker.result_backend
    assert isinstance(found, SyncInMemoryResultBackend)
    results = found.wait_results([task.task_id for task in tasks])
    assert [result.return_value for result in results.values()] == [0, 2, 4]


def test_progress_and_requeue() -> None:
    broker = SyncInMemoryBroker()

    @broker.task
    async def work(
        tracker: Annotated[ProgressTracker[int], TaskiqDepends()],
        context: Context = TaskiqDepends(),
    ) -> str:
        await tracker.set_progress("WORKING", 7)
        if "X-Taskiq-requeue" not in context.message.labels:
            await context.requeue()
        return "done"

    task: Any = work
    sent = task.kiq()
    assert sent.wait_result().return_value == "done"
    assert sent.get_progress().meta == 7


def test_default_limit_of_results_drops_oldest() -> None:
    broker = SyncInMemoryBroker(max_stored_results=2)

    @broker.task
    def number(value: int) -> int:
        return value

    first, *others = [number.kiq(value) for value in range(3)]
    assert [task.is_ready() for task in (first, *others)] == [False, True, True]
    with pytest.raises(ResultNotReadError):
        first.get_result()
    with pytest.raises(TaskiqResultTimeoutError):
        first.wait_result(timeout=0.01)


def test_nothing_can_listen() -> None:
    with pytest.raises(RuntimeError, match="runs tasks when they are sent"):
        SyncInMemoryBroker().listen()


def test_background_tasks_run_at_the_same_time() -> None:
    broker, both = SyncInMemoryBroker(in_place=False), threading.Barrier(3)

    @broker.task
    def meet() -> str:
        both.wait(TIMEOUT)
        return threading.current_thread().name

    tasks = [meet.kiq(), meet.kiq()]
    assert not tasks[0].is_ready()
    both.wait(TIMEOUT)
    names = {task.wait_result(timeout=TIMEOUT).return_value for task in tasks}
    assert len(names) == 2
    broker.wait_all()
    broker.shutdown()
    assert not names & {thread.name for thread in threading.enumerate()}


def test_background_failure_of_receiver_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PlainHooks):
        def pre_execute(self, message: Any) -> Any:
            raise LookupError("broken")

    broker = SyncInMemoryBroker(in_place=False).with_middlewares(Broken([]))

    @broker.task(task_name="broken")
    def run() -> None: ...

    run.kiq()
    broker.wait_all()
    assert "failed to run the task 'broken'" in caplog.text


def test_keyboard_interrupt_in_task_reaches_sender() -> None:
    broker = SyncInMemoryBroker()

    @broker.task
    def interrupt() -> None:
        raise KeyboardInterrupt

    @broker.task
    def work() -> int:
        return 1

    with pytest.raises(KeyboardInterrupt):
        interrupt.kiq()
    assert work.kiq().wait_result().return_value == 1


def test_broker_is_usable_after_shutdown() -> None:
    broker = SyncInMemoryBroker(in_place=False)

    @broker.task
    def work() -> int:
        return 1

    for _ in range(2):
        with broker:
            assert work.kiq().wait_result(timeout=TIMEOUT).return_value == 1


def test_tasks_run_where_python_starts_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at exit."""
    broker, here = SyncInMemoryBroker(), threading.current_thread()

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    @broker.task
    def where() -> bool:
        return is_thread(here)

    @broker.task
    async def async_where() -> bool:
        return is_thread(here)

    stop_portal()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert where.kiq().wait_result().return_value is True
    assert async_where.kiq().wait_result().return_value is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("in_place", [True, False])
def test_broker_is_usable_after_a_fork(in_place: bool) -> None:
    broker = SyncInMemoryBroker(in_place=in_place)

    @broker.task
    def work() -> int:
        return 1

    def run() -> None:
        assert work.kiq().wait_result(timeout=TIMEOUT).return_value == 1

    run()
    assert in_child(run) == 0
    run()
    broker.shutdown()
