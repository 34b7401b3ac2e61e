"""The primitives for threads: Event, Semaphore, Queue, BackgroundTask, run_shielded, sleep."""

import contextvars
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskiq_redis._runtime import blocking
from taskiq_redis._runtime.blocking import (
    BackgroundTask,
    Event,
    Queue,
    Semaphore,
    cancellable,
    current_owner,
    is_owner_gone,
    no_loop,
    run_shielded,
    sleep,
)
from tests._threads import Running, together, wait_until
from tests.waiting import TIMEOUT


def is_waiting(thread: threading.Thread) -> bool:
    """Return whether a thread is still alive, and therefore waiting."""
    thread.join(0.01)
    return thread.is_alive()


# --- Event, sleep --------------------------------------------------------------------------------


@pytest.mark.smoke
def test_event_wakes_all_waiters() -> None:
    event = Event()

    def set_event() -> bool:
        event.set()
        return True

    waits: list[Callable[[], bool]] = [lambda: event.wait(None), lambda: event.wait(TIMEOUT)]
    assert together(*waits, *waits, set_event) == [True] * 5
    assert event.is_set()


@pytest.mark.smoke
@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_wait_for_event_times_out(timeout: float) -> None:
    event = Event()
    assert not event.wait(timeout)
    assert not event.is_set()
    event.set()
    event.set()
    assert event.wait(timeout)


def test_sleep_waits() -> None:
    begin = time.monotonic()
    sleep(0)
    sleep(0.02)
    assert time.monotonic() - begin >= 0.015


def test_owner_is_the_process() -> None:
    assert current_owner() == os.getpid()
    assert together(current_owner) == [current_owner()]
    assert current_owner() != no_loop()
    assert not is_owner_gone(current_owner())
    assert is_owner_gone(os.getppid())


# --- Semaphore -------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_semaphore_admits_its_limit_at_a_time() -> None:
    semaphore = Semaphore(3)
    inside: list[int] = []
    most: list[int] = []
    full = threading.Barrier(3)

    def enter(number: int) -> int:
        with semaphore:
            inside.append(number)
            most.append(len(inside))
            # Passes only when three threads are inside at once.
            full.wait(TIMEOUT)
            inside.remove(number)
        return number

    calls = [lambda number=number: enter(number) for number in range(9)]
    assert together(*calls) == list(range(9))
    assert max(most) == 3


def test_semaphore_is_released_after_error() -> None:
    semaphore = Semaphore(1)
    with pytest.raises(ZeroDivisionError), semaphore:
        raise ZeroDivisionError
    with semaphore:
        pass


# --- Queue -------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_queue_is_first_in_first_out() -> None:
    queue: Queue[int] = Queue(3)
    for item in range(3):
        queue.put(item)
    assert [queue.get(TIMEOUT) for _ in range(3)] == [0, 1, 2]


def test_put_waits_while_the_queue_is_full() -> None:
    queue: Queue[int] = Queue(1)
    queue.put(0)
    writer = threading.Thread(target=queue.put, args=(1,))
    writer.start()
    assert is_waiting(writer)
    assert queue.get(TIMEOUT) == 0
    writer.join(TIMEOUT)
    assert not writer.is_alive()
    assert queue.get(TIMEOUT) == 1


@pytest.mark.smoke
@pytest.mark.parametrize("timeout", [0, 0.001])
def test_get_from_empty_queue_times_out(timeout: float) -> None:
    queue: Queue[int] = Queue(1)
    assert queue.get(timeout) is None


def test_waiting_get_returns_the_next_item() -> None:
    queue: Queue[str] = Queue(1)
    got: list[str | None] = []
    with Running(lambda: got.append(queue.get(TIMEOUT))):
        queue.put("item")
    assert got == ["item"]


def test_queue_loses_and_duplicates_nothing_among_threads() -> None:
    queue: Queue[int] = Queue(2)
    got: list[int] = []

    def write(first: int) -> None:
        for item in range(first, first + 100):
            queue.put(item)

    def read() -> None:
        for _ in range(100):
            item = queue.get(TIMEOUT)
            assert item is not None
            got.append(item)

    writers = [lambda first=first: write(first) for first in range(0, 400, 100)]
    together(*writers, *[read] * 4)
    assert sorted(got) == list(range(400))


