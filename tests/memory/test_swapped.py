"""`swapped` replaces brokers, result backends and schedule sources, and restores them."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from threading import current_thread
from typing import Any

import pytest
from taskiq import (
    AsyncTaskiqDecoratedTask,
    InMemoryBroker,
    SimpleRetryMiddleware,
    TaskiqDepends,
    TaskiqEvents,
    TaskiqScheduler,
    async_shared_broker,
)
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import SendTaskError
from taskiq.scheduler.scheduled_task import ScheduledTask

import taskiq_redis
from taskiq_redis import SyncInMemoryBroker, SyncKicker, to_sync
from taskiq_redis.exceptions import InvalidOptionError, NeedsRedisError, TaskNotRunError
from taskiq_redis.testing import swapped
from tests._threads import TIMEOUT, together
from tests.memory.support import (
    URL,
    AsyncHooks,
    is_thread,
    offline,  # noqa: F401
)
from tests.parity.classes import MECHANISMS

SENTINELS = [("127.0.0.1", 1)]
BROKERS = [name for mechanism in ("pub/sub", "list", "stream") for name in MECHANISMS[mechanism]]


def make(name: str, **options: Any) -> Any:
    where = (SENTINELS, "master") if "Sentinel" in name else (URL,)
    return getattr(taskiq_redis, name)(*where, **options)


def make_broker(name: str = "RedisStreamBroker", results: str = "RedisAsyncResultBackend") -> Any:
    sync = "Sync" if name.startswith("Sync") else ""
    return make(name).with_result_backend(make(sync + results))


class Calls:
    """Sends tasks with a broker of either twin, and reads their results."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.is_sync = type(broker).__name__.startswith("Sync")

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            return await function(*args, **kwargs)

        return function(*args, **kwargs) if self.is_sync else asyncio.run(run())


@pytest.fixture(params=[*BROKERS, *(f"Sync{name}" for name in BROKERS)])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(make_broker(request.param))


@pytest.mark.smoke
def test_tasks_are_recorded_and_not_run(calls: Calls) -> None:
    broker = calls.broker

    @broker.task(task_name="t", number=3)
    def task(a: int, b: int) -> None:
        raise AssertionError

    with swapped(broker) as sent:
        one = calls(task.kiq, 1, b=(2, 3))
        calls(task.kiq_many, [task.call(1, 2), task.call(3, 4)])
        calls(task.kicker().with_labels(queue_name="other").with_task_id("id").kiq, 5, 6)
        with pytest.raises(TaskNotRunError, match="only recorded"):
            calls(one.wait_result)
    first, second, third, last = sent
    assert (first.task_name, first.task_id, first.args) == ("t", one.task_id, [1])
    assert (first.kwargs, first.labels, first.delay) == ({"b": [2, 3]}, {"number": 3}, 0)
    assert (first.queue_name, last.queue_name, last.task_id) == ("taskiq", "other", "id")
    assert (second.args, third.args) == ([1, 2], [3, 4])
    assert sent.of(task) == sent.of("t") == sent[:] == list(sent)


def test_tasks_are_run_and_results_can_be_read(calls: Calls) -> None:
    broker = calls.broker

    @broker.task
    async def add(a: int, b: int) -> int:
        return a + b

    @broker.task
    def fail() -> None:
        raise KeyError("no")

    with swapped(broker, run=True) as sent:
        assert calls(calls(add.kiq, 1, 2).wait_result).return_value == 3
        assert calls(calls(add.kiq, 1, 2).is_ready)
        assert isinstance(calls(calls(fail.kiq).get_result).error, KeyError)
        backend = broker.result_backend
        progress = TaskProgress(state="WORKING", meta=1)
        calls(backend.set_progress, "id", progress)
        assert calls(backend.get_progress, "id") == progress
    assert len(sent) == 3
    with swapped(broker, run=True, raise_errors=True), pytest.raises(KeyError, match="no"):
        calls(fail.kiq)


