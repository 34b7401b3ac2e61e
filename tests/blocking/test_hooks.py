"""Sync and async middlewares and event handlers, and the portal thread that runs async ones."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from textwrap import dedent
from typing import Any

import anyio
import pytest
from taskiq import TaskiqEvents, TaskiqMessage, TaskiqMiddleware
from taskiq.state import TaskiqState

from taskiq_redis._taskiq import portal
from taskiq_redis._taskiq.portal import THREAD_NAME, resolve, stop_portal
from tests._threads import TIMEOUT, Running, together, wait_until
from tests.blocking.support import (
    MemoryBroker,
    MemoryResults,
    isolated,  # noqa: F401
)
from tests.forks import in_child

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="unset")


class Plain(TaskiqMiddleware):
    def __init__(self, name: str, events: list[str]) -> None:
        super().__init__()
        self.name, self.events = name, events

    def startup(self) -> None:
        self.events.append(f"{self.name} up")

    def shutdown(self) -> None:
        self.events.append(f"{self.name} down")

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append(f"{self.name} before")
        return message.model_copy(update={"args": [*message.args, self.name]})

    def post_send(self, message: TaskiqMessage) -> None:
        self.events.append(f"{self.name} after {message.args}")


class Async(Plain):
    async def startup(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().startup()

    async def shutdown(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().shutdown()

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().pre_send(message)

    async def post_send(self, message: TaskiqMessage) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().post_send(message)


def portal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


async def current_thread() -> threading.Thread:
    await asyncio.sleep(0)
    return threading.current_thread()


def test_sync_and_async_hooks_run_in_taskiqs_order() -> None:
    events: list[str] = []
    local_broker = MemoryBroker().with_middlewares(
        Plain("a", events), Async("b", events), TaskiqMiddleware(), Plain("c", events)
    )
    local_broker.kicker("task").kiq(0)
    assert local_broker.formatter.loads(local_broker.sent[0].message).args == [0, "a", "b", "c"]
    after = "after [0, 'a', 'b', 'c']"
    before = ["a before", "b before", "c before"]
    assert events == [*before, f"c {after}", f"b {after}", f"a {after}"]


@pytest.mark.parametrize("worker", [False, True])
def test_startup_and_shutdown_run_events_then_middlewares_then_backend(worker: bool) -> None:
    backend = MemoryResults()
    events = backend.events
    local_broker = MemoryBroker().with_result_backend(backend)
    local_broker.is_worker_process = worker
    local_broker.state.name = "state"
    local_broker.add_middlewares(Plain("a", events), Async("b", events))

    @local_broker.on_event(*TaskiqEvents)
    def plain(state: TaskiqState) -> None:
        events.append(f"plain {state.name}")

    async def async_one(state: TaskiqState) -> None:
        await asyncio.sleep(0)
        events.append(f"async {state.name}")

    side = "WORKER" if worker else "CLIENT"
    other = "CLIENT" if worker else "WORKER"
    for when in ("STARTUP", "SHUTDOWN"):
        local_broker.add_event_handler(TaskiqEvents[f"{side}_{when}"], async_one)
        local_broker.with_event_handlers(
            TaskiqEvents[f"{other}_{when}"], lambda state: events.append("never")
        )
    with local_broker as entered:
        assert entered is local_broker
        handlers = ["plain state", "async state"]
        assert events == [*handlers, "a up", "b up", "backend up"]
        events.clear()
    assert events == [*handlers, "a down", "b down", "backend down"]


@pytest.mark.parametrize("kind", [Plain, Async])
def test_error_in_hook_reaches_caller(kind: type[Plain]) -> None:
    local_broker = MemoryBroker().with_middlewares(kind("a", []))
    local_broker.middlewares[0].events = None  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="append"):
        local_broker.kicker("task").kiq()
    assert local_broker.sent == []


def test_sync_hooks_start_no_thread() -> None:
    local_broker = MemoryBroker().with_middlewares(Plain("a", []))
    with local_broker:
        local_broker.kicker("task").kiq()
    assert portal_threads() == []


def test_async_hooks_share_one_thread() -> None:
    first, second = resolve(current_thread()), resolve(current_thread())
    assert first is second
    assert portal_threads() == [first]
    assert first.daemon
    stop_portal()
    assert portal_threads() == []
    assert resolve(current_thread()) is not first


def test_callers_in_many_threads_share_one_portal_thread() -> None:
    barrier = threading.Barrier(16)

    def several(number: int) -> set[threading.Thread]:
        async def echo() -> int:
            await asyncio.sleep(0)
            return number

        barrier.wait()
        assert [resolve(echo()) for _ in range(50)] == [number] * 50
        return {resolve(current_thread())}

    seen = together(*(lambda number=number: several(number) for number in range(16)))
    assert set().union(*seen) == set(portal_threads())
    assert len(portal_threads()) == 1


def test_hooks_of_several_callers_run_concurrently() -> None:
    async def make() -> asyncio.Event:
        return asyncio.Event()

    met = resolve(make())

    async def wait() -> None:
        await met.wait()

    async def meet() -> None:
        met.set()

    with Running(lambda: resolve(wait())):
        resolve(meet())


def test_resolve_accepts_any_awaitable_or_value() -> None:
    class Later:
        def __await__(self) -> Generator[Any, Any, int]:
            yield from asyncio.sleep(0).__await__()
            return 42

    assert resolve(Later()) == 42
    assert resolve(42) == 42
    assert resolve(None) is None


def test_hook_sees_callers_context_variables() -> None:
    async def read_marker() -> str:
        await asyncio.sleep(0)
        return marker.get()

    token = marker.set("mine")
    assert resolve(read_marker()) == "mine"
    marker.set("changed")
    assert resolve(read_marker()) == "changed"
    marker.reset(token)
    assert resolve(read_marker()) == "unset"


@pytest.mark.parametrize("error", [KeyError("k"), SystemExit(3), KeyboardInterrupt("^C")])
def test_exception_in_hook_reaches_caller_and_leaves_thread_running(error: BaseException) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    before = resolve(current_thread())
    with pytest.raises(type(error)) as caught:
        resolve(fail())
    assert caught.value is error
    assert resolve(current_thread()) is before


def test_sync_call_inside_async_hook_is_refused() -> None:
    local_broker = MemoryBroker().with_middlewares(Async("a", []))

    async def hook() -> None:
        local_broker.kicker("task").kiq()

    with pytest.raises(RuntimeError, match="Use the async broker inside async hooks"):
        resolve(hook())
    assert local_broker.sent == []


def test_async_hook_can_send_from_another_thread() -> None:
    local_broker = MemoryBroker().with_middlewares(Async("a", []))

    async def hook() -> None:
        await asyncio.to_thread(local_broker.kicker("task").kiq)

    resolve(hook())
    assert len(local_broker.sent) == 1


def test_future_of_another_loop_is_refused() -> None:
    async def main() -> None:
        foreign = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await asyncio.to_thread(resolve, foreign)

    asyncio.run(main())


def test_resolve_works_inside_running_loop() -> None:
    async def main() -> threading.Thread:
        return resolve(current_thread())

    assert asyncio.run(main()).name == THREAD_NAME


def test_failed_start_of_loop_is_raised_and_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(anyio, "run", fail)
        with pytest.raises(OSError, match="too many open files"):
            resolve(current_thread())
    assert resolve(current_thread()).name == THREAD_NAME


def test_stop_cancels_running_hooks() -> None:
    running, ended = threading.Event(), threading.Event()

    async def endless() -> None:
        running.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    def call() -> None:
        with pytest.raises(CancelledError):
            resolve(endless())

    with Running(call):
        assert running.wait(TIMEOUT)
        stop_portal()
    assert ended.is_set()


@contextmanager
def alarm_raises() -> Iterator[None]:
    """Let SIGALRM raise TimeoutError in the main thread."""

    def interrupt(*_: Any) -> None:
        raise TimeoutError("alarm")

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_hook_is_cancelled_when_its_caller_is_interrupted() -> None:
    ended = threading.Event()

    async def endless() -> None:
        # The hook starts the timer, so that it can't be interrupted before it runs.
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match="alarm"), alarm_raises():
        resolve(endless())
    assert ended.wait(TIMEOUT)
    assert resolve(current_thread()).name == THREAD_NAME


@needs_fork
def test_forked_child_starts_its_own_portal_thread() -> None:
    local_broker = MemoryBroker().with_middlewares(Async("a", []))
    local_broker.kicker("task").kiq()

    def send() -> None:
        local_broker.kicker("task").kiq()
        assert len(local_broker.sent) == 2
        stop_portal()
        local_broker.kicker("task").kiq()

    for _ in range(3):
        assert in_child(send) == 0
    local_broker.kicker("task").kiq()
    assert len(local_broker.sent) == 2


@needs_fork
def test_fork_while_another_thread_waits_leaves_portal_usable() -> None:
    released: Future[None] = Future()

    async def wait() -> None:
        await asyncio.wrap_future(released)

    with Running(lambda: resolve(wait())):
        wait_until(portal_threads)
        with portal._portal._lock:
            assert in_child(lambda: resolve(current_thread())) == 0
        released.set_result(None)


@needs_fork
def test_hook_can_fork() -> None:
    async def fork() -> int:
        # The fork of the portal's thread is the child's main thread, so it may wait for a new one.
        return in_child(lambda: resolve(current_thread()))

    assert resolve(fork()) == 0
    assert resolve(current_thread()).name == THREAD_NAME


def run_script(text: str) -> str:
    """Run a script in a Python that shows all warnings, and return its output."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "default", "-c", dedent(text)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_process_exits_without_warnings() -> None:
    output = run_script(
        """
        import asyncio, atexit
        from taskiq_redis._taskiq.portal import resolve

        async def hook(word):
            await asyncio.sleep(0)
            print(word)

        atexit.register(lambda: resolve(hook("at exit")))
        resolve(hook("before"))
        """
    )
    assert output.split("\n") == ["before", "at exit", ""]


