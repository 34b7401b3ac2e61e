"""Tasks that fail for good in taskiq's receiver become dead letters, with `keep_failed`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from taskiq import (
    BrokerMessage,
    Context,
    ScheduleSource,
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqDepends,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.exceptions import NoResultError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis import DeadLetter, ListQueueBroker
from taskiq_redis._async.brokers import list_queue
from taskiq_redis._core.keys import dead_letters_key
from taskiq_redis._taskiq.failed_tasks import TaskRun
from tests._aio import collect, wait_until
from tests._async.pending import pending_of
from tests._async.signers import SIGNER
from tests._async.support import build, length, redis_of, result
from tests.loops.support import until
from tests.loops.test_receivers import PoolReceiver, WrappedMessages, receiving
from tests.servers import ServerProcess, Topology, client_of, close_client

pytestmark = pytest.mark.anyio

each_mechanism = pytest.mark.parametrize("mechanism", ["stream", "list"])
on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)
ACK_TYPES = ("when_received", "when_executed", "when_saved", "manual")


class Worker:
    """A worker with tasks that fail; it notes what they do.

    Args:
        broker: its broker.
    """

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.runs: list[str] = []
        self.results: dict[str, TaskiqResult[Any]] = {}
        broker.result_backend.set_result = self._set_result

        async def run(how: str = "raise", context: Context = TaskiqDepends()) -> str:
            return await self._run(how, context)

        self.task = broker.register_task(run, task_name="failing")

    async def _set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        self.results[task_id] = result

    async def _run(self, how: str, context: Context) -> str:
        self.runs.append(context.message.task_id)
        if "ack" in how:
            await context.ack()
        if "raise" in how:
            raise ValueError("a reason")
        if "no result" in how:
            raise NoResultError
        if "cancel" in how:
            raise asyncio.CancelledError
        if "wait" in how:
            await asyncio.sleep(3600)
        return how

    async def send(self, task_id: str, how: str = "raise", **labels: Any) -> None:
        await self.task.kicker().with_task_id(task_id).with_labels(**labels).kiq(how)

    async def until_run(self, *task_ids: str) -> None:
        """Wait until these tasks, and no others, have results."""
        await until(lambda: self.results.keys() == set(task_ids))

    async def letters(self, count: int = 1) -> list[DeadLetter]:
        """Wait until there are `count` dead letters, and return them."""

        async def has_letters() -> bool:
            return len(await collect(self.broker.dead_letters())) >= count

        await wait_until(has_letters)
        found: list[DeadLetter] = await collect(self.broker.dead_letters())
        assert len(found) == count
        return found

    async def kept(self, count: int) -> set[str]:
        """Wait until there are `count` dead letters, and return the IDs of their tasks."""
        return {self.task_of(letter).task_id for letter in await self.letters(count)}

    def task_of(self, letter: DeadLetter) -> TaskiqMessage:
        """Return the task in a dead letter."""
        message: TaskiqMessage = self.broker.formatter.loads(letter.data)
        return message


@pytest.fixture(autouse=True)
def _short_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lists be popped for a shorter time, which the end of a worker waits for."""
    monkeypatch.setattr(list_queue, "POP_WAIT", 0.1)


@asynccontextmanager
async def working(
    broker: Any, *middlewares: TaskiqMiddleware, **options: Any
) -> AsyncIterator[Worker]:
    """Run a worker in this process."""
    broker.is_worker_process = True
    worker = Worker(broker.with_middlewares(*middlewares))
    await broker.startup()
    try:
        async with receiving(broker, max_async_tasks=5, **options):
            yield worker
    finally:
        await broker.shutdown()


def failing(topology: Topology, mechanism: str, name: str, **options: Any) -> Any:
    """Build a broker that keeps failed tasks."""
    return build(topology, mechanism, queue_name=name, keep_failed=True, **options)


async def until_drained(topology: Topology, mechanism: str, name: str) -> None:
    """Wait until no message is left in the queue."""
    await until(lambda: length(topology, mechanism, name) == 0)


