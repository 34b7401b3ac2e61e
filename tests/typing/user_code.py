# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportMissingTypeStubs=false
"""Code as users write it, which mypy and pyright check and nobody runs.

A line with a `type: ignore` comment is an error that both type checkers must report. A comment
without an error is an error itself.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from datetime import datetime, timedelta, timezone
from typing import Any

import redis
import redis.asyncio
from taskiq import (
    AckableMessage,
    AsyncTaskiqTask,
    SimpleRetryMiddleware,
    TaskiqEvents,
    TaskiqResult,
    TaskiqScheduler,
    TaskiqState,
)
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import CronSpec, ScheduledTask
from taskiq.serializers import JSONSerializer
from typing_extensions import assert_type

import taskiq_redis
from taskiq_redis import (
    DeadLetter,
    GroupStats,
    ListQueueBroker,
    ListQueueClusterBroker,
    ListRedisClusterScheduleSource,
    ListRedisScheduleSource,
    PubSubBroker,
    PubSubSentinelBroker,
    QueuedTask,
    QueueStats,
    RedisAsyncResultBackend,
    RedisStreamBroker,
    RedisStreamSentinelBroker,
    Signer,
    SyncBroker,
    SyncKicker,
    SyncListQueueBroker,
    SyncListQueueClusterBroker,
    SyncListRedisClusterScheduleSource,
    SyncListRedisScheduleSource,
    SyncPubSubSentinelBroker,
    SyncRedisAsyncResultBackend,
    SyncRedisStreamBroker,
    SyncRedisStreamSentinelBroker,
    SyncTaskiqDecoratedTask,
    SyncTaskiqTask,
    WorkerStats,
    to_sync,
)
from taskiq_redis.exceptions import ServerUnavailableError
from taskiq_redis.redis_broker import RedisStreamBroker as OldPath

URL = "redis://localhost:6379/0"
NOW = datetime.now(timezone.utc)
SENTINELS = [("localhost", 26379), ("localhost", 26380)]

# --- Tasks for asyncio and for blocking code ----------------------------------

results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(URL, result_ex_time=60)
broker = (
    RedisStreamBroker(URL, "queue", 10, maxlen=None, socket_timeout=5)
    .with_result_backend(results)
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=3))
)

sync_results: SyncRedisAsyncResultBackend[Any] = SyncRedisAsyncResultBackend(URL, True, 60)
sync_broker = (
    SyncRedisStreamBroker(URL, "queue", 10, maxlen=None, socket_timeout=5)
    .with_result_backend(sync_results)
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=3))
    .with_serializer(JSONSerializer())
    .with_id_generator(lambda: "id")
)


@broker.task
async def fetch(url: str, timeout: float = 1.0) -> list[bytes]:
    return [url.encode(), str(timeout).encode()]


@broker.task("halve", retry_on_error=True)
def halve(number: int) -> float:
    return number / 2


@sync_broker.task
def add(a: int, b: int = 2) -> int:
    return a + b


@sync_broker.task("nothing", retry_on_error=True)
def nothing() -> None: ...


@sync_broker.task(task_name="later", priority=5)
async def later(text: str, *, more: list[int] | None = None) -> dict[str, int]:
    return {text: len(more or ())}


@sync_broker.on_event(TaskiqEvents.CLIENT_STARTUP)
def prepare(state: TaskiqState) -> None:
    state.ready = True


@sync_broker.on_event(TaskiqEvents.CLIENT_SHUTDOWN)
async def clean_up(state: TaskiqState) -> None:
    state.ready = False


# --- Constructors --------------------------------------------------------------------------------


def constructors() -> None:
    assert_type(broker, RedisStreamBroker)
    assert_type(sync_broker, SyncRedisStreamBroker)
    assert_type(OldPath(URL), RedisStreamBroker)
    RedisStreamSentinelBroker(SENTINELS, "mymaster", password="secret")
    SyncRedisStreamSentinelBroker(SENTINELS, "mymaster", password="secret")
    PubSubSentinelBroker(SENTINELS, "mymaster", None, None, "queue", 1, {"password": "secret"})
    SyncPubSubSentinelBroker(SENTINELS, "mymaster", None, None, "queue", 1, {"password": "secret"})
    ListQueueClusterBroker(URL, "queue", 10)
    SyncListQueueClusterBroker(URL, "queue", 10)
    ListRedisClusterScheduleSource(URL, "{app}:schedule")
    SyncListRedisClusterScheduleSource(URL, "{app}:schedule")

    ListQueueBroker()  # type: ignore[call-arg]
    SyncListQueueBroker()  # type: ignore[call-arg]
    ListQueueBroker(URL, queue_name=1)  # type: ignore[arg-type]
    SyncListQueueBroker(URL, queue_name=1)  # type: ignore[arg-type]
    ListQueueBroker(URL, result_backend=sync_results)  # type: ignore[arg-type]
    SyncListQueueBroker(URL, result_backend=results)  # type: ignore[arg-type]
    RedisAsyncResultBackend[Any](URL, result_ex_time="60")  # type: ignore[arg-type]
    SyncRedisAsyncResultBackend[Any](URL, result_ex_time="60")  # type: ignore[arg-type]
    PubSubSentinelBroker(URL, "mymaster")  # type: ignore[arg-type]
    SyncPubSubSentinelBroker(URL, "mymaster")  # type: ignore[arg-type]
    broker.with_result_backend(sync_results)  # type: ignore[arg-type]
    sync_broker.with_result_backend(results)  # type: ignore[arg-type]
    sync_broker.add_middlewares(SimpleRetryMiddleware)  # type: ignore[arg-type]


def attributes() -> None:
    assert_type(broker.queue_name, str)
    assert_type(sync_broker.queue_name, str)
    assert_type(broker.connection_pool, redis.asyncio.BlockingConnectionPool)
    broker.connection_pool = redis.asyncio.BlockingConnectionPool()
    assert_type(sync_broker.connection_pool, redis.BlockingConnectionPool)
    _ = assert_type(ListQueueClusterBroker(URL).redis, redis.asyncio.RedisCluster)
    assert_type(SyncListQueueClusterBroker(URL).redis, redis.RedisCluster)
    assert_type(PubSubSentinelBroker(SENTINELS, "m").sentinel, redis.asyncio.Sentinel)
    assert_type(SyncPubSubSentinelBroker(SENTINELS, "m").sentinel, redis.Sentinel)
    assert_type(results.prefix_str, str | None)
    assert_type(sync_results.prefix_str, str | None)

    broker.queue_name = 1  # type: ignore[assignment]
    sync_broker.queue_name = 1  # type: ignore[assignment]
    broker.no_such_attribute  # type: ignore[attr-defined]  # noqa: B018
    sync_broker.no_such_attribute  # type: ignore[attr-defined]  # noqa: B018


# --- Sending, for asyncio ------------------------------------------------------------------------


async def sending() -> None:
    await broker.startup()
    task = await fetch.kiq("http://localhost", timeout=5)
    assert_type(task, AsyncTaskiqTask[list[bytes]])
    result = await task.wait_result(timeout=5)
    assert_type(result, TaskiqResult[list[bytes]])
    assert_type(result.return_value, list[bytes])
    assert_type(await halve.kiq(3), AsyncTaskiqTask[float])
    many = await fetch.kiq_many([fetch.call("http://localhost"), fetch.call("http://b", 1.0)])
    assert_type(many, list[AsyncTaskiqTask[list[bytes]]])
    assert_type(await halve.kicker().kiq_many([halve.call(3)]), list[AsyncTaskiqTask[float]])
    assert_type(await fetch("http://localhost"), list[bytes])
    assert_type(halve(3), float)
    labelled = fetch.kicker().with_labels(queue_name="other").with_task_id("id")
    assert_type(await labelled.kiq("http://localhost"), AsyncTaskiqTask[list[bytes]])
    await broker.shutdown()

    fetch.call(1)  # type: ignore[arg-type]
    await fetch.kiq()  # type: ignore[call-overload]
    await fetch.kiq(1)  # type: ignore[call-overload]
    await fetch.kiq("http://localhost", 1.0, None)  # type: ignore[call-overload]
    await fetch.kiq("http://localhost", wrong=1)  # type: ignore[call-overload]
    halve("3")  # type: ignore[arg-type]
    fetch.kiq("http://localhost")  # type: ignore[unused-coroutine]


async def receiving() -> None:
    async with broker:
        assert_type(broker.listen(), AsyncGenerator[bytes | AckableMessage, None])
        async for message in broker.listen():
            assert_type(message, bytes | AckableMessage)

    for _ in broker.listen():  # type: ignore[attr-defined]
        ...


async def reading() -> None:
    assert_type(await results.is_result_ready("id"), bool)
    assert_type(await results.get_result("id", with_logs=True), TaskiqResult[Any])
    assert_type(await results.get_results(["id"]), dict[str, TaskiqResult[Any]])
    assert_type(await results.get_progress("id"), TaskProgress[Any] | None)
    numbers: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(URL)
    assert_type((await numbers.get_result("id")).return_value, int)
    try:
        await results.delete_result("id")
    except ServerUnavailableError as error:
        assert_type(error.server, str)
    except redis.ConnectionError:
        pass

    await results.get_result(1)  # type: ignore[arg-type]


async def inspecting() -> None:
    streams, lists = RedisStreamBroker(URL), ListQueueClusterBroker(URL)
    stats = await streams.stats()
    assert_type(stats, QueueStats)
    assert_type(stats.groups, tuple[GroupStats, ...])
    assert_type(stats.groups[0].workers, tuple[WorkerStats, ...])
    assert_type((await PubSubBroker(URL).stats("news")).subscribers, int | None)
    for broker in (streams, lists):
        assert_type(broker.waiting(limit=3), AsyncGenerator[QueuedTask, None])
        async for letter in broker.dead_letters(task_name="name"):
            assert_type(letter, DeadLetter)
            assert_type(letter.data, bytes | None)
        await broker.waiting()  # type: ignore[misc]
    lists.running()  # type: ignore[attr-defined]
    assert_type([task async for task in streams.running()], list[QueuedTask])
    assert_type(list(to_sync(lists).delayed()), list[QueuedTask])
    task = next(to_sync(streams).dead_letters())
    assert_type(task.task_name, str | None)
    assert_type(task.args, list[Any])
    assert_type(taskiq_redis.__version__, str)


async def scheduling() -> None:
    source = ListRedisScheduleSource(URL).with_migrate_from(ListRedisScheduleSource(URL, "old"))
    assert_type(source, ListRedisScheduleSource)
    TaskiqScheduler(broker, [source])
    created = await halve.schedule_by_cron(source, "* * * * *", 3)
    assert_type(created.schedule_id, str)
    await created.unschedule()
    await fetch.schedule_by_time(source, NOW, "http://localhost", timeout=1)
    assert_type(await source.get_schedules(), list[ScheduledTask])

    await halve.schedule_by_cron(source, "* * * * *", "3")  # type: ignore[arg-type]
    await halve.schedule_by_cron(SyncListRedisScheduleSource(URL), "", 3)  # type: ignore[arg-type]


# --- Sending, for blocking code ------------------------------------------------------------------


def sync_sending() -> None:
    assert_type(add.kiq(1), SyncTaskiqTask[int])
    task = add.kiq(1, b=3)
    assert_type(task.task_id, str)
    assert_type(task.is_ready(), bool)
    result = task.wait_result(check_interval=0.1, timeout=5, with_logs=True)
    assert_type(result, TaskiqResult[int])
    assert_type(result.return_value, int)
    assert_type(task.get_result().return_value, int)
    assert_type(task.get_progress(), TaskProgress[Any] | None)
    assert_type(add(1), int)
    assert_type(nothing.kiq().wait_result().return_value, None)
    labelled = add.kicker().with_labels(queue_name="other", priority=5).with_task_id("id")
    assert_type(labelled.kiq(1), SyncTaskiqTask[int])
    assert_type(add.kicker().with_broker(sync_broker).kiq(1), SyncTaskiqTask[int])

    assert_type(add.kiq_many([add.call(1), add.call(2, b=3)]), list[SyncTaskiqTask[int]])

    add.call("1")  # type: ignore[arg-type]
    add.kiq_many([nothing.call()])  # type: ignore[list-item]
    add.kiq()  # type: ignore[call-arg]
    add.kiq("1")  # type: ignore[arg-type]
    add.kiq(1, 2, 3)  # type: ignore[call-arg]
    add.kiq(1, c=2)  # type: ignore[call-arg]
    add("1")  # type: ignore[arg-type]
    add.kicker().kiq("1")  # type: ignore[arg-type]
    add.kicker().with_broker(broker)  # type: ignore[arg-type]
    nothing.kiq(1)  # type: ignore[call-arg]
    task.wait_result(timeout="5")  # type: ignore[arg-type]


async def sync_task_of_a_coroutine_function() -> None:
    # A worker runs the task, so its result is the value, not the coroutine.
    assert_type(later.kiq("a", more=[1]), SyncTaskiqTask[dict[str, int]])
    assert_type(later.kicker().kiq("a").wait_result().return_value, dict[str, int])
    assert_type(await later("a"), dict[str, int])

    later.kiq(1)  # type: ignore[call-overload]
    later.kiq("a", [1])  # type: ignore[call-overload]
    later.kiq("a", more=1)  # type: ignore[call-overload]


def sync_sending_tasks_of_other_brokers() -> None:
    # A task of an async broker, with its parameters and its result.
    assert_type(sync_broker.kicker(fetch).kiq("http://localhost"), SyncTaskiqTask[list[bytes]])
    kicker: SyncKicker[[int], float] = sync_broker.kicker(halve)
    assert_type(kicker.kiq(3), SyncTaskiqTask[float])
    assert_type(sync_broker.kicker(halve).kiq(3).wait_result().return_value, float)
    # A task of another blocking broker.
    assert_type(SyncListQueueBroker(URL).kicker(add).kiq(1), SyncTaskiqTask[int])
    assert_type(SyncListQueueBroker(URL).kicker(later).kiq("a"), SyncTaskiqTask[dict[str, int]])
    # A task name has no parameter types.
    assert_type(sync_broker.kicker("tasks:add").kiq(1, "x", y=2), SyncTaskiqTask[Any])

    sync_broker.kicker(fetch).kiq(1)  # type: ignore[call-overload]
    sync_broker.kicker(halve).kiq("3")  # type: ignore[arg-type]
    sync_broker.kicker(later).kiq()  # type: ignore[call-overload]
    sync_broker.kicker(len)  # type: ignore[call-overload]
    sync_broker.kicker(1)  # type: ignore[call-overload]


def sync_receiving() -> None:
    with sync_broker as opened:
        assert_type(opened, SyncRedisStreamBroker)
        assert_type(opened.listen(), Generator[bytes | AckableMessage, None, None])
        for message in opened.listen():
            assert_type(message, bytes | AckableMessage)
    assert_type(sync_broker.startup(), None)
    assert_type(sync_broker.shutdown(), None)


async def sync_is_not_async() -> None:
    await add.kiq(1)  # type: ignore[misc]
    await sync_results.get_result("id")  # type: ignore[misc]
    async for _ in sync_broker.listen():  # type: ignore[attr-defined]
        ...


def sync_reading() -> None:
    assert_type(sync_results.is_result_ready("id"), bool)
    assert_type(sync_results.get_result("id", with_logs=True), TaskiqResult[Any])
    assert_type(sync_results.get_results(["id"]), dict[str, TaskiqResult[Any]])
    assert_type(sync_results.get_progress("id"), TaskProgress[Any] | None)
    numbers: SyncRedisAsyncResultBackend[int] = SyncRedisAsyncResultBackend(URL)
    assert_type(numbers.get_result("id").return_value, int)
    assert_type(sync_results.delete_result("id"), None)

    sync_results.get_result(1)  # type: ignore[arg-type]


def sync_scheduling() -> None:
    source = SyncListRedisScheduleSource(URL).with_migrate_from(SyncListRedisScheduleSource(URL))
    assert_type(source, SyncListRedisScheduleSource)
    source.startup()
    created = add.schedule_by_cron(source, CronSpec(minutes="*/5"), 1, b=2)
    assert_type(created.schedule_id, str)
    assert_type(created.kiq(), SyncTaskiqTask[int])
    created.unschedule()
    add.schedule_by_interval(source, timedelta(minutes=5), 1)
    add.kicker().with_schedule_id("id").schedule_by_time(source, NOW, 1)
    assert_type(later.schedule_by_time(source, NOW, "a").kiq(), SyncTaskiqTask[dict[str, int]])
    assert_type(source.get_schedules(), list[ScheduledTask])
    sync_broker.kicker(fetch).schedule_by_cron(source, "* * * * *", "http://localhost")

    add.schedule_by_cron(source, "* * * * *", "1")  # type: ignore[arg-type]
    add.schedule_by_cron(source, "* * * * *")  # type: ignore[call-arg]
    add.schedule_by_time(source, "now", 1)  # type: ignore[arg-type]
    add.schedule_by_interval(source, 1.5, 1)  # type: ignore[arg-type]
    add.schedule_by_cron(ListRedisScheduleSource(URL), "", 1)  # type: ignore[arg-type]


# --- Signatures ---------------------------------------------------------------------------


def signing() -> None:
    signer = Signer({"2026-01": b"secret" * 6, "2026-07": "secret" * 6}, accept_unsigned=True)
    assert_type(broker.with_signer(signer).with_allowed_queues("a", "b"), RedisStreamBroker)
    assert_type(sync_broker.with_signer(signer).with_allowed_queues(), SyncRedisStreamBroker)
    assert_type(RedisAsyncResultBackend[int](URL).with_signer(signer), RedisAsyncResultBackend[int])
    source = ListRedisScheduleSource(URL).with_signer(Signer({"k": "s" * 32}, verify_only=True))
    assert_type(source, ListRedisScheduleSource)
    Signer(b"secret" * 6)  # type: ignore[arg-type]
    signer.sign("queue", "a", b"x")  # type: ignore[arg-type]
    broker.with_signer("secret")  # type: ignore[arg-type]


# --- Blocking twins -----------------------------------------------------------------------


def twins() -> None:
    # Methods that taskiq's base classes don't have.
    assert_type(to_sync(broker).queue_name, str)
    numbers = to_sync(RedisAsyncResultBackend[int](URL))
    assert_type(numbers.get_results(["id"]), dict[str, TaskiqResult[int]])
    assert_type(numbers.get_progress("id"), TaskProgress[Any] | None)
    assert_type(numbers.delete_result("id"), None)
    schedules = to_sync(ListRedisScheduleSource(URL)).get_all_schedules()
    assert_type(schedules, list[ScheduledTask])
    assert_type(to_sync(broker).kicker(fetch).kiq("a"), SyncTaskiqTask[list[bytes]])
    with to_sync(broker) as opened:
        opened.kicker(halve).kiq(3)

    to_sync(sync_broker)  # type: ignore[call-overload]
    to_sync(fetch)  # type: ignore[call-overload]
    to_sync(URL)  # type: ignore[call-overload]


# --- Helpers that users write ------------------------------------------------------------------


def any_broker(chosen: SyncBroker) -> Callable[[int, int], int]:
    """Use a broker by its base class, as a library does."""

    @chosen.task
    def multiply(a: int, b: int) -> int:
        return a * b

    assert_type(multiply.kiq(1, 2), SyncTaskiqTask[int])
    return multiply


def any_task(task: SyncTaskiqDecoratedTask[[int], str]) -> str:
    """Take a task with given parameters."""
    return task.kiq(1).wait_result().return_value


class MyBroker(SyncListQueueBroker):
    """A subclass keeps its type through the fluent methods."""

    def name(self) -> str:
        return self.queue_name


assert_type(MyBroker(URL).with_result_backend(sync_results).with_middlewares().name(), str)
