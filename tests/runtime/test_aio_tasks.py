"""Primitives that need tasks of asyncio: BackgroundTask, Queue, cancellable, run_shielded."""

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from taskiq_redis._core.redis_errors import UnsentError, was_not_executed
from taskiq_redis._drivers.aio import as_connection_loss
from taskiq_redis._runtime.aio import (
    BackgroundTask,
    Event,
    Queue,
    WorkerThread,
    current_owner,
    on_task_done,
)
from tests.waiting import TIMEOUT, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(asyncio_backend: Any) -> Any:
    return asyncio_backend


async def until(condition: Callable[[], Any]) -> None:
    """Let other tasks run until a condition is true."""
    with anyio.fail_after(TIMEOUT):
        while not condition():
            await asyncio.sleep(0)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# --- BackgroundTask ------------------------------------------------------------------------------


@pytest.mark.smoke
async def test_background_task_runs_concurrently() -> None:
    seen: list[str] = []

    async def run(stopping: Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append(task.get_name())
        await stopping.wait()

    background = BackgroundTask(run, "the-name")
    assert seen == []
    background.start()
    await until(lambda: seen)
    assert seen == ["the-name"]
    await background.stop()


@pytest.mark.smoke
async def test_stop_sets_the_event_interrupts_and_waits() -> None:
    ends: list[str] = []
    begun = anyio.Event()

    async def run(stopping: Event) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ends.append(f"interrupted {stopping.is_set()}")
            await asyncio.sleep(0.001)
            ends.append("over")
            raise

    background = BackgroundTask(run, "it")
    background.start()
    await begun.wait()
    with anyio.fail_after(TIMEOUT):
        await background.stop()
        assert ends == ["interrupted True", "over"]
        await background.stop()


async def test_background_task_can_be_stopped_without_start() -> None:
    async def run(stopping: Event) -> None:
        pytest.fail("it was not started")

    await BackgroundTask(run, "it").stop()


async def test_background_task_can_be_stopped_before_it_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(stopping: Event) -> None:
        await stopping.wait()

    background = BackgroundTask(run, "it")
    background.start()
    await background.stop()
    assert not caplog.records


@pytest.mark.smoke
async def test_error_of_background_task_is_logged_with_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = anyio.Event()

    async def run(stopping: Event) -> None:
        begun.set()
        raise ZeroDivisionError("by zero")

    background = BackgroundTask(run, "taskiq-redis-thing")
    background.start()
    await begun.wait()
    await background.stop()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("taskiq_redis", logging.ERROR)
    assert record.getMessage() == "taskiq-redis-thing failed."
    assert "by zero" in str(record.exc_info)


async def test_error_of_background_task_is_logged_before_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(stopping: Event) -> None:
        raise ZeroDivisionError

    background = BackgroundTask(run, "it")
    background.start()
    await until(lambda: caplog.records)
    logged = messages(caplog)
    await background.stop()
    assert logged == ["it failed."]


async def test_error_during_stop_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = anyio.Event()

    async def run(stopping: Event) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        raise ZeroDivisionError

    background = BackgroundTask(run, "it")
    background.start()
    await begun.wait()
    await background.stop()
    assert messages(caplog) == ["it failed."]


async def test_background_task_outlives_the_task_that_started_it() -> None:
    seen: list[str] = []

    async def run(stopping: Event) -> None:
        seen.append("begun")
        await stopping.wait()
        seen.append("ended")

    background = BackgroundTask(run, "it")

    async def start() -> None:
        background.start()

    async with anyio.create_task_group() as group:
        group.start_soon(start)
    await until(lambda: seen)
    gc.collect()
    assert seen == ["begun"]
    async with anyio.create_task_group() as group:
        group.start_soon(background.stop)
    assert background._task is not None
    assert background._task.done()


# --- Queue ---------------------------------------------------------------------------------------


@pytest.mark.smoke
async def test_queue_is_first_in_first_out() -> None:
    queue: Queue[int] = Queue(3)
    for item in range(3):
        await queue.put(item)
    assert [await queue.get(TIMEOUT) for _ in range(3)] == [0, 1, 2]


async def test_put_waits_while_the_queue_is_full() -> None:
    queue: Queue[int] = Queue(1)
    done: list[int] = []

    async def put(item: int) -> None:
        await queue.put(item)
        done.append(item)

    async with anyio.create_task_group() as group:
        for item in range(3):
            group.start_soon(put, item)
        await anyio.wait_all_tasks_blocked()
        assert done == [0]
        for item in range(3):
            assert await queue.get(TIMEOUT) == item
        await until(lambda: done == [0, 1, 2])


@pytest.mark.smoke
@pytest.mark.parametrize("timeout", [0, 0.001])
async def test_get_from_empty_queue_times_out(timeout: float) -> None:
    queue: Queue[int] = Queue(1)
    with anyio.fail_after(TIMEOUT):
        assert await queue.get(timeout) is None
    await queue.put(1)
    assert await queue.get(TIMEOUT) == 1


async def test_waiting_get_returns_the_next_item() -> None:
    queue: Queue[str] = Queue(1)
    got: list[str | None] = []

    async def get() -> None:
        got.append(await queue.get(TIMEOUT))

    async with anyio.create_task_group() as group:
        group.start_soon(get)
        await anyio.wait_all_tasks_blocked()
        await queue.put("item")
    assert got == ["item"]


async def test_item_is_not_lost_if_get_is_cancelled_as_it_is_put() -> None:
    queue: Queue[int] = Queue(1)
    for item in range(50):
        reader = asyncio.ensure_future(queue.get(TIMEOUT))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await queue.put(item)
        reader.cancel()
        (got,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(got, BaseException):
            got = await queue.get(TIMEOUT)
        assert got == item


async def test_closed_queue_still_returns_its_items() -> None:
    queue: Queue[int] = Queue(1)
    await queue.put(1)
    queue.close()
    assert await queue.get(TIMEOUT) == 1


async def test_owner_changes_with_the_loop() -> None:
    async def owner() -> object:
        return current_owner()

    other = await anyio.to_thread.run_sync(lambda: asyncio.run(owner()))
    assert other is not None
    assert other is not current_owner()


@pytest.mark.parametrize("outcome", ["ends", "fails", "is cancelled"])
async def test_on_task_done_reports_success_or_failure(outcome: str) -> None:
    reported: list[tuple[bool, bool]] = []

    async def run() -> None:
        on_task_done(lambda failed, cancelled: reported.append((failed, cancelled)))
        if outcome == "fails":
            raise ValueError("as it should")
        if outcome == "is cancelled":
            await asyncio.sleep(60)

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    assert reported == []
    task.cancel() if outcome == "is cancelled" else None
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert reported == [(outcome != "ends", outcome == "is cancelled")]
    # The callback must not mark the exception as retrieved.
    assert outcome == "is cancelled" or (task.exception() is not None) == (outcome == "fails")


async def test_worker_thread_runs_while_the_loop_is_blocked() -> None:
    rounds: list[int] = []

    async def count(stopping: Event) -> None:
        while not await stopping.wait(0.01):
            rounds.append(threading.get_ident())

    thread = WorkerThread(count, "counting")
    thread.start()
    wait_until(lambda: len(rounds) >= 3)  # blocks the event loop
    assert set(rounds) != {threading.get_ident()}
    await thread.stop()
    rounds_at_stop = len(rounds)
    await asyncio.sleep(0.1)
    assert len(rounds) == rounds_at_stop


async def test_worker_thread_interrupted_before_start_ends() -> None:
    ended: list[bool] = []

    async def run(stopping: Event) -> None:
        ended.append(await stopping.wait(60))

    thread = WorkerThread(run, "short")
    thread.interrupt()
    thread.start()
    await thread.stop()
    assert ended == [True]
    thread.interrupt()


async def test_worker_thread_ends_when_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # At exit, on Python 3.12.
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    async def run(stopping: Event) -> None:
        # As connecting to a host name does.
        await asyncio.to_thread(int)
        monkeypatch.setattr(threading.Thread, "start", refuse)

    thread = WorkerThread(run, "last")
    thread.start()
    await thread.stop()
    assert caplog.messages == []


async def test_error_in_worker_thread_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(stopping: Event) -> None:
        raise ValueError("as it should")

    thread = WorkerThread(fail, "failing")
    thread.start()
    await thread.stop()
    assert "failing failed." in caplog.text
    assert "as it should" in caplog.text


async def close_at_once(_: Any, to_client: asyncio.StreamWriter) -> None:
    to_client.close()
    await to_client.wait_closed()


async def test_write_to_closed_connection_is_a_connection_loss() -> None:
    async with await asyncio.start_server(close_at_once, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        # Whether it raises, depends on the version of Python.
        try:
            writer.writelines([b"a", b"b"])
        except TypeError as error:
            loss = as_connection_loss(error)
            assert loss is not None
            assert was_not_executed(loss)
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    with pytest.raises(TypeError) as caught:
        len(3)  # type: ignore[arg-type]
    assert as_connection_loss(caught.value) is None


def test_write_to_closed_uvloop_connection_is_a_connection_loss() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def write() -> UnsentError | None:
        async with await asyncio.start_server(close_at_once, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await reader.read()
            writer.close()
            await writer.wait_closed()
            with pytest.raises(RuntimeError, match="closed") as caught:
                writer.writelines([b"a", b"b"])
            return as_connection_loss(caught.value)

    loop = uvloop.new_event_loop()
    loss = loop.run_until_complete(write())
    loop.close()
    assert loss is not None
    assert was_not_executed(loss)
    assert as_connection_loss(RuntimeError()) is None