@each_mechanism
async def test_failed_task_becomes_a_dead_letter_and_can_be_sent_again(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = failing(topology, mechanism, name).with_signer(SIGNER)
    async with working(broker) as worker:
        await worker.send("good", "return")
        await worker.send("bad")
        (letter,) = await worker.letters()
        message = worker.task_of(letter)
        assert (message.task_name, message.task_id) == ("failing", "bad")
        assert (letter.queue_name, letter.deliveries) == (name, 0)
        assert letter.reason == "its last run raised ValueError"
        assert letter.error == "ValueError: a reason"
        assert letter.traceback is not None
        assert letter.traceback.startswith("Traceback (most recent call last):\n")
        assert "raise ValueError(" in letter.traceback
        assert "taskiq/receiver" not in letter.traceback
        if mechanism == "stream":
            assert (letter.group, letter.consumer) == ("taskiq", broker.consumer_name)
        await worker.until_run("good", "bad")
        # Who waits for the result gets the error of the task.
        assert isinstance(worker.results["bad"].error, ValueError)
        await until_drained(topology, mechanism, name)
        # The dead letter has its signature, so it is run again.
        assert await broker.requeue_dead_letters() == 1
        await until(lambda: worker.runs.count("bad") == 2)
        await worker.letters()
    assert f"the queue {name!r}: the task 'failing' with the id 'bad' is not run" in caplog.text
    assert "id 'good'" not in caplog.text


@each_mechanism
async def test_failed_task_is_kept_whenever_it_is_acknowledged(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with working(failing(topology, mechanism, name)) as worker:
        for ack_type in ACK_TYPES:
            await worker.send(f"good {ack_type}", "ack and return", ack_type=ack_type)
            await worker.send(f"bad {ack_type}", "raise", ack_type=ack_type)
            await worker.send(f"worse {ack_type}", "ack and raise", ack_type=ack_type)
        expected = {f"{what} {ack_type}" for what in ("bad", "worse") for ack_type in ACK_TYPES}
        if mechanism == "stream":
            # It isn't acknowledged, so it is delivered again.
            expected.remove("bad manual")
        assert await worker.kept(len(expected)) == expected
        await until(lambda: len(worker.results) == 3 * len(ACK_TYPES))
        if mechanism == "stream":
            await until(lambda: len(pending_of(topology, name)) == 1)
    assert redis_of(topology).xlen(dead_letters_key(name)) == len(expected)


@on_one_server
@each_mechanism
async def test_task_without_result_is_no_failure_and_a_cancelled_one_is(
    topology: Topology, name: str, mechanism: str
) -> None:
    async with working(failing(topology, mechanism, name)) as worker:
        await worker.send("good", "return")
        await worker.send("no result", "no result")
        await worker.send("cancelled", "cancel")
        await worker.send("late", "wait", timeout=0.01)
        await worker.send("last", "raise")
        letters = await worker.letters(3)
        assert {worker.task_of(each).task_id: each.error for each in letters} == {
            "cancelled": "asyncio.exceptions.CancelledError",
            "late": "TimeoutError",
            "last": "ValueError: a reason",
        }


class Schedules(ScheduleSource):
    """A source that sends what is added to it at once, like a scheduler."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    async def get_schedules(self) -> list[ScheduledTask]:
        return []

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        task = TaskiqMessage(
            task_id=schedule.task_id or "",
            task_name=schedule.task_name,
            labels=schedule.labels,
            args=schedule.args,
            kwargs=schedule.kwargs,
        )
        # Not in the context of the run that has failed.
        sending = asyncio.ensure_future(self._broker.kick(self._broker.formatter.dumps(task)))
        await sending


def simple(broker: Any) -> TaskiqMiddleware:
    return SimpleRetryMiddleware()


def smart(broker: Any) -> TaskiqMiddleware:
    return SmartRetryMiddleware(default_delay=0.01)


def scheduling(broker: Any) -> TaskiqMiddleware:
    return SmartRetryMiddleware(default_delay=0.01, schedule_source=Schedules(broker))


@on_one_server
@pytest.mark.parametrize(
    ("make", "mechanism"),
    [(simple, "stream"), (smart, "stream"), (scheduling, "stream"), (scheduling, "list")],
)
async def test_only_the_last_attempt_becomes_a_dead_letter(
    topology: Topology, name: str, mechanism: str, make: Callable[[Any], Any]
) -> None:
    broker = failing(topology, mechanism, name)
    middleware = make(broker)
    async with working(broker, middleware) as worker:
        expected = set[str]()
        for no_result in (True, False):
            middleware.no_result_on_retry = no_result
            for ack_type in ("when_received", "when_saved"):
                labels: Any = {"retry_on_error": True, "max_retries": 3, "ack_type": ack_type}
                await worker.send(f"bad {no_result} {ack_type}", **labels)
                await worker.send(f"other {no_result} {ack_type}", retry_on_error=False)
                expected |= {f"{what} {no_result} {ack_type}" for what in ("bad", "other")}
            assert await worker.kept(len(expected)) == expected
        runs = {task_id: worker.runs.count(task_id) for task_id in expected}
        assert runs == {task_id: 3 if "bad" in task_id else 1 for task_id in expected}


class Raising(TaskiqMiddleware):
    """Raises once for each task, in the hook that its ID begins with."""

    def __init__(self) -> None:
        super().__init__()
        self._has_raised: set[str] = set()

    def _raise(self, hook: str, message: TaskiqMessage) -> None:
        task_id = message.task_id
        if task_id.startswith(hook) and task_id not in self._has_raised:
            self._has_raised.add(task_id)
            raise RuntimeError("as it should")

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self._raise("pre_execute", message)
        return message

    def on_error(self, message: TaskiqMessage, result: Any, exception: BaseException) -> None:
        self._raise("on_error", message)

    def post_execute(self, message: TaskiqMessage, result: Any) -> None:
        self._raise("post_execute", message)

    def post_save(self, message: TaskiqMessage, result: Any) -> None:
        self._raise("post_save", message)


@on_one_server
@each_mechanism
async def test_failed_task_is_kept_once_if_another_middleware_raises(
    topology: Topology, name: str, mechanism: str
) -> None:
    # asyncio reports what a receiver's task raises, which anyio's test runner would raise.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    # Messages are handed back after a third of this time, and delivered again.
    options = {"idle_timeout": 3000} if mechanism == "stream" else {}
    async with working(failing(topology, mechanism, name, **options), Raising()) as worker:
        expected = set[str]()
        for hook in ("pre_execute", "on_error", "post_execute", "post_save"):
            for ack_type in ("when_received", "when_executed", "when_saved"):
                await worker.send(f"{hook} {ack_type}", ack_type=ack_type)
                expected.add(f"{hook} {ack_type}")
        letters = await worker.letters(len(expected))
        errors = {worker.task_of(letter).task_id: letter.error for letter in letters}
        assert errors.keys() == expected
        # A message in a stream is run again, and fails then.
        early = {errors.pop(each) for each in expected if "pre_execute" in each}
        lost = "RuntimeError: as it should"
        assert early == {lost if mechanism == "list" else "ValueError: a reason"}
        assert set(errors.values()) == {"ValueError: a reason"}
        await until_drained(topology, mechanism, name)
    assert redis_of(topology).xlen(dead_letters_key(name)) == len(expected)


class Recovering(TaskiqMiddleware):
    """Replaces errors by results."""

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        result.is_err, result.error, result.return_value = False, None, "recovered"


@on_one_server
async def test_error_that_a_middleware_handles_is_no_failure(topology: Topology, name: str) -> None:
    async with working(failing(topology, "stream", name), Recovering()) as worker:
        await worker.send("bad")
        await worker.until_run("bad")
        await until_drained(topology, "stream", name)
        assert await collect(worker.broker.dead_letters()) == []


@on_one_server
@each_mechanism
async def test_failed_task_is_not_kept_by_default(
    topology: Topology, name: str, mechanism: str
) -> None:
    broker = build(topology, mechanism, queue_name=name)
    async with working(broker) as worker:
        await worker.send("bad")
        await worker.until_run("bad")
        await until_drained(topology, mechanism, name)
        assert await collect(broker.dead_letters()) == []


async def test_failed_task_is_kept_beside_its_own_stream(topology: Topology, name: str) -> None:
    other = f"{name}:other"
    broker = failing(topology, "stream", name, additional_streams={other: ">"})
    async with working(broker) as worker:
        await worker.send("bad", queue_name=other)
        await until(lambda: redis_of(topology).xlen(dead_letters_key(other)) == 1)
        (letter,) = await collect(broker.dead_letters(queue_name=other))
        assert (letter.queue_name, letter.error) == (other, "ValueError: a reason")
        assert await collect(broker.dead_letters()) == []
        await until_drained(topology, "stream", other)


@on_one_server
@pytest.mark.parametrize("kind", [WrappedMessages, None])
async def test_failed_task_is_kept_if_other_code_handles_messages(
    topology: Topology, name: str, kind: Any
) -> None:
    if kind is None:
        broker, options = failing(topology, "stream", name), {"kind": PoolReceiver}
    else:
        broker, options = kind(topology.url, name, keep_failed=True, xread_block=200), {}
    async with working(broker, **options) as worker:
        for task_id in ("good", "bad", "better", "worse"):
            await worker.send(task_id, "raise" if task_id in {"bad", "worse"} else "return")
        assert await worker.kept(2) == {"bad", "worse"}
        await until_drained(topology, "stream", name)


class OddError(Exception):
    """An exception that can't be printed."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError("x" * 100_000), "ValueError: xxx"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (OddError(), "OddError: <exception str() failed>"),
    ],
)
def test_error_and_traceback_are_bounded_and_always_text(error: Exception, described: str) -> None:
    run = TaskRun()
    with pytest.raises(type(error)) as caught:
        raise error
    run.record(result(None, is_err=True, error=error), caught.value)
    failure = run.failure()
    assert failure is not None
    assert described in failure.error
    assert len(failure.error.encode()) < 1100
    assert len(failure.traceback.encode()) < 20_100


