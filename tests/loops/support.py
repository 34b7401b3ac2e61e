"""Event loops of all kinds, and what runs on them."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
NewLoop = Callable[[], asyncio.AbstractEventLoop]
Call = Callable[[], Coroutine[Any, Any, T]]

#: s; only guards against a test that would hang
PATIENCE = 30.0


def uvloop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop."""
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


def eager() -> asyncio.AbstractEventLoop:
    """Make a loop whose tasks begin to run before their creator goes on."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


KINDS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop, "eager": eager}

each_kind = pytest.mark.parametrize("new_loop", KINDS.values(), ids=KINDS)


def run(call: Call[T], new_loop: NewLoop) -> T:
    """Do what `asyncio.run` does, on a loop of any kind; Python 3.10's has no choice."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(call(), PATIENCE))
    finally:
        loop.run_until_complete(_cancel_the_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def run_and_drop(call: Call[T], new_loop: NewLoop) -> T:
    """Run a call on a loop that is closed without a word to what lives on it."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(call(), PATIENCE))
    finally:
        loop.close()


def nothing_left(count: Callable[[], int]) -> None:
    """Collect what nobody uses any more, and wait until the server has noticed."""
    gc.collect()
    give_up = time.monotonic() + PATIENCE
    while left := count():
        assert time.monotonic() < give_up, f"{left} connections are left"
        time.sleep(0.01)