def test_delays_are_recorded_and_refused_where_the_broker_refuses_them(calls: Calls) -> None:
    broker = calls.broker

    @broker.task(task_name="t", delay=7)
    def task() -> None: ...

    with swapped(broker) as sent:
        calls(task.kiq)
        if "PubSub" in type(broker).__name__:
            with pytest.raises(SendTaskError, match="can't be delayed"):
                calls(task.kicker().with_delay(5).kiq)
        else:
            calls(task.kicker().with_delay(5).kiq)
            assert [each.delay for each in sent] == [0, 5]
            assert sent[1].labels == {"delay": 5}


def test_methods_that_need_redis_are_refused(calls: Calls) -> None:
    with swapped(calls.broker), pytest.raises(NeedsRedisError, match=r"`listen` of <"):
        calls.broker.listen()


def test_startup_and_shutdown_run_hooks_without_redis(calls: Calls) -> None:
    events: list[str] = []
    broker = calls.broker.with_middlewares(AsyncHooks(events))
    for event in TaskiqEvents:
        broker.add_event_handler(event, lambda _, event=event: events.append(event.value))
    with swapped(broker):
        calls(broker.startup)
        calls(broker.shutdown)
    assert events == ["CLIENT_STARTUP", "startup", "CLIENT_SHUTDOWN", "shutdown"]
    events.clear()
    with swapped(broker, run=True):
        calls(broker.startup)
        calls(broker.shutdown)
    half = len(events) // 2
    assert sorted(events[:half]) == ["CLIENT_STARTUP", "WORKER_STARTUP", "startup"]
    assert sorted(events[half:]) == ["CLIENT_SHUTDOWN", "WORKER_SHUTDOWN", "shutdown"]


@pytest.fixture
def broker() -> Any:
    return make_broker()


def test_everything_is_restored(broker: Any, offline: list[Any]) -> None:  # noqa: F811
    source, twin = make("ListRedisScheduleSource"), to_sync(broker)
    objects = [broker, broker.result_backend, twin, twin.result_backend, source]
    before = [dict(vars(each)) for each in objects]
    with pytest.raises(LookupError), swapped(broker, source):
        raise LookupError
    assert [dict(vars(each)) for each in objects] == before
    twin.kick_timeout = 0.01
    with pytest.raises(SendTaskError):
        twin.kicker("t").kiq()
    assert offline
    offline.clear()


def test_swaps_can_be_nested(broker: Any) -> None:
    task = broker.register_task(lambda: 5, task_name="t")
    twin = to_sync(broker)
    with swapped(broker) as outer:
        with swapped(twin, run=True) as inner:
            assert twin.kicker(task).kiq().wait_result().return_value == 5
        assert (len(inner), len(outer)) == (1, 0)
        twin.kicker(task).kiq()
        assert (len(inner), len(outer)) == (1, 1)


def test_twins_and_their_results_are_swapped_together(broker: Any) -> None:
    task = broker.register_task(lambda: 5, task_name="t")
    twin, results = to_sync(broker), to_sync(broker.result_backend)
    for given in (broker, twin, results):
        given_with_broker = (given,) if given is not results else (results, broker)
        with swapped(*given_with_broker, run=True):
            for sender in (twin, to_sync(broker)):
                sent = sender.kicker(task).kiq()
                assert results.get_result(sent.task_id).return_value == 5
                assert to_sync(broker.result_backend).is_result_ready(sent.task_id)
                assert asyncio.run(broker.result_backend.is_result_ready(sent.task_id))


def test_sync_task_runs_in_thread_of_sender(broker: Any) -> None:
    here = threading.current_thread()
    task = broker.register_task(lambda: is_thread(here), task_name="t")

    @broker.task
    async def parent() -> Any:
        return (await (await task.kiq()).wait_result(timeout=TIMEOUT)).return_value

    with swapped(broker, run=True):
        twin = to_sync(broker)
        assert twin.kicker(task).kiq().wait_result().return_value is True
        assert twin.kicker(parent).kiq().wait_result().return_value is True


