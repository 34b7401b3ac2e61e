"""Middlewares and event handlers, async or not, and the thread that the async ones run on."""

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


async def where() -> threading.Thread:
    await asyncio.sleep(0)
    return threading.current_thread()


def test_hooks_of_both_colours_run_in_taskiqs_order() -> None:
    events: list[str] = []
    made = MemoryBroker().with_middlewares(
        Plain("a", events), Async("b", events), TaskiqMiddleware(), Plain("c", events)
    )
    made.kicker("task").kiq(0)
    assert made.formatter.loads(made.sent[0].message).args == [0, "a", "b", "c"]
    after = "after [0, 'a', 'b', 'c']"
    before = ["a before", "b before", "c before"]
    assert events == [*before, f"c {after}", f"b {after}", f"a {after}"]


@pytest.mark.parametrize("worker", [False, True])
def test_starting_and_stopping_run_events_then_middlewares_then_the_backend(worker: bool) -> None:
    backend = MemoryResults()
    events = backend.events
    made = MemoryBroker().with_result_backend(backend)
    made.is_worker_process = worker
    made.state.name = "state"
    made.add_middlewares(Plain("a", events), Async("b", events))

    @made.on_event(*TaskiqEvents)
    def plain(state: TaskiqState) -> None:
        events.append(f"plain {state.name}")

    async def async_one(state: TaskiqState) -> None:
        await asyncio.sleep(0)
        events.append(f"async {state.name}")

    side = "WORKER" if worker else "CLIENT"
    other = "CLIENT" if worker else "WORKER"
    for when in ("STARTUP", "SHUTDOWN"):
        made.add_event_handler(TaskiqEvents[f"{side}_{when}"], async_one)
        made.with_event_handlers(
            TaskiqEvents[f"{other}_{when}"], lambda state: events.append("never")
        )
    with made as entered:
        assert entered is made
        handlers = ["plain state", "async state"]
        assert events == [*handlers, "a up", "b up", "backend up"]
        events.clear()
    assert events == [*handlers, "a down", "b down", "backend down"]


@pytest.mark.parametrize("colour", [Plain, Async])
def test_errors_of_hooks_come_back(colour: type[Plain]) -> None:
    made = MemoryBroker().with_middlewares(colour("a", []))
    made.middlewares[0].events = None  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="append"):
        made.kicker("task").kiq()
    assert made.sent == []


def test_plain_hooks_need_no_thread() -> None:
    made = MemoryBroker().with_middlewares(Plain("a", []))
    with made:
        made.kicker("task").kiq()
    assert portal_threads() == []


def test_async_hooks_run_on_one_thread() -> None:
    first, second = resolve(where()), resolve(where())
    assert first is second
    assert portal_threads() == [first]
    assert first.daemon
    stop_portal()
    assert portal_threads() == []
    assert resolve(where()) is not first


def test_sixteen_threads_share_it() -> None:
    barrier = threading.Barrier(16)

    def several(number: int) -> set[threading.Thread]:
        async def echo() -> int:
            await asyncio.sleep(0)
            return number

        barrier.wait()
        assert [resolve(echo()) for _ in range(50)] == [number] * 50
        return {resolve(where())}

    seen = together(*(lambda number=number: several(number) for number in range(16)))
    assert set().union(*seen) == set(portal_threads())
    assert len(portal_threads()) == 1


def test_hooks_of_several_threads_run_side_by_side() -> None:
    async def make() -> asyncio.Event:
        return asyncio.Event()

    met = resolve(make())

    async def wait() -> None:
        await met.wait()

    async def meet() -> None:
        met.set()

    with Running(lambda: resolve(wait())):
        resolve(meet())


def test_any_awaitable_will_do() -> None:
    class Later:
        def __await__(self) -> Generator[Any, Any, int]:
            yield from asyncio.sleep(0).__await__()
            return 42

    assert resolve(Later()) == 42
    assert resolve(42) == 42
    assert resolve(None) is None


