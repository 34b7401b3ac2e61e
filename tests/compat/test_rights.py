"""The rights that docs/migration.md lists are enough, and none of them is too many."""

import asyncio
import inspect
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.scheduler.scheduled_task import ScheduledTask

import taskiq_redis
from tests._async.support import CLASSES, message, on_all_nodes, result
from tests.compat.recorded import done
from tests.compat.test_messages import receive
from tests.servers import ServerProcess, Topology, client_of, close_client
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).parent.parent.parent / "docs" / "migration.md"
PASSWORD = "secret"
#: what comes with every connection, and needs no right or does without
BY_THE_WAY = {"auth", "client|setinfo", "hello", "xackdel"}
PAST = datetime.now(timezone.utc) - timedelta(hours=1)

#: the rules of each user of the guide
RULES: dict[str, list[str]] = {
    user: rules.split()
    for user, rules in re.findall(
        r"^ACL SETUSER (\S+) (.+)$", GUIDE.read_text("utf-8"), re.MULTILINE
    )
}
Make = Callable[..., Any]


def own_rules(user: str, name: str) -> list[str]:
    """Return the rules of a user, for the keys of a test."""
    return [re.sub(r"taskiq|schedule|results", name, rule) for rule in RULES[user]]


def commands_of(user: str) -> set[str]:
    """Return the commands that a user may run."""
    return {rule[1:] for rule in RULES[user] if rule.startswith("+")}


class Admin:
    """Does what others do meanwhile, and counts it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()

    def __call__(self, *command: Any) -> Any:
        self.calls[command[0].lower()] += 1
        return self._client.execute_command(*command)


async def send(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    broker = make(mechanism, queue_name=name)
    for _ in range(2):
        await done(broker.kick(message(b"a")))
    if mechanism != "pubsub":
        await done(broker.kick(message(b"later", delay=60)))
    await done(broker.shutdown())


def beside(name: str, suffix: str) -> str:
    """Name a key beside a queue."""
    return f"{name}:{suffix}" if "{" in name else f"{{{name}}}:{suffix}"


def add_due(name: str, admin: Admin) -> None:
    """Let a message be due that was sent with a delay."""
    admin("ZADD", beside(name, "delayed"), 1, b"0123456789abcdefdue")


async def work_on_list(make: Make, name: str, admin: Admin) -> None:
    add_due(name, admin)
    broker = make("list", queue_name=name)
    assert await receive(broker) == b"due"
    reader = await done(broker._open_reader())
    await done(reader._put_back([b"arrived too late"]))
    await done(reader.close())
    await done(broker.shutdown())


async def work_on_stream(make: Make, name: str, admin: Admin) -> None:
    admin("XADD", name, "*", "data", b"dead worker's")
    broker = make("stream", queue_name=name, idle_timeout=200, xread_block=100)
    broker.is_worker_process = True
    await done(broker.startup())
    admin("XREADGROUP", "GROUP", "taskiq", "dead", "STREAMS", name, ">")
    admin("HSET", beside(name, "workers:taskiq"), "dead", "1 1")
    # Another group, which has done its part of the first task.
    admin("XGROUP", "CREATE", name, "other", "0")
    ((_, ((first, _),)),) = admin("XREADGROUP", "GROUP", "other", "me", "STREAMS", name, ">")
    admin("XACK", name, "other", first)
    admin("XADD", name, "*", "no", b"task")
    add_due(name, admin)
    assert {await receive(broker), await receive(broker)} == {b"dead worker's", b"due"}
    await done(broker.shutdown())


async def subscribe(make: Make, name: str, admin: Admin) -> None:
    broker = make("pubsub", queue_name=name)
    reader = await done(broker._open_reader())
    # The first reply is that to SUBSCRIBE.
    assert await done(reader.fetch()) == []
    admin("PUBLISH", name, b"a")
    assert await done(reader.fetch()) == [b"a"]
    # As after a long silence.
    reader._subscription._last_reply = 0.0
    assert [await done(reader.fetch()) for _ in range(2)] == [[], []]
    await done(reader.close())
    await done(broker.shutdown())


async def store_results(make: Make, name: str, admin: Admin) -> None:
    backend = make("results", prefix_str=name, result_ex_time=60)
    await done(backend.set_result("id", result(1)))
    await done(backend.set_progress("id", TaskProgress(state="half", meta=None)))
    await done(backend.shutdown())


async def read_results(make: Make, name: str, admin: Admin) -> None:
    plain = taskiq_redis.SyncRedisAsyncResultBackend[Any]("redis://127.0.0.1:1")
    admin("SET", f"{name}:id", plain.serializer.dumpb(result(1).model_dump(mode="json")))
    backend = make("results", prefix_str=name, keep_results=False)
    assert await done(backend.is_result_ready("id"))
    assert await done(backend.get_progress("id")) is None
    assert (await done(backend.get_result("id"))).return_value == 1
    await wait_for_result(backend, partial(admin, "SET", f"{name}:late"))
    await done(backend.shutdown())


async def wait_for_result(backend: Any, store: Callable[[bytes], Any]) -> None:
    """Be told, or else look, and say after a silence that the server is still there."""
    if inspect.iscoroutinefunction(backend.wait_result):
        waiting = asyncio.ensure_future(backend.wait_result("late", TIMEOUT))
    else:
        waiting = asyncio.ensure_future(asyncio.to_thread(backend.wait_result, "late", TIMEOUT))
    told = backend._listener.get()
    await until(lambda: told._subscription)
    subscription = told._subscription
    await until_asked(subscription)
    store(backend.serializer.dumpb(result(2).model_dump(mode="json")))
    assert (await waiting).return_value == 2
    await until(lambda: not subscription.channels)


async def until_asked(subscription: Any) -> None:
    """Wait until a subscription that hears nothing has asked whether its server is there."""
    asked: list[Any] = []
    ping = subscription._pubsub.ping

    def counted() -> Any:
        asked.append(ping)
        return ping()

    def has_asked() -> bool:
        # As after a long silence; what is still to come, such as the reply to SUBSCRIBE, ends that.
        if not asked:
            subscription._last_reply = 0.0
        return bool(asked)

    subscription._pubsub.ping = counted
    await until(has_asked)
    await until(lambda: subscription._pinged is None)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true; the test has a time limit."""
    while not condition():
        await asyncio.sleep(0.01)


