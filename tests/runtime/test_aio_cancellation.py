"""Cancelled calls: none is lost, and no result either."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from taskiq_redis._runtime import aio
from taskiq_redis._runtime.aio import (
    BackgroundTask,
    Event,
    cancellable,
    run_shielded,
)
from tests.waiting import TIMEOUT

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


# --- cancellable ---------------------------------------------------------------------------------


class SwallowsCancellation:
    """A call that swallows its first cancellation, as `asyncio.wait_for` may before Python 3.12."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def call(self) -> None:
        for _ in range(2):
            try:
                await anyio.sleep(TIMEOUT)
            except asyncio.CancelledError:
                self.cancelled += 1
        raise asyncio.CancelledError


@pytest.fixture(params=[None, 0.001])
def _again(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "CANCEL_AGAIN", request.param)


@pytest.mark.smoke
@pytest.mark.usefixtures("_again")
async def test_cancellable_returns_result_or_raises_error_of_call() -> None:
    async def answer() -> int:
        await anyio.lowlevel.checkpoint()
        return 42

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError

    assert await cancellable(answer) == 42
    with pytest.raises(ZeroDivisionError):
        await cancellable(fail)


@pytest.mark.smoke
async def test_cancellable_cancels_its_call_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "CANCEL_AGAIN", 0.001)
    swallower = SwallowsCancellation()
    task = asyncio.ensure_future(cancellable(swallower.call))
    await anyio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert swallower.cancelled == 2


@pytest.mark.smoke
async def test_stop_cancels_background_task_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "CANCEL_AGAIN", 0.001)
    swallower = SwallowsCancellation()

    async def run(stopping: Event) -> None:
        await swallower.call()

    background = BackgroundTask(run, "it")
    background.start()
    await anyio.sleep(0.001)
    await background.stop()
    assert swallower.cancelled == 2


# --- run_shielded --------------------------------------------------------------------------------


class TakeCall:
    """A call that takes a message once `reply` is set; messages taken too late are salvaged."""

    def __init__(self, outcome: Any = "taken", salvage_error: Exception | None = None) -> None:
        self.begun = anyio.Event()
        self.reply = anyio.Event()
        self.ended = False
        self.salvaged: list[Any] = []
        self._outcome = outcome
        self._salvage_error = salvage_error

    async def call(self) -> Any:
        self.begun.set()
        await self.reply.wait()
        self.ended = True
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    async def salvage(self, taken: Any) -> None:
        if self._salvage_error is not None:
            raise self._salvage_error
        # Yields, as a command to Redis does.
        await asyncio.sleep(0.001)
        self.salvaged.append(taken)

    def run(self) -> Coroutine[Any, Any, Any]:
        return run_shielded(self.call, self.salvage)


@pytest.mark.smoke
async def test_shielded_call_returns_its_result() -> None:
    take = TakeCall()
    take.reply.set()
    assert await take.run() == "taken"
    assert take.salvaged == []


@pytest.mark.smoke
async def test_shielded_call_raises_its_error(caplog: pytest.LogCaptureFixture) -> None:
    take = TakeCall(ZeroDivisionError("by zero"))
    take.reply.set()
    with pytest.raises(ZeroDivisionError, match="by zero"):
        await take.run()
    assert take.salvaged == []
    assert not caplog.records


@pytest.mark.smoke
async def test_native_cancellation_ends_the_caller_and_salvages_the_result() -> None:
    take = TakeCall()
    caller = asyncio.ensure_future(take.run())
    await take.begun.wait()
    caller.cancel()
    with anyio.fail_after(TIMEOUT):
        await asyncio.wait([caller], timeout=0.01)
        assert not caller.done()
        take.reply.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert take.salvaged == ["taken"]


@pytest.mark.smoke
async def test_cancelled_scope_ends_the_caller_and_salvages_the_result() -> None:
    take = TakeCall()
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(take.run)
            await take.begun.wait()
            group.cancel_scope.cancel()
            asyncio.get_running_loop().call_later(0.01, take.reply.set)
    assert take.salvaged == ["taken"]


async def test_caller_that_runs_out_of_time_salvages_the_result() -> None:
    take = TakeCall()

    async def reply_late(scope: anyio.CancelScope) -> None:
        await until(lambda: scope.cancel_called)
        await anyio.sleep(0.01)
        take.reply.set()

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.001) as scope:
            group.start_soon(reply_late, scope)
            await take.run()
            pytest.fail("there was no reply in time")
    assert take.salvaged == ["taken"]


async def test_cancellation_before_the_call_starts_prevents_it() -> None:
    take = TakeCall()
    caller = asyncio.ensure_future(take.run())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not take.begun.is_set()


async def test_reply_at_the_moment_of_cancellation_is_not_lost() -> None:
    for order in ("reply first", "cancellation first"):
        take = TakeCall()
        caller = asyncio.ensure_future(take.run())
        await take.begun.wait()
        if order == "reply first":
            take.reply.set()
            caller.cancel()
        else:
            caller.cancel()
            take.reply.set()
        outcome: Any
        (outcome,) = await asyncio.gather(caller, return_exceptions=True)
        returned = [] if isinstance(outcome, BaseException) else [outcome]
        assert returned + take.salvaged == ["taken"], order


@pytest.mark.parametrize("turns", range(6))
async def test_result_is_returned_or_salvaged_whenever_the_caller_is_cancelled(turns: int) -> None:
    take = TakeCall()
    take.reply.set()
    caller = asyncio.ensure_future(take.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    outcome: Any
    (outcome,) = await asyncio.gather(caller, return_exceptions=True)
    returned = [] if isinstance(outcome, BaseException) else [outcome]
    taken = ["taken"] if take.ended else []
    assert returned + take.salvaged == taken


async def test_second_cancellation_has_no_effect() -> None:
    take = TakeCall()
    caller = asyncio.ensure_future(take.run())
    await take.begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.wait([caller], timeout=0.01)
        assert not caller.done()
    take.reply.set()
    outcome: Any
    (outcome,) = await asyncio.gather(caller, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)
    assert take.salvaged == ["taken"]


async def test_cancelled_call_cancels_its_caller() -> None:
    take = TakeCall(asyncio.CancelledError())
    take.reply.set()
    with pytest.raises(asyncio.CancelledError):
        await take.run()
    assert take.salvaged == []


@pytest.mark.smoke
async def test_error_of_call_after_its_caller_was_cancelled_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    take = TakeCall(ZeroDivisionError("by zero"))
    caller = asyncio.ensure_future(take.run())
    await take.begun.wait()
    caller.cancel()
    take.reply.set()
    await asyncio.gather(caller, return_exceptions=True)
    assert take.salvaged == []
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("taskiq_redis", logging.ERROR)
    assert "by zero" in str(record.exc_info)


@pytest.mark.smoke
async def test_failed_salvage_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    take = TakeCall(salvage_error=ZeroDivisionError("by zero"))
    caller = asyncio.ensure_future(take.run())
    await take.begun.wait()
    caller.cancel()
    take.reply.set()
    await asyncio.gather(caller, return_exceptions=True)
    (record,) = caplog.records
    assert (
        record.getMessage()
        == "A message that was popped for a cancelled listener was not put back."
    )
    assert "by zero" in str(record.exc_info)