def test_the_callers_context_is_seen() -> None:
    async def look() -> str:
        await asyncio.sleep(0)
        return marker.get()

    token = marker.set("mine")
    assert resolve(look()) == "mine"
    marker.set("changed")
    assert resolve(look()) == "changed"
    marker.reset(token)
    assert resolve(look()) == "unset"


@pytest.mark.parametrize("error", [KeyError("k"), SystemExit(3), KeyboardInterrupt("^C")])
def test_whatever_a_hook_raises_is_the_callers_only(error: BaseException) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    before = resolve(where())
    with pytest.raises(type(error)) as caught:
        resolve(fail())
    assert caught.value is error
    assert resolve(where()) is before


def test_what_needs_itself_is_an_error() -> None:
    made = MemoryBroker().with_middlewares(Async("a", []))

    async def hook() -> None:
        made.kicker("task").kiq()

    with pytest.raises(RuntimeError, match="Use the async broker inside async hooks"):
        resolve(hook())
    assert made.sent == []


def test_a_hook_may_send_from_another_thread() -> None:
    made = MemoryBroker().with_middlewares(Async("a", []))

    async def hook() -> None:
        await asyncio.to_thread(made.kicker("task").kiq)

    resolve(hook())
    assert len(made.sent) == 1


def test_what_belongs_to_another_loop_is_an_error() -> None:
    async def main() -> None:
        foreign = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await asyncio.to_thread(resolve, foreign)

    asyncio.run(main())


def test_it_can_be_called_where_a_loop_runs() -> None:
    async def main() -> threading.Thread:
        return resolve(where())

    assert asyncio.run(main()).name == THREAD_NAME


def test_a_loop_that_cannot_start_is_an_error_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(anyio, "run", fail)
        with pytest.raises(OSError, match="too many open files"):
            resolve(where())
    assert resolve(where()).name == THREAD_NAME


def test_a_stop_cancels_what_runs() -> None:
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
def alarm(after: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError("rang")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_a_hook_that_nobody_waits_for_any_more_is_cancelled() -> None:
    ended = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match="rang"), alarm(0.2):
        resolve(endless())
    assert ended.wait(TIMEOUT)
    assert resolve(where()).name == THREAD_NAME


@needs_fork
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    made = MemoryBroker().with_middlewares(Async("a", []))
    made.kicker("task").kiq()

    def send() -> None:
        made.kicker("task").kiq()
        assert len(made.sent) == 2
        stop_portal()
        made.kicker("task").kiq()

    for _ in range(3):
        assert in_child(send) == 0
    made.kicker("task").kiq()
    assert len(made.sent) == 2


@needs_fork
def test_a_child_may_be_forked_while_a_thread_starts_or_waits() -> None:
    released: Future[None] = Future()

    async def wait() -> None:
        await asyncio.wrap_future(released)

    with Running(lambda: resolve(wait())):
        wait_until(portal_threads)
        with portal._portal._lock:
            assert in_child(lambda: resolve(where())) == 0
        released.set_result(None)


@needs_fork
def test_a_hook_may_fork() -> None:
    async def fork() -> int:
        # What was the portal's thread is the child's main thread, and may wait for another one.
        return in_child(lambda: resolve(where()))

    assert resolve(fork()) == 0
    assert resolve(where()).name == THREAD_NAME


def run_script(text: str) -> str:
    """Run a script in a Python that shows all warnings, until it ends; return what it says."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "default", "-c", dedent(text)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_process_ends_without_noise() -> None:
    said = run_script(
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
    assert said.split("\n") == ["before", "at exit", ""]


@pytest.mark.parametrize(
    ("wait", "end"),
    [("await asyncio.sleep(3600)", "end\ncleaned up\n"), ("time.sleep(3600)", "end\n")],
)
def test_a_process_ends_whatever_a_hook_does(wait: str, end: str) -> None:
    said = run_script(
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
    assert said.startswith(end)