@pytest.mark.smoke
def test_close_unblocks_waiting_writers() -> None:
    queue: Queue[int] = Queue(1)
    queue.put(0)
    with Running(lambda: queue.put(1)):
        queue.close()
    queue.put(2)
    assert [queue.get(TIMEOUT) for _ in range(3)] == [0, 1, 2]


# --- BackgroundTask ----------------------------------------------------------------------------------


@pytest.mark.smoke
def test_background_task_runs_in_a_daemon_thread() -> None:
    seen: list[Any] = []
    begun = threading.Event()

    def run(stopping: Event) -> None:
        thread = threading.current_thread()
        seen.extend([thread.name, thread.daemon, stopping.is_set()])
        begun.set()
        seen.append(stopping.wait(TIMEOUT))

    background = BackgroundTask(run, "taskiq-redis-thing")
    background.start()
    assert begun.wait(TIMEOUT)
    background.stop()
    assert seen == ["taskiq-redis-thing", True, False, True]
    background.stop()


def test_background_task_can_be_stopped_without_start() -> None:
    BackgroundTask(lambda stopping: pytest.fail("it was not started"), "it").stop()


def test_background_task_can_be_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may stop it during `start`."""
    start, stopping_was_set = threading.Thread.start, list[bool]()
    background = BackgroundTask(lambda stopping: stopping_was_set.append(stopping.is_set()), "it")

    def interrupted_start(thread: threading.Thread) -> None:
        background.stop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    background.start()
    wait_until(lambda: stopping_was_set)
    assert stopping_was_set == [True]


@pytest.mark.smoke
def test_error_of_background_task_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    def run(stopping: Event) -> None:
        raise ZeroDivisionError("by zero")

    background = BackgroundTask(run, "taskiq-redis-thing")
    background.start()
    wait_until(lambda: caplog.records)
    background.stop()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("taskiq_redis", logging.ERROR)
    assert record.getMessage() == "taskiq-redis-thing failed."
    assert "by zero" in str(record.exc_info)


def test_background_task_that_does_not_end_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(blocking, "JOIN_TIMEOUT", 0.01)

    def run(stopping: threading.Event) -> None:
        over.wait(TIMEOUT)

    background = BackgroundTask(run, "taskiq-redis-thing")
    background.start()
    background.stop()
    over.set()
    (record,) = caplog.records
    assert record.getMessage() == "taskiq-redis-thing did not end within 0 s."


def test_stop_does_not_wait_while_the_interpreter_exits() -> None:
    # Module globals are finalized when daemon threads can't run any more.
    program = """
        import threading
        from taskiq_redis._runtime.blocking import BackgroundTask

        class Left:
            def __init__(self):
                self.begun = threading.Event()
                self.background = BackgroundTask(self.run, "it")
                self.background.start()
                self.begun.wait()

            def run(self, stopping):
                self.begun.set()
                stopping.wait()

            def __del__(self):
                self.background.stop()

        left = Left()
    """
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program)],
        timeout=60,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_background_task_runs_in_a_copy_of_the_context() -> None:
    seen: list[str] = []

    def run(stopping: Event) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("theirs")

    token = VARIABLE.set("mine")
    background = BackgroundTask(run, "it")
    background.start()
    background.stop()
    assert seen == ["mine"]
    assert VARIABLE.get() == "mine"
    VARIABLE.reset(token)


# --- cancellable ---------------------------------------------------------------------------------


def test_cancellable_returns_result_or_raises_error_of_call() -> None:
    assert cancellable(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        cancellable(lambda: 1 // 0)


# --- run_shielded --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_run_shielded_just_runs_the_call() -> None:
    def salvage(taken: str) -> None:
        pytest.fail("the call wasn't cancelled")

    def fail() -> str:
        raise ZeroDivisionError

    assert run_shielded(lambda: "taken", salvage) == "taken"
    with pytest.raises(ZeroDivisionError):
        run_shielded(fail, salvage)