class ReversedList(ListQueueBroker):
    """Stores messages in another form, as a subclass does that encrypts them."""

    async def kick(self, message: BrokerMessage) -> None:
        await super().kick(message.model_copy(update={"message": message.message[::-1]}))

    async def listen(self) -> AsyncGenerator[Any, None]:
        async for received in super().listen():
            assert isinstance(received, bytes)
            yield received[::-1]


@on_one_server
async def test_subclass_that_overrides_listen_of_a_list_gets_bytes(
    topology: Topology, name: str
) -> None:
    async with working(ReversedList(topology.url, queue_name=name, keep_failed=True)) as worker:
        await worker.send("good", "return")
        await worker.send("bad")
        await worker.until_run("good", "bad")


@on_one_server
async def test_entry_that_was_deleted_meanwhile_is_kept_too(topology: Topology, name: str) -> None:
    broker = failing(topology, "stream", name)
    async with working(broker) as worker:
        release = asyncio.Event()

        async def wait_and_fail() -> None:
            await release.wait()
            raise ValueError("a reason")

        await broker.register_task(wait_and_fail, task_name="waits").kiq()
        await until(lambda: bool(pending_of(topology, name)))
        redis_of(topology).xtrim(name, maxlen=0)
        release.set()
        (letter,) = await worker.letters()
        assert worker.task_of(letter).task_name == "waits"