@pytest.mark.parametrize("waits", ["await asyncio.to_thread(int)", "await asyncio.sleep(0)"])
@pytest.mark.parametrize("first_use", ["before", "at exit"])
def test_process_exits_without_tracebacks_whenever_hooks_run(waits: str, first_use: str) -> None:
    # At exit, no thread can be started on Python 3.12, and none used for the first time on others.
    output = run_script(
        f"""
        import asyncio, atexit
        from taskiq_redis._taskiq.portal import resolve

        async def hook(word):
            if word == "before":
                {waits}
            await asyncio.sleep(0)
            print(word)

        if "{first_use}" == "before":
            resolve(hook("before"))
        atexit.register(lambda: resolve(hook("at exit")))
        """
    )
    words = ["before"] if first_use == "before" else []
    assert output.split("\n") == [*words, "at exit", ""]


def test_hook_runs_on_the_callers_thread_if_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    token = marker.set("mine")

    async def hook() -> tuple[object, str]:
        return await current_thread(), marker.get()

    assert resolve(hook()) == (threading.current_thread(), "mine")
    marker.reset(token)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't create new thread"):
            resolve(hook())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("wait", "end"),
    [("await asyncio.sleep(3600)", "end\ncleaned up\n"), ("time.sleep(3600)", "end\n")],
)
def test_process_exits_while_hook_is_running(wait: str, end: str) -> None:
    output = run_script(
        f"""
        import asyncio, threading, time
        from taskiq_redis._taskiq import portal

        portal.STOP_TIMEOUT = 0.2
        running = threading.Event()

        async def hook():
            running.set()
            try:
                {wait}
            finally:
                print("cleaned up")

        def call():
            try:
                portal.resolve(hook())
            except BaseException:
                pass

        threading.Thread(target=call, daemon=True).start()
        running.wait()
        print("end")
        """
    )
    assert output.startswith(end)
