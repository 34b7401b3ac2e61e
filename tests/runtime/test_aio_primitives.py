"""Primitives that work on any event loop: Event, Semaphore, sleep."""

import asyncio
import os
import time
from typing import Any

import anyio
import pytest

from taskiq_redis._drivers.aio import make_pool
from taskiq_redis._runtime.aio import (
    Event,
    Semaphore,
    current_owner,
    is_owner_gone,
    no_loop,
    sleep,
)
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(any_backend: Any) -> Any:
    return any_backend


@pytest.mark.smoke
async def test_event_wakes_all_waiters() -> None:
    event = Event()
    woken: list[bool] = []

    async def wait(timeout: float | None) -> None:
        woken.append(await event.wait(timeout))

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            for timeout in (None, TIMEOUT, None):
                group.start_soon(wait, timeout)
            await anyio.wait_all_tasks_blocked()
            assert not event.is_set()
            assert woken == []
            event.set()
    assert woken == [True, True, True]


async def test_wait_for_set_event_returns_at_once() -> None:
    event = Event()
    event.set()
    event.set()
    with anyio.fail_after(TIMEOUT):
        for timeout in (None, TIMEOUT, 0):
            assert await event.wait(timeout)
    assert event.is_set()


@pytest.mark.smoke
@pytest.mark.parametrize("timeout", [0, -1, 0.001])
async def test_wait_for_event_times_out(timeout: float) -> None:
    event = Event()
    with anyio.fail_after(TIMEOUT):
        assert not await event.wait(timeout)
    assert not event.is_set()
    event.set()
    assert await event.wait(timeout)


async def test_cancelled_wait_is_no_timeout() -> None:
    event = Event()
    answers: list[bool] = []

    async def wait() -> None:
        answers.append(await event.wait(TIMEOUT))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert answers == []


class Holders:
    """Counts the holders of a semaphore, each of which waits for an event."""

    def __init__(self, semaphore: anyio.Semaphore) -> None:
        self.semaphore = semaphore
        self.inside = 0
        self.most = 0
        self.finished = 0
        self.events: list[anyio.Event] = []

    async def hold(self) -> None:
        async with self.semaphore:
            self.inside += 1
            self.most = max(self.most, self.inside)
            event = anyio.Event()
            self.events.append(event)
            try:
                await event.wait()
            finally:
                self.inside -= 1
                self.finished += 1


@pytest.mark.smoke
async def test_semaphore_admits_its_limit_at_a_time() -> None:
    holders = Holders(Semaphore(3))
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(holders.hold)
            await anyio.wait_all_tasks_blocked()
            assert holders.inside == 3
            for left in range(8):
                holders.events[left].set()
                await anyio.wait_all_tasks_blocked()
                assert holders.inside == min(3, 7 - left)
    assert (holders.finished, holders.most) == (8, 3)


async def test_semaphore_is_released_after_error_or_cancellation() -> None:
    semaphore = Semaphore(1)
    with pytest.raises(ZeroDivisionError):
        async with semaphore:
            raise ZeroDivisionError
    holders = Holders(semaphore)
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            # The first is cancelled inside, the second while it waits.
            group.start_soon(holders.hold)
            group.start_soon(holders.hold)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert holders.inside == 0
        async with semaphore:
            pass


async def test_free_semaphore_is_acquired_without_yielding() -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        async with Semaphore(1):
            # Acquiring a free semaphore doesn't yield to the loop.
            assert ran == []
    assert ran == ["other"]


@pytest.mark.smoke
async def test_sleep_lets_other_tasks_run() -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await sleep(0)
        await sleep(0.001)
        assert ran == ["other"]
    begin = time.monotonic()
    await sleep(0.02)
    assert time.monotonic() - begin >= 0.015
    with anyio.move_on_after(0.01) as scope:
        await sleep(TIMEOUT)
    assert scope.cancelled_caught


async def test_primitives_made_outside_a_loop_can_be_used_on_one() -> None:
    event, semaphore = await anyio.to_thread.run_sync(lambda: (Event(), Semaphore(1)))
    async with semaphore:
        event.set()
    assert await event.wait(TIMEOUT)


async def test_owner_is_the_running_loop_of_this_process(anyio_backend: Any) -> None:
    assert await anyio.to_thread.run_sync(current_owner) == no_loop()
    if anyio_backend[0] == "asyncio":
        assert current_owner() == (os.getpid(), asyncio.get_running_loop())


def test_owner_is_gone_if_its_loop_is_closed_or_in_another_process() -> None:
    loop = asyncio.new_event_loop()
    owner = (os.getpid(), loop)
    assert not is_owner_gone(owner)
    assert is_owner_gone((os.getppid(), loop))
    loop.close()
    assert is_owner_gone(owner)
    assert not is_owner_gone(no_loop())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
async def test_text_is_sent_in_the_given_encoding(encoding: str) -> None:
    pool = make_pool("redis://", encoding=encoding)
    (packed,) = pool.make_connection().pack_command("GET", "ü", b"\xff", 7, 1.5)
    words = [b"GET", "ü".encode(encoding), b"\xff", b"7", b"1.5"]
    assert packed == b"*5\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
