"""What the users of the ACL rules in docs/migration.md do."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from taskiq import TaskiqMessage
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask

import taskiq_redis
from taskiq_redis import TaskState
from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._async.brokers.dead_letter_store import NewDeadLetter
from taskiq_redis._core.dead_letters import DIGEST_FIELD
from taskiq_redis._core.task_status import task_digest
from taskiq_redis.exceptions import DeadLetterError
from tests._async.support import message, result
from tests.compat.recorded import listed, maybe_await
from tests.compat.test_messages import receive
from tests.waiting import TIMEOUT

PAST = datetime.now(timezone.utc) - timedelta(hours=1)

Make = Callable[..., Any]


class Admin:
    """Execute commands of other clients, and count them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()

    def __call__(self, *command: Any) -> Any:
        self.calls[command[0].lower()] += 1
        self.calls["|".join(map(str, command[:2])).lower()] += 1
        return self._client.execute_command(*command)


async def send(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    broker = make(mechanism, queue_name=name)
    for _ in range(2):
        await maybe_await(broker.kick(message(b"a")))
    if mechanism != "pubsub":
        await maybe_await(broker.kick(message(b"later", delay=60)))
    await maybe_await(broker.shutdown())


async def send_tracked(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    """Send tasks that are tracked, and ask for their status."""
    broker = make(mechanism, queue_name=name, track_tasks=True)
    admin("ZADD", auxiliary_key(name, "tasks"), 1, "forgotten")
    await maybe_await(broker.kick(message(b"id")))
    assert (await maybe_await(broker.status("id"))).state is TaskState.QUEUED
    await maybe_await(broker.kick(message(b"later", delay=60)))
    assert (await maybe_await(broker.status("id"))).state is TaskState.DELAYED
    await maybe_await(broker.shutdown())


def auxiliary_key(name: str, suffix: str) -> str:
    """Return the name of an auxiliary key of a queue."""
    return f"{name}:{suffix}" if "{" in name else f"{{{name}}}:{suffix}"


def add_due(name: str, admin: Admin) -> None:
    """Add a delayed message that is due."""
    admin("ZADD", auxiliary_key(name, "delayed"), 1, b"0123456789abcdefdue")


async def work_on_list(make: Make, name: str, admin: Admin) -> None:
    add_due(name, admin)
    broker = make("list", queue_name=name, **LIMITS)
    assert await receive(broker) == b"due"
    reader = await maybe_await(broker._open_reader())
    await maybe_await(reader._put_back([(b"arrived too late", b"arrived too late")]))
    await maybe_await(reader.close())
    await keep_twice(broker, name)
    # A message whose task no worker knows.
    task = TaskiqMessage(task_id="unknown", task_name="t", labels={}, args=[], kwargs={})
    broker.unknown_task_timeout = 0.001
    for _ in range(2):
        await maybe_await(broker._refuse(broker.formatter.dumps(task).message, task))
        await asyncio.sleep(0.01)
    await maybe_await(broker.shutdown())


async def keep_twice(broker: Any, name: str) -> None:
    """Add a dead letter without an entry, and repeat that as after a lost reply."""
    letter = NewDeadLetter(name, b"failed")
    for _ in range(2):
        assert await maybe_await(broker._dead_letters.add_message(letter, ()))


#: options that limit the dead letters, and so need further commands
LIMITS = {"max_dead_letters": 1, "dead_letter_ttl": 60}


async def work_on_stream(make: Make, name: str, admin: Admin, **more: Any) -> None:
    admin("XADD", name, "*", "data", b"dead worker's")
    options = {"idle_timeout": 200, "xread_block": 100, **LIMITS, **more}
    broker = make("stream", queue_name=name, **options)
    broker.is_worker_process = True
    await maybe_await(broker.startup())
    admin("XREADGROUP", "GROUP", "taskiq", "dead", "STREAMS", name, ">")
    admin("HSET", auxiliary_key(name, "workers:taskiq"), "dead", "1 1")
    # Another group, which has acknowledged the first message.
    admin("XGROUP", "CREATE", name, "other", "0")
    ((_, ((first, _),)),) = admin("XREADGROUP", "GROUP", "other", "me", "STREAMS", name, ">")
    admin("XACK", name, "other", first)
    admin("XADD", name, "*", "no", b"task")
    add_due(name, admin)
    assert {await receive(broker), await receive(broker)} == {b"dead worker's", b"due"}
    await keep_twice(broker, name)
    await maybe_await(broker.shutdown())


async def operate_stream(make: Make, name: str, admin: Admin) -> None:
    await add_dead_letters(name, admin, b"a", b"b", b"c")
    # For `status`; requeueing a dead letter records its task again.
    broker = make("stream", queue_name=name, track_tasks=True)
    tracked = ["data", b"d", "dead-reason", "test", DIGEST_FIELD, task_digest("d")]
    admin("XADD", auxiliary_key(name, "dead"), "*", *tracked)
    first, *_ = await listed(broker.dead_letters())
    assert await maybe_await(broker.purge_dead_letters(first.id)) == 1
    assert await maybe_await(broker.requeue_dead_letters()) == 3
    assert (await maybe_await(broker.status("d"))).state is TaskState.UNKNOWN
    admin("XGROUP", "CREATE", name, "taskiq", "$")
    assert await maybe_await(broker.trim()) == 3
    await control(broker, name, admin, ["XADD", name, "*", "data"])
    admin("XADD", name, "*", "data", b"handed back")
    admin("XREADGROUP", "GROUP", "taskiq", HANDED_BACK, "STREAMS", name, ">")
    assert await maybe_await(broker.purge_queue()) == 1
    await look_at_stream(broker, name, admin)
    await maybe_await(broker.shutdown())


async def look_at_stream(broker: Any, name: str, admin: Admin) -> None:
    """Look at a queue in which as many messages wait as workers hold."""
    for _ in range(20):
        admin("XADD", name, "*", "data", b"a")
    admin("XREADGROUP", "GROUP", "taskiq", "me", "COUNT", 10, "STREAMS", name, ">")
    add_due(name, admin)
    stats = await maybe_await(broker.stats())
    assert (stats.waiting, stats.running, stats.delayed) == (10, 10, 1)
    assert len(await listed(broker.waiting())) == len(await listed(broker.running())) == 10
    assert len(await listed(broker.delayed())) == 1


async def operate_list(make: Make, name: str, admin: Admin) -> None:
    broker = make("list", queue_name=name)
    await add_dead_letters(name, admin, b"a", b"b", b"c")
    first, *_ = await listed(broker.dead_letters())
    assert await maybe_await(broker.purge_dead_letters(first.id)) == 1
    assert await maybe_await(broker.requeue_dead_letters()) == 2
    assert await maybe_await(broker.purge_queue()) == 2
    await control(broker, name, admin, ["LPUSH", name])
    admin("LPUSH", name, b"a", b"b")
    add_due(name, admin)
    await add_dead_letters(name, admin, b"c")
    stats = await maybe_await(broker.stats())
    assert (stats.waiting, stats.delayed, stats.dead) == (2, 1, 1)
    assert len(await listed(broker.waiting())) == 2
    assert len(await listed(broker.delayed())) == len(await listed(broker.dead_letters())) == 1
    await maybe_await(broker.shutdown())


async def operate_channel(make: Make, name: str, admin: Admin) -> None:
    broker = make("pubsub", queue_name=name)
    assert (await maybe_await(broker.stats())).subscribers == 0
    await maybe_await(broker.shutdown())


async def control(broker: Any, name: str, admin: Admin, add: list[str]) -> None:
    """Pause and purge a queue, and cancel a delayed task."""
    assert await maybe_await(broker.pause())
    assert await maybe_await(broker.resume())
    task = TaskiqMessage(task_id="later", task_name="t", labels={}, args=[], kwargs={})
    data = b"0123456789abcdef" + broker.formatter.dumps(task).message
    admin("ZADD", auxiliary_key(name, "delayed"), 10**15, data)
    assert await maybe_await(broker.cancel_delayed("later"))
    admin("ZADD", auxiliary_key(name, "delayed"), 10**15, data)
    admin(*add, b"waiting")
    assert await maybe_await(broker.purge_queue()) == 2


async def add_dead_letters(name: str, admin: Admin, *sent: bytes) -> None:
    """Add messages to the dead letters of a queue, without one in the queue."""
    for data in sent:
        admin("XADD", auxiliary_key(name, "dead"), "*", "data", data, "dead-reason", "test")


async def work(make: Make, name: str, admin: Admin) -> None:
    """Work on a stream, store results and send tasks; a message becomes a dead letter."""
    queue = name.strip("{}")
    await work_on_stream(make, queue, admin)
    await store_results(make, queue, admin)
    await send(make, queue, admin, "stream")


async def serve_web(make: Make, name: str, admin: Admin) -> None:
    """Send tasks, wait for results and write schedules."""
    await send(make, name.strip("{}"), admin, "stream")
    backend = await read_stored_results(make, name.strip("{}"), admin)
    await maybe_await(backend.shutdown())
    await write_schedules(make, name, admin, "indexed")


async def run_scheduler(make: Make, name: str, admin: Admin) -> None:
    """Send tasks on schedule."""
    await send(make, name.strip("{}"), admin, "stream")
    await send_schedules(make, name, admin, "indexed")


async def operate(make: Make, name: str, admin: Admin) -> None:
    """Look after a queue, results and schedules."""
    queue = name.strip("{}")
    await operate_stream(make, queue, admin)
    results = make("results", prefix_str=queue)
    broker = make("stream", queue_name=queue).with_result_backend(results)
    task = TaskiqMessage(task_id="dead", task_name="t", labels={}, args=[], kwargs={})
    await add_dead_letters(queue, admin, broker.formatter.dumps(task).message)
    error = DeadLetterError(deliveries=5, consumer="c", entry_id="1-0", queue_name=queue)
    data = result(None, is_err=True, error=error).model_dump(mode="json")
    admin("SET", f"{queue}:dead", results.serializer.dumpb(data))
    assert await maybe_await(broker.requeue_dead_letters()) == 1
    assert not await maybe_await(results.is_result_ready("dead"))
    await maybe_await(broker.shutdown())
    await maybe_await(results.shutdown())
    await manage_schedules(make, name, admin, "indexed")


async def subscribe(make: Make, name: str, admin: Admin) -> None:
    broker = make("pubsub", queue_name=name)
    reader = await maybe_await(broker._open_reader())
    # The first reply belongs to SUBSCRIBE.
    assert await maybe_await(reader.fetch()) == []
    admin("PUBLISH", name, b"a")
    assert await maybe_await(reader.fetch()) == [b"a"]
    # Pretend that there was no message for a long time.
    reader._subscription._last_reply = 0.0
    assert [await maybe_await(reader.fetch()) for _ in range(2)] == [[], []]
    await maybe_await(reader.close())
    await maybe_await(broker.shutdown())


async def store_results(make: Make, name: str, admin: Admin) -> None:
    backend = make("results", prefix_str=name, result_ex_time=60)
    await maybe_await(backend.set_result("id", result(1)))
    await maybe_await(backend.set_progress("id", TaskProgress(state="half", meta=None)))
    await maybe_await(backend.shutdown())


async def read_results(make: Make, name: str, admin: Admin) -> None:
    backend = await read_stored_results(make, name, admin)
    await wait_for_result(backend, partial(admin, "SET", f"{name}:late"))
    await maybe_await(backend.shutdown())


async def read_stored_results(make: Make, name: str, admin: Admin) -> Any:
    """Read results without waiting for one, and return the backend."""
    plain = taskiq_redis.SyncRedisAsyncResultBackend[Any]("redis://127.0.0.1:1")
    admin("SET", f"{name}:id", plain.serializer.dumpb(result(1).model_dump(mode="json")))
    backend = make("results", prefix_str=name, keep_results=False)
    assert await maybe_await(backend.is_result_ready("id"))
    assert await maybe_await(backend.get_progress("id")) is None
    assert (await maybe_await(backend.get_result("id"))).return_value == 1
    return backend


async def wait_for_result(backend: Any, store: Callable[[bytes], Any]) -> None:
    """Wait for a result by notification, until the subscription also has pinged its server."""
    if inspect.iscoroutinefunction(backend.wait_result):
        waiting = asyncio.ensure_future(backend.wait_result("late", TIMEOUT))
    else:
        waiting = asyncio.ensure_future(asyncio.to_thread(backend.wait_result, "late", TIMEOUT))
    listener = backend._listener.get()
    await until(lambda: listener._subscription)
    subscription = listener._subscription
    await until_pinged(subscription)
    store(backend.serializer.dumpb(result(2).model_dump(mode="json")))
    assert (await waiting).return_value == 2
    await until(lambda: not subscription.channels)


async def until_pinged(subscription: Any) -> None:
    """Wait until an idle subscription has pinged its server."""
    pings: list[Any] = []
    ping = subscription._pubsub.ping

    def counted() -> Any:
        pings.append(ping)
        return ping()

    def has_pinged() -> bool:
        # Pretend repeatedly that it was idle, because replies such as that to SUBSCRIBE reset it.
        if not pings:
            subscription._last_reply = 0.0
        return bool(pings)

    subscription._pubsub.ping = counted
    await until(has_pinged)
    await until(lambda: subscription._pinged is None)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true; the test has a time limit."""
    while not condition():
        await asyncio.sleep(0.01)


def schedule(schedule_id: str, **when: Any) -> ScheduledTask:
    return ScheduledTask(
        task_name="t", labels={}, args=[], kwargs={}, schedule_id=schedule_id, **when
    )


async def write_schedules(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    source = make(mechanism, prefix=name)
    add_schedule_of_1_2_4(name, admin, mechanism)
    for when in ({"time": PAST}, {"cron": "* * * * *"}, {"interval": 5}, {"time": PAST}):
        await maybe_await(source.add_schedule(schedule("a", **when)))
    await maybe_await(source.startup())
    # Its key could be that of the other kind of source.
    await maybe_await(source.add_schedules([schedule("data:a", interval=5)]))
    if mechanism == "keys":
        # Replacing a paused schedule resumes it.
        admin("ZADD", auxiliary_key(name, "keys:due"), "inf", "a")
        await maybe_await(source.add_schedule(schedule("a", interval=5)))
    for schedule_id in ("a", "data:a"):
        assert await maybe_await(source.delete_schedule(schedule_id))
    await maybe_await(source.shutdown())


def add_schedule_of_1_2_4(name: str, admin: Admin, mechanism: str) -> None:
    """Add a schedule that is due, with the keys of 1.2.4."""
    plain = taskiq_redis.SyncRedisScheduleSource("redis://127.0.0.1:1")
    data = plain.serializer.dumpb(schedule("a", time=PAST).model_dump(mode="json"))
    if mechanism == "keys":
        admin("SET", f"{name}:a", data)
    else:
        admin("SET", f"{name}:data:a", data)
        admin("RPUSH", f"{name}:time:{PAST:%Y-%m-%dT%H:%M}", "a")


async def send_schedules(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    plain = taskiq_redis.SyncRedisScheduleSource("redis://127.0.0.1:1")
    add_schedule_of_1_2_4(name, admin, mechanism)
    data = plain.serializer.dumpb(schedule("b", interval=5).model_dump(mode="json"))
    if mechanism == "keys":
        admin("SET", f"{name}:b", data)
    else:
        admin("SET", f"{name}:data:b", data)
        admin("RPUSH", f"{name}:interval", "b")
        # A schedule and a minute that 1.2.4 has deleted.
        admin("ZADD", auxiliary_key(name, "due"), 0, "gone")
        admin("ZADD", auxiliary_key(name, "minutes"), 60_000, "1970-01-01T00:01")
    # Of a scheduler that was killed.
    admin("HSET", auxiliary_key(name, "schedulers"), "dead", "5000 1 1 1 2.0.0 host")
    source = make(mechanism, prefix=name)
    source._registration.record_send()
    await maybe_await(source.startup())
    sent = await maybe_await(source.get_schedules())
    assert {task.schedule_id for task in sent} == {"a", "b"}
    for task in sent:
        await maybe_await(source.pre_send(task))
        # The lease of a claim is renewed while the task is sent, and ended if it can't be sent.
        claims = list(source._claims._held.values())
        for lease in (1000, 0):
            await maybe_await(source._claims._renew(lease, claims))
        await maybe_await(source.post_send(task))
    # As with a subclass whose `pre_send` doesn't call that of its base class.
    add_schedule_of_1_2_4(name, admin, mechanism)
    await maybe_await(source.post_send(schedule("a", time=PAST)))
    (task,) = await maybe_await(source.get_schedules())
    assert task.schedule_id == "b"
    await maybe_await(source.shutdown())


async def manage_schedules(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    await write_schedules(make, name, admin, mechanism)
    source = make(mechanism, prefix=name)
    await maybe_await(source.add_schedules([schedule("a", interval=5), schedule("b", time=PAST)]))
    assert await maybe_await(source.count()) == 2
    assert len(await maybe_await(source.get_all_schedules())) == 2
    task = await maybe_await(source.get_schedule("a"))
    assert await maybe_await(source.pause_schedule("a"))
    assert await maybe_await(source.next_run(task)) is None
    assert await maybe_await(source.resume_schedule("a"))
    assert await maybe_await(source.next_run(task)) is not None
    assert await maybe_await(source.schedulers()) == []
    assert await maybe_await(source.clear(all=True)) == 2
    await maybe_await(source.shutdown())


async def migrate_schedules(make: Make, name: str, admin: Admin) -> None:
    admin("RPUSH", f"{name}:cron", "1.2.4's")
    for delete in (False, True):
        add_schedule_of_1_2_4(name, admin, "keys")
        target = make("indexed", prefix=name)
        target.with_migrate_from(make("keys", prefix=name), delete_schedules=delete)
        await maybe_await(target.startup())
        await maybe_await(target.shutdown())
        assert admin("DEL", f"{name}:data:a") == 1
        assert admin("EXISTS", f"{name}:a") != delete


#: actions by user of the guide
ACTIONS: dict[str, Callable[..., Awaitable[None]]] = {
    "list-sender": partial(send, mechanism="list"),
    "list-worker": work_on_list,
    "list-operator": operate_list,
    "stream-sender": partial(send, mechanism="stream"),
    "stream-worker": work_on_stream,
    "stream-operator": operate_stream,
    "tracking-list-sender": partial(send_tracked, mechanism="list"),
    "tracking-stream-sender": partial(send_tracked, mechanism="stream"),
    "tracking-stream-worker": partial(work_on_stream, track_tasks=True),
    "publisher": partial(send, mechanism="pubsub"),
    "subscriber": subscribe,
    "pubsub-operator": operate_channel,
    "result-writer": store_results,
    "result-reader": read_results,
    "schedule-keys-writer": partial(write_schedules, mechanism="keys"),
    "schedule-keys-scheduler": partial(send_schedules, mechanism="keys"),
    "schedule-keys-manager": partial(manage_schedules, mechanism="keys"),
    "schedule-writer": partial(write_schedules, mechanism="indexed"),
    "schedule-scheduler": partial(send_schedules, mechanism="indexed"),
    "schedule-manager": partial(manage_schedules, mechanism="indexed"),
    "schedule-migration": migrate_schedules,
}

#: what processes with several roles do, and their roles, by user of the guide
PROCESSES: dict[str, tuple[Callable[..., Awaitable[None]], tuple[str, ...]]] = {
    "worker": (work, ("stream-worker", "stream-sender", "result-writer")),
    "web": (serve_web, ("stream-sender", "result-reader", "schedule-writer")),
    "scheduler": (run_scheduler, ("stream-sender", "schedule-scheduler")),
    "operator": (operate, ("stream-operator", "result-reader", "schedule-manager")),
}


#: users with indexed sources, whose keys must share a slot on a cluster
INDEXED = {
    "schedule-writer",
    "schedule-scheduler",
    "schedule-manager",
    "schedule-migration",
    *PROCESSES,
}