@pytest.mark.anyio
async def test_tasks_run_on_event_loop_of_test(broker: Any) -> None:
    loop = asyncio.get_running_loop()

    @broker.task
    async def task() -> bool:
        return asyncio.get_running_loop() is loop

    with swapped(broker) as sent:
        one = await task.kiq()
        assert not await one.is_ready()
        assert (await sent.run_async(), await sent.run_async()) == (1, 0)
        assert (await one.wait_result()).return_value is True
    with swapped(broker, run=True):
        assert (await (await task.kiq()).get_result()).return_value is True


def test_recorded_tasks_run_when_asked(broker: Any) -> None:
    ran: list[int] = []

    @broker.task(task_name="t")
    def task(number: int) -> None:
        ran.append(number)

    with swapped(broker) as sent:
        twin = to_sync(broker)
        twin.kicker(task).with_delay(9).kiq(1)
        twin.kicker(task).kiq(2)
        assert (sent.run(), ran, sent.run()) == (2, [2, 1], 0)
        for _ in range(2):
            twin.kicker(task).with_task_id("same").kiq(3)
        assert (sent.run(), ran[2:]) == (2, [3, 3])
        twin.kicker(task).kiq(3)
        sent.clear()
        assert (sent.run(), len(sent)) == (0, 0)
    with swapped(broker, run=True, hold_delayed=True) as sent:
        twin.kicker(task).with_delay(9).kiq(4)
        twin.kicker(task).kiq(5)
        assert (ran[4:], sent.run(), ran[4:]) == ([5], 1, [5, 4])


@pytest.mark.parametrize("name", ["RedisStreamBroker", "SyncRedisStreamBroker"])
def test_retries_run_and_are_recorded(name: str) -> None:
    retries = SimpleRetryMiddleware()
    broker = make_broker(name).with_middlewares(retries)
    attempts: list[int] = []

    @broker.task(retry_on_error=True)
    def second() -> int:
        attempts.append(1)
        return 1 // (len(attempts) - 1)

    calls = Calls(broker)
    with swapped(broker, run=True) as sent:
        assert calls(calls(second.kiq).wait_result).return_value == 1
    assert [each.labels.get("_retries") for each in sent] == [None, 1]
    assert retries.broker is broker


def test_dependencies_of_the_broker_are_used(broker: Any) -> None:
    def real() -> str:
        raise AssertionError

    broker.dependency_overrides = {real: lambda: "fake"}

    @broker.task
    def task(value: str = TaskiqDepends(real)) -> str:
        return value

    with swapped(broker, run=True):
        assert to_sync(broker).kicker(task).kiq().get_result().return_value == "fake"


def test_task_that_this_process_lacks_is_only_recorded(broker: Any) -> None:
    with swapped(broker, run=True) as sent:
        task = to_sync(broker).kicker("other:task").kiq(1)
        assert sent.only("other:task").args == [1]
        with pytest.raises(TaskNotRunError, match="has no task 'other:task'"):
            task.wait_result()
        assert sent.run() == 0


def test_shared_task_is_recorded(broker: Any) -> None:
    @async_shared_broker.task(task_name="shared")
    async def shared() -> None: ...

    async_shared_broker.default_broker(broker)
    with swapped(broker) as sent:
        asyncio.run(shared.kiq())
        to_sync(broker).kicker(shared).kiq()
    assert len(sent.of(shared)) == 2


def test_taskiqs_kicker_works_for_async_broker_only(broker: Any) -> None:
    from taskiq.kicker import AsyncKicker

    async def send(given: Any) -> None:
        await AsyncKicker[Any, Any]("t", given, {}).kiq()

    with swapped(broker) as sent:
        asyncio.run(send(broker))
        assert len(sent) == 1
        with pytest.raises(SendTaskError) as caught:
            asyncio.run(send(to_sync(broker)))
    assert "blocking broker" in str(caught.value.__cause__)


def test_result_is_what_redis_would_return(broker: Any) -> None:
    class OwnError(Exception):
        pass

    async def task(kind: str) -> Any:
        if kind == "error":
            raise OwnError("text")
        return (1, 2) if kind == "tuple" else object()

    declared = broker.register_task(task, task_name="t")
    del task.__annotations__["return"]
    with swapped(broker, run=True):
        twin = to_sync(broker)

        def result(kind: str) -> Any:
            return twin.kicker(declared).kiq(kind).wait_result()

        assert result("tuple").return_value == [1, 2]
        assert "can't be serialized" in str(result("object").error)
        assert "text" in str(result("error").error)


