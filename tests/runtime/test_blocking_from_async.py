"""The blocking classes in threads of an asynchronous program, on any event loop."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from taskiq import AckableMessage, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis import (
    SyncBroker,
    SyncListQueueBroker,
    SyncRedisAsyncResultBackend,
    SyncRedisStreamBroker,
)
from taskiq_redis._taskiq.portal import stop_portal
from tests.servers import Topology
from tests.waiting import TIMEOUT

T = TypeVar("T")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


BROKERS: dict[str, Callable[..., SyncBroker]] = {
    "list": SyncListQueueBroker,
    "stream": partial(SyncRedisStreamBroker, xread_block=200),
}


@pytest.fixture
def anyio_backend(any_backend: Any) -> Any:
    return any_backend


async def in_thread(call: Callable[[], T]) -> T:
    """Run blocking code in a thread, as such a program does."""
    with anyio.fail_after(TIMEOUT):
        return await to_thread.run_sync(call)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, topology: Topology, name: str) -> Iterator[SyncBroker]:
    backend: SyncRedisAsyncResultBackend[Any] = SyncRedisAsyncResultBackend(
        topology.url, prefix_str=name
    )
    made = BROKERS[request.param](topology.url, queue_name=name).with_result_backend(backend)
    yield made
    made.shutdown()
    stop_portal()


def work(broker: SyncBroker, count: int) -> list[str]:
    """Process `count` messages as a worker does; the task doubles its argument."""
    done: list[str] = []
    messages = broker.listen()
    try:
        while len(done) < count:
            received = next(messages)
            data = received.data if isinstance(received, AckableMessage) else received
            task = broker.formatter.loads(data)
            broker.result_backend.set_progress(task.task_id, TaskProgress(state="half", meta=None))
            result: TaskiqResult[Any] = TaskiqResult(
                is_err=False, return_value=task.args[0] * 2, execution_time=0.1
            )
            broker.result_backend.set_result(task.task_id, result)
            if isinstance(received, AckableMessage):
                received.ack()
            done.append(task.task_id)
    finally:
        messages.close()
    return done


@pytest.mark.smoke
async def test_task_is_sent_processed_and_its_result_read(broker: SyncBroker) -> None:
    sent = await in_thread(lambda: broker.kicker("double").kiq(21))
    assert not await in_thread(sent.is_ready)
    assert await in_thread(lambda: work(broker, 1)) == [sent.task_id]
    result = await in_thread(lambda: sent.wait_result(timeout=TIMEOUT))
    assert result.return_value == 42
    progress = await in_thread(sent.get_progress)
    assert progress is not None
    assert progress.state == "half"


async def test_many_threads_share_a_broker(broker: SyncBroker) -> None:
    results: list[int] = []

    async def send(number: int) -> None:
        task = await in_thread(lambda: broker.kicker("double").kiq(number))
        result = await in_thread(lambda: task.wait_result(check_interval=0.01, timeout=TIMEOUT))
        results.append(result.return_value)

    async with anyio.create_task_group() as group:
        group.start_soon(in_thread, lambda: work(broker, 12))
        for number in range(12):
            group.start_soon(send, number)
    assert sorted(results) == [2 * number for number in range(12)]


async def test_event_loop_runs_while_a_thread_waits(broker: SyncBroker) -> None:
    done: list[str] = []

    async def listen() -> None:
        done.extend(await in_thread(lambda: work(broker, 1)))

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        # The worker waits for a message; meanwhile the loop runs other tasks.
        for _ in range(5):
            await anyio.sleep(0.001)
        assert done == []
        task = await in_thread(lambda: broker.kicker("double").kiq(1))
    assert done == [task.task_id]


@pytest.mark.smoke
async def test_shutdown_ends_the_listening_thread(broker: SyncBroker) -> None:
    started = threading.Event()
    ended: list[list[Any]] = []

    def listen() -> list[Any]:
        started.set()
        return list(broker.listen())

    async def run() -> None:
        ended.append(await in_thread(listen))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await in_thread(lambda: started.wait(TIMEOUT))
        await in_thread(broker.shutdown)
    assert ended == [[]]


class AsyncHooks(TaskiqMiddleware):
    """Hooks that await something, on a separate event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        await anyio.lowlevel.checkpoint()
        self.ran.append("pre_send")
        message.labels["marked"] = "yes"
        return message

    async def post_send(self, message: TaskiqMessage) -> None:
        await anyio.lowlevel.checkpoint()
        self.ran.append("post_send")


async def test_async_hooks_run_on_a_separate_loop(broker: SyncBroker) -> None:
    hooks = AsyncHooks()
    broker.add_middlewares(hooks)
    await in_thread(lambda: broker.kicker("double").kiq(1))
    assert hooks.ran == ["pre_send", "post_send"]

    def receive() -> Any:
        messages = broker.listen()
        received = next(messages)
        messages.close()
        data = received.data if isinstance(received, AckableMessage) else received
        return broker.formatter.loads(data).labels

    assert (await in_thread(receive))["marked"] == "yes"


async def test_result_backend_works_without_a_broker(topology: Topology, name: str) -> None:
    backend: SyncRedisAsyncResultBackend[int] = SyncRedisAsyncResultBackend(topology.url)

    def store(number: int) -> None:
        result: TaskiqResult[int] = TaskiqResult(
            is_err=False, return_value=number, execution_time=0
        )
        backend.set_result(f"{name}{number}", result)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(in_thread, lambda number=number: store(number))
    ids = [f"{name}{number}" for number in range(9)]
    results = await in_thread(lambda: backend.get_results(ids))
    assert [results[key].return_value for key in ids[:8]] == list(range(8))
    assert ids[8] not in results
    await in_thread(backend.shutdown)