def schedule(schedule_id: str, **when: Any) -> ScheduledTask:
    return ScheduledTask(
        task_name="t", labels={}, args=[], kwargs={}, schedule_id=schedule_id, **when
    )


async def write_schedules(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    source = make(mechanism, prefix=name)
    for when in ({"cron": "* * * * *"}, {"interval": 5}, {"time": PAST}, {"interval": 5}):
        await done(source.add_schedule(schedule("a", **when)))
    await done(source.delete_schedule("a"))
    await done(source.shutdown())


async def send_schedules(make: Make, name: str, admin: Admin, mechanism: str) -> None:
    plain = taskiq_redis.SyncRedisScheduleSource("redis://127.0.0.1:1")
    data = plain.serializer.dumpb(schedule("a", time=PAST).model_dump(mode="json"))
    if mechanism == "keys":
        admin("SET", f"{name}:a", data)
    else:
        # As 1.2.4 left it, and a minute that it has emptied.
        admin("SET", f"{name}:data:a", data)
        admin("RPUSH", f"{name}:time:{PAST:%Y-%m-%dT%H:%M}", "a")
        admin("ZADD", beside(name, "due"), 1577836800, "2020-01-01T00:00")
    source = make(mechanism, prefix=name)
    await done(source.startup())
    (task,) = await done(source.get_schedules())
    await done(source.post_send(task))
    assert await done(source.get_schedules()) == []
    await done(source.shutdown())


#: what each user of the guide does
PARTS: dict[str, Callable[..., Awaitable[None]]] = {
    "list-sender": partial(send, mechanism="list"),
    "list-worker": work_on_list,
    "stream-sender": partial(send, mechanism="stream"),
    "stream-worker": work_on_stream,
    "publisher": partial(send, mechanism="pubsub"),
    "subscriber": subscribe,
    "result-writer": store_results,
    "result-reader": read_results,
    "schedule-keys-writer": partial(write_schedules, mechanism="keys"),
    "schedule-keys-scheduler": partial(send_schedules, mechanism="keys"),
    "schedule-writer": partial(write_schedules, mechanism="indexed"),
    "schedule-scheduler": partial(send_schedules, mechanism="indexed"),
}


def maker(topology: Topology, twin: str, **login: Any) -> Make:
    """Return what makes objects of a mechanism that log in as a user."""

    def make(mechanism: str, **options: Any) -> Any:
        kind = getattr(taskiq_redis, f"{twin}{CLASSES[topology.kind][mechanism].__name__}")
        where: list[Any] = [topology.url]
        if topology.kind == "sentinel":
            where = [list(topology.sentinels), topology.master_name]
        return kind(*where, **login, **options)

    return make


async def play(user: str, *arguments: Any) -> None:
    """Do what a user of the guide does; without a right, a listener would try for ever."""
    await asyncio.wait_for(PARTS[user](*arguments), TIMEOUT)


def login(user: str) -> dict[str, str]:
    return {"username": user, "password": PASSWORD}


def create_user(node: Any, user: str, rules: list[str]) -> None:
    node.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *rules)