def test_results_are_deleted_if_the_backend_keeps_none() -> None:
    backend = make("RedisAsyncResultBackend", keep_results=False)
    broker = make("ListQueueBroker").with_result_backend(backend)
    task = broker.register_task(lambda: 5, task_name="t")
    with swapped(broker, run=True):
        sent = to_sync(broker).kicker(task).kiq()
        assert (sent.get_result().return_value, sent.is_ready()) == (5, False)


def test_unserializable_argument_is_an_error(broker: Any) -> None:
    with swapped(broker), pytest.raises(SendTaskError, match="can't be serialized"):
        to_sync(broker).kicker("t").kiq(object())


SOURCES = [*MECHANISMS["schedules"], *MECHANISMS["indexed schedules"]]


@pytest.mark.parametrize("name", SOURCES)
def test_schedules_are_kept_in_memory(name: str, broker: Any) -> None:
    source = make(name)
    twin = to_sync(source)
    when = datetime(2100, 1, 1, tzinfo=timezone.utc)
    kicker: SyncKicker[..., Any] = to_sync(broker).kicker("t")
    with swapped(source):
        asyncio.run(source.startup())
        kicker.schedule_by_time(twin, when, 1)
        to_sync(source).add_schedule(
            ScheduledTask(task_name="t", labels={}, args=[2], kwargs={}, interval=5)
        )
        found = asyncio.run(source.get_all_schedules())
        assert [each.args for each in found] == [[1], [2]]
        assert twin.count() == 2
        asyncio.run(source.shutdown())
    with swapped(source):
        assert twin.count() == 0


def test_scheduler_of_taskiq_sends_to_swapped_broker(broker: Any) -> None:
    source = make("RedisScheduleSource")
    task = ScheduledTask(task_name="t", labels={}, args=[2], kwargs={}, interval=5)
    with swapped(broker, source) as sent:
        asyncio.run(source.add_schedule(task))
        asyncio.run(TaskiqScheduler(broker, [source]).on_ready(source, task))
    assert sent.only("t").args == [2]


def test_brokers_in_memory_can_be_swapped_too() -> None:
    for given in (SyncInMemoryBroker(), to_sync(InMemoryBroker())):
        task = given.register_task(lambda: 5, task_name="t")
        with swapped(given) as sent:
            one = task.kiq()
            assert not one.is_ready()
            sent.run()
            assert one.get_result().return_value == 5
        assert task.kiq().get_result().return_value == 5


def test_only_says_what_was_sent_instead(broker: Any) -> None:
    with swapped(broker) as sent:
        with pytest.raises(AssertionError, match="0 such tasks were sent"):
            sent.only()
        for number in (1, 2):
            to_sync(broker).kicker("t").kiq(number)
        with pytest.raises(AssertionError, match=r"'t' should .* 2 such .*args=\[2\]"):
            sent.only("t")


def test_threads_share_a_swap(broker: Any) -> None:
    task = broker.register_task(lambda: current_thread().ident, task_name="t")
    twin = to_sync(broker)

    def send() -> None:
        for _ in range(10):
            found = twin.kicker(task).kiq().get_result().return_value
            assert found == threading.get_ident()

    with swapped(broker, run=True) as sent:
        together(*[send] * 4)
    assert len(sent) == 40


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="5 is not a broker"), swapped(5):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="Give the brokers"), swapped():
        pass


def test_invalid_delay_is_refused(broker: Any) -> None:
    task: AsyncTaskiqDecoratedTask[..., Any] = broker.register_task(lambda: 5, task_name="t")
    with swapped(broker), pytest.raises(SendTaskError) as caught:
        to_sync(broker).kicker(task).with_labels(delay="soon").kiq()
    assert isinstance(caught.value.__cause__, InvalidOptionError)
