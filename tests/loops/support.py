"""Event loops of several kinds, and helpers that run and cancel calls on them."""

import asyncio
import functools
import gc
import itertools
import sys
from collections.abc import Callable, Coroutine, Generator
from enum import Enum
from typing import Any, TypeVar

import pytest

from tests import _aio
from tests.waiting import TIMEOUT, wait_until

T = TypeVar("T")
NewLoop = Callable[[], asyncio.AbstractEventLoop]
Call = Callable[[], Coroutine[Any, Any, T]]


def uvloop() -> asyncio.AbstractEventLoop:
    """Return a new loop of uvloop."""
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


KINDS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop}

if sys.version_info >= (3, 12):

    def eager() -> asyncio.AbstractEventLoop:
        """Return a new loop whose tasks start eagerly."""
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    KINDS["eager"] = eager

each_loop_kind = pytest.mark.parametrize("new_loop", KINDS.values(), ids=KINDS)


def run(call: Call[T], new_loop: NewLoop) -> T:
    """Do what `asyncio.run` does, on a loop of any kind, which it doesn't support in Python 3.10."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(call(), TIMEOUT))
    finally:
        loop.run_until_complete(_cancel_the_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def run_without_cleanup(call: Call[T], new_loop: NewLoop) -> T:
    """Run a call on a loop that is closed without cancelling its tasks or generators."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(call(), TIMEOUT))
    finally:
        loop.close()


def wait_until_disconnected(count: Callable[[], int]) -> None:
    """Collect garbage, and wait until the server has noticed that all connections are closed."""
    gc.collect()
    wait_until(lambda: count() == 0, what="the end of all connections", not_yet=())


class Moment(Enum):
    """When a task is cancelled at an await point."""

    #: while it waits
    EARLY = "early"
    #: after the awaited future is done, before the task resumes
    LATE = "late"
    #: while it waits, at this and all later await points, like a cancelled scope of anyio
    REPEATED = "repeated"


each_moment = pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.value)


class CancelledAt:
    """Awaits a call, and cancels its task at the n-th await point.

    Args:
        call: what to run, in a separate task.
        number: number of the await point; 1 is the first.
        moment: when to cancel it there.
    """

    def __init__(self, call: Call[Any], number: int, moment: Moment) -> None:
        self._call = call
        self._number = number
        self._moment = moment
        #: number of await points so far
        self.waits = 0

    async def run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._call().__await__()
        proceed: Callable[[], Any] = functools.partial(steps.send, None)
        while True:
            try:
                awaited = proceed()
            except StopIteration as end:
                return end.value
            self.waits += 1
            repeats = self._moment is Moment.REPEATED and self.waits > self._number
            if repeats or self.waits == self._number:
                self._cancel(awaited)
            try:
                yield awaited
            except BaseException as error:
                proceed = functools.partial(steps.throw, error)
            else:
                proceed = functools.partial(steps.send, None)

    def _cancel(self, awaited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._moment is Moment.LATE and awaited is not None:
            # This callback runs before the task's own, which is added when this yields.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            task.get_loop().call_soon(task.cancel)


async def cancel_everywhere(
    call: Call[Any], moment: Moment, after: Callable[[Any], Coroutine[Any, Any, None]]
) -> int:
    """Run a call repeatedly, each time cancelled at the next of its await points.

    Args:
        call: what to run.
        moment: when to cancel it there.
        after: checks the state afterwards; gets the return value, or None after a cancellation.

    Returns:
        The number of await points. Before Python 3.11, `asyncio.wait_for` may take a cancellation for
        its own timeout, and go on.
    """
    for number in itertools.count(1):
        attempt = CancelledAt(call, number, moment)
        outcome: Any
        (outcome,) = await asyncio.gather(
            asyncio.ensure_future(attempt.run()), return_exceptions=True
        )
        if isinstance(outcome, asyncio.CancelledError):
            outcome = None
        elif isinstance(outcome, BaseException):
            raise outcome
        await after(outcome)
        if attempt.waits < number:
            return attempt.waits
    raise AssertionError  # the loop is endless


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true."""

    async def is_true() -> bool:
        return bool(condition())

    await _aio.wait_until(is_true)
