"""What the log and the results of a worker say about tasks that fail, or that it doesn't know."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from taskiq import AckableMessage, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.kicker import AsyncKicker

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend
from taskiq_redis._core import tracebacks
from tests._aio import TIMEOUT, collect, wait_until
from tests._async.pending import pending_of
from tests._async.support import build, message
from tests.leaks import ARGUMENT
from tests.loops.test_receivers import receiving
from tests.servers import Topology

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


def fail_in_thread(text: str) -> None:
    helper(text)


async def fail(text: str) -> None:
    helper(text)


async def fail_with_cause(text: str) -> None:
    try:
        helper(text)
    except ValueError as error:
        raise KeyError("key") from error


async def end_without_result(text: str) -> None:
    raise NoResultError


async def end_without_error() -> None:
    pass


def helper(text: str) -> None:
    raise ValueError(text)


FAILING = [fail_in_thread, fail, fail_with_cause]


def worker(topology: Topology, mechanism: str, name: str, **options: Any) -> Any:
    """Return a broker of a worker process, with its result backend."""
    broker = build(topology, mechanism, queue_name=name)
    backend: Any = RedisAsyncResultBackend(
        topology.url, prefix_str=name, result_ex_time=60, **options
    )
    broker.is_worker_process = True
    return broker.with_result_backend(backend)


@pytest.mark.parametrize("mechanism", ["stream"])
@pytest.mark.parametrize("known", [True, False])
async def test_log_has_no_long_names_and_no_line_breaks_of_a_message(
    topology: Topology,
    name: str,
    mechanism: str,
    known: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    broker = worker(topology, mechanism, name)
    task_name = "fail" if known else "x\n" * 5000
    broker.register_task(fail, task_name="fail")
    parts = {"task_id": "y\n" * 5000, "task_name": task_name, "labels": {}}
    mark = "'fail' with the id" if known else "is not found"

    async def is_logged() -> bool:
        return mark in caplog.text

    await broker.startup()
    async with receiving(broker):
        await broker.kick(message(json.dumps({**parts, "args": ["text"], "kwargs": {}}).encode()))
        await wait_until(is_logged)
    await broker.shutdown()
    assert not [text for text in caplog.messages if "x\n" in text or "y\n" in text]
    assert max(map(len, caplog.messages)) < 1000


@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_log_names_the_task_that_failed(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = worker(topology, mechanism, name)
    for _ in range(2):
        await broker.startup()
    async with receiving(broker):
        silent = broker.register_task(end_without_result, task_name="silent")
        await silent.kicker().with_task_id("0").kiq("")
        for index, function in enumerate(FAILING, start=1):
            task = broker.register_task(function, task_name=f"m:{function.__code__.co_name}")
            sent = await task.kicker().with_task_id(str(index)).kiq("text")
            result = await sent.wait_result(timeout=TIMEOUT, with_logs=True)
            # Nobody asked for the traceback.
            assert result.is_err
            assert result.log is None
    await broker.shutdown()
    assert [text for text in caplog.messages if "failed" in text] == [
        "The task 'm:fail_in_thread' with the id '1' failed: ValueError.",
        "The task 'm:fail' with the id '2' failed: ValueError.",
        "The task 'm:fail_with_cause' with the id '3' failed: KeyError.",
    ]


async def test_result_has_the_traceback_of_the_worker(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = worker(topology, "list", name, store_tracebacks=True)
    async with receiving(broker):
        for function in FAILING:
            sent = await broker.register_task(function, task_name=function.__code__.co_name).kiq(
                "because"
            )
            result = await sent.wait_result(timeout=TIMEOUT, with_logs=True)
            log = result.log
            assert "Traceback (most recent call last):" in log
            assert f"in {function.__code__.co_name}\n" in log
            assert "in helper\n" in log
            assert "ValueError: because\n" in log
            assert "in run_task" not in log
            assert ("KeyError: 'key'\n" in log) == (function is fail_with_cause)
            assert (await sent.get_result()).log is None
        monkeypatch.setattr(tracebacks, "MAX_LENGTH", 50)
        sent = await broker.register_task(fail, task_name="fail").kiq("x" * 100)
        log = (await sent.wait_result(timeout=TIMEOUT, with_logs=True)).log
        assert log == "...\n" + "x" * 49 + "\n"
    await broker.shutdown()


@pytest.mark.parametrize("mechanism", ["list", "stream"])
async def test_log_says_why_a_task_may_be_unknown(
    topology: Topology, name: str, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = worker(topology, mechanism, name)
    broker.unknown_task_timeout = 0
    await broker.startup()
    async with receiving(broker):
        for _ in range(2):
            await broker.kick(message(unknown_task(broker, f"other:{name}")))

        async def are_dead() -> bool:
            return len(await collect(broker.dead_letters())) == 2

        await wait_until(are_dead)
    assert caplog.text.count("is not found") == 1
    (text,) = [text for text in caplog.messages if "is not declared in this worker" in text]
    assert text == (
        f"The task 'other:{name}' is not declared in this worker, so its messages go back to the "
        "queue for other workers, and become dead letters if none knows it for 0 s. Import its "
        "module in the worker. If another project sent it, both use the queue "
        f"'{name}' on {broker._connection.server}. Give each project a `queue_name` of its own."
    )
    broker.queue_name = "taskiq"
    assert broker.find_task(f"default:{name}") is None
    assert "both use the queue 'taskiq'" in caplog.messages[-1]
    assert "That is the default name. Give each project" in caplog.messages[-1]
    broker.is_worker_process = False
    assert broker.find_task(f"sender:{name}") is None
    assert "sender" not in caplog.text
    await broker.shutdown()


async def test_task_may_look_for_and_send_tasks_of_other_workers(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = worker(topology, "stream", name)
    other, sent = f"other:{name}", list[str]()

    @broker.task(task_name="send")
    async def send() -> None:
        assert broker.find_task(other) is None
        labels = {"queue_name": f"{name}:other", "delay": 100}
        await AsyncKicker[..., Any](other, broker, labels).kiq()
        sent.append(other)

    async def is_sent() -> bool:
        return bool(sent)

    async with receiving(broker):
        await send.kiq()
        await wait_until(is_sent)
    await broker.shutdown()
    assert "is not declared" not in caplog.text


async def test_middleware_may_look_for_tasks_of_other_workers(
    topology: Topology, name: str
) -> None:
    broker = worker(topology, "stream", name)
    looked_for: list[str] = []

    class Looking(TaskiqMiddleware):
        def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
            assert broker.find_task(f"other:{name}") is None
            looked_for.append(message.task_name)

    broker.add_middlewares(Looking())

    async def is_acknowledged() -> bool:
        return looked_for == ["known"] and pending_of(topology, name) == {}

    async with receiving(broker):
        await broker.register_task(end_without_error, task_name="known").kiq()
        await wait_until(is_acknowledged)
    assert await collect(broker.dead_letters()) == []
    await broker.shutdown()


async def test_log_says_that_an_overridden_listen_drops_unknown_tasks(topology: Topology) -> None:
    class Overriding(ListQueueBroker):
        async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
            async for data in super().listen():
                yield data

    assert Overriding(topology.url)._outcome_of_unknown_tasks() == "taskiq drops its messages"


def unknown_task(broker: Any, task_name: str) -> bytes:
    """Return the message of a task of another project."""
    prepared = broker.register_task(fail, task_name="x").kicker()
    prepared.task_name = task_name
    data: bytes = broker.formatter.dumps(prepared._prepare_message(ARGUMENT)).message
    return data
