"""The lock for plain fields: exclusive among threads, and free in a forked child."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskiq_redis._core import locks as module
from taskiq_redis._core.locks import ForkSafeLock


@pytest.mark.smoke
def test_one_thread_at_a_time_is_inside() -> None:
    guard = ForkSafeLock()
    inside: list[int] = []
    most: list[int] = []
    begin = threading.Barrier(8)

    def enter() -> None:
        begin.wait(10)
        for number in range(100):
            with guard:
                inside.append(number)
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(enter) for _ in range(8)]:
            future.result(30)
    assert max(most) == 1


def test_it_is_free_after_an_error() -> None:
    guard = ForkSafeLock()
    with pytest.raises(ZeroDivisionError), guard:
        raise ZeroDivisionError
    with guard:
        pass


def test_renewed_it_is_free_whoever_held_it() -> None:
    guard = ForkSafeLock()
    guard.__enter__()
    guard.reinit()
    with guard:
        pass


def test_whoever_holds_it_may_enter_it_again() -> None:
    guard = ForkSafeLock()
    with guard:
        with guard:
            pass
        assert not anybody_else_may_enter(guard)
    assert anybody_else_may_enter(guard)


def anybody_else_may_enter(guard: ForkSafeLock) -> bool:
    def try_it() -> bool:
        free = guard.acquire(blocking=False)
        if free:
            guard.release()
        return free

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(try_it).result(30)


def test_it_is_forgotten_when_its_owner_is() -> None:
    guard = ForkSafeLock()
    assert guard in module._locks
    gone = weakref.ref(guard)
    del guard
    gc.collect()
    assert gone() is None


FORK = """
    import os, sys, threading
    from taskiq_redis._core.locks import ForkSafeLock

    guards = [ForkSafeLock() for _ in range(3)]
    held, over = threading.Event(), threading.Event()

    def hold():
        with guards[0], guards[1]:
            held.set()
            over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        # Nobody is left here who could let go of them.
        for guard in guards:
            with guard:
                pass
        os._exit(42)
    _, status = os.waitpid(child, 0)
    # The parent's thread still holds them.
    assert not guards[0].acquire(blocking=False) and guards[2].acquire(blocking=False)
    over.set()
    thread.join(30)
    assert guards[0].acquire(blocking=False)
    sys.exit(os.waitstatus_to_exitcode(status))
"""

BROKER = """
    import os, sys, threading, time, warnings
    from taskiq_redis import SyncListQueueBroker
    from taskiq_redis._sync import connection as module

    building, go_on = threading.Event(), threading.Event()
    broker = SyncListQueueBroker("redis://127.0.0.1:1")
    make = broker._connection.make_client

    def slow():
        building.set()
        go_on.wait(30)
        return make()

    broker._connection.make_client = slow
    thread = threading.Thread(target=lambda: broker._connection.client)
    thread.start()
    building.wait(30)
    child = os.fork()
    if child == 0:
        broker._connection.make_client = make
        os._exit(42 if broker._connection.client is not None else 1)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join(30)
    sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.parametrize("program", [FORK, BROKER], ids=["guards", "broker"])
def test_a_child_can_enter_what_the_parent_s_threads_held(program: str) -> None:
    # In a process of its own: this one has threads that a fork would warn about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert ended.returncode == 42, ended.stderr