@on_one_server
async def test_failed_task_is_acknowledged_if_redis_refuses_its_dead_letter(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of(topology).set(dead_letters_key(name), "another type")
    broker = failing(topology, "stream", name)
    async with working(broker) as worker:
        await worker.send("bad")
        await worker.send("worse")
        await worker.until_run("bad", "worse")
        await until_drained(topology, "stream", name)
        assert not pending_of(topology, name)
    assert sorted(worker.runs) == ["bad", "worse"]
    assert caplog.text.count("are acknowledged without becoming dead letters: ") == 1


@pytest.mark.full
@each_mechanism
async def test_dead_letter_is_added_when_redis_accepts_writes_again(
    name: str, mechanism: str
) -> None:
    with ServerProcess() as server:
        client = client_of(server.topology)
        async with working(failing(server.topology, mechanism, name)) as worker:
            release = asyncio.Event()

            async def wait_and_fail() -> None:
                worker.runs.append("waits")
                await release.wait()
                raise ValueError("a reason")

            await broker_task(worker, wait_and_fail).kiq()
            await until(lambda: worker.runs)
            client.config_set("maxmemory", 1)
            client.config_resetstat()
            release.set()
            # One may be NOSCRIPT. Redis 6.2 counts OOM in a script under another name.
            await until(lambda: sum(e["count"] for e in client.info("errorstats").values()) > 2)
            assert client.xlen(dead_letters_key(name)) == 0
            client.config_set("maxmemory", 0)
            (letter,) = await worker.letters()
            assert letter.error == "ValueError: a reason"
            await until_drained(server.topology, mechanism, name)
            assert worker.runs == ["waits"]
        close_client(server.topology)


def broker_task(worker: Worker, function: Any) -> Any:
    """Declare a further task of a worker."""
    return worker.broker.register_task(function, task_name="waits")