def refused(topology: Topology, user: str) -> set[str]:
    """Return what a user was not allowed to do, on any node."""
    logs = on_all_nodes(topology, lambda node: node.acl_log())
    entries = [entry for log in logs for entry in log if entry["username"] == user]
    return {entry["object"] for entry in entries} - BY_THE_WAY


@pytest.fixture(params=PARTS)
def user(request: pytest.FixtureRequest) -> str:
    """The name of each user of the guide."""
    name: str = request.param
    return name


def test_the_guide_names_the_users_of_these_tests() -> None:
    assert RULES.keys() - PARTS.keys() == {"everybody", "sentinel-client"}
    assert PARTS.keys() <= RULES.keys()


@pytest.fixture
def permitted(topology: Topology, name: str, user: str) -> Iterator[str]:
    """The prefix or queue of a user who has the rights that the guide lists."""
    # On a cluster, the keys of an indexed source share a slot.
    own = f"{{{name}}}" if user in {"schedule-writer", "schedule-scheduler"} else name
    rules = own_rules(user, name)
    if topology.kind == "cluster":
        rules += RULES["everybody"]
    on_all_nodes(topology, lambda node: create_user(node, name, rules))
    yield own if topology.kind == "cluster" else name
    on_all_nodes(topology, lambda node: node.acl_deluser(name))


async def test_the_rights_are_enough(
    topology: Topology, name: str, permitted: str, twin: str, user: str, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        await play(
            user, maker(topology, twin, **login(name)), permitted, Admin(client_of(topology))
        )
    assert refused(topology, name) == set()
    assert [text for text in caplog.messages if "Added a dead letter" not in text] == []


@pytest.fixture(scope="module")
def private_server() -> Iterator[ServerProcess]:
    """A server that counts the commands of one test at a time."""
    with ServerProcess() as server:
        yield server
        close_client(server.url)


async def test_no_right_is_too_many(
    private_server: ServerProcess, name: str, twin: str, user: str
) -> None:
    topology = private_server.topology
    client = client_of(topology)
    create_user(client, name, ["~*", "&*", "+@all"])
    client.script_flush()
    client.config_resetstat()
    admin = Admin(client)
    await play(user, maker(topology, twin, **login(name)), name, admin)
    calls = {
        command.removeprefix("cmdstat_"): counts["calls"]
        for command, counts in client.info("commandstats").items()
    }
    used = {command for command, count in calls.items() if count > admin.calls[command]}
    if "xackdel" in used:
        used |= {"xack"}  # which it does by itself
    assert used - BY_THE_WAY - {"config|resetstat", "info"} == commands_of(user)


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_the_rights_at_the_sentinels_are_enough(
    topology: Topology, name: str, twin: str
) -> None:
    sentinels = [Redis(host=host, port=port) for host, port in topology.sentinels]
    for sentinel in sentinels:
        create_user(sentinel, name, RULES["sentinel-client"][2:])
    make = maker(topology, twin, sentinel_kwargs=login(name))
    backend = make("results", prefix_str=name)
    await done(backend.set_result("id", result(1)))
    await done(backend.shutdown())
    for sentinel in sentinels:
        assert {entry["object"] for entry in sentinel.acl_log()} <= BY_THE_WAY
        sentinel.acl_deluser(name)
        sentinel.close()
