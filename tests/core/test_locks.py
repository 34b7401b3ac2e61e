"""`ForkSafeLock`: exclusive among threads, and released in a forked child."""

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
def test_lock_admits_one_thread_at_a_time() -> None:
    lock = ForkSafeLock()
    inside: list[int] = []
    most: list[int] = []
    begin = threading.Barrier(8)

    def enter() -> None:
        begin.wait(10)
        for number in range(100):
            with lock:
                inside.append(number)
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(enter) for _ in range(8)]:
            future.result(30)
    assert max(most) == 1


def test_error_releases_the_lock() -> None:
    lock = ForkSafeLock()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    with lock:
        pass


def test_reinit_releases_the_lock() -> None:
    lock = ForkSafeLock()
    lock.__enter__()
    lock.reinit()
    with lock:
        pass


def test_lock_is_reentrant() -> None:
    lock = ForkSafeLock()
    with lock:
        with lock:
            pass
        assert not another_thread_can_acquire(lock)
    assert another_thread_can_acquire(lock)


def another_thread_can_acquire(lock: ForkSafeLock) -> bool:
    def try_acquire() -> bool:
        free = lock.acquire(blocking=False)
        if free:
            lock.release()
        return free

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(try_acquire).result(30)


def test_unused_lock_is_garbage_collected() -> None:
    lock = ForkSafeLock()
    assert lock in module._locks
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


FORK = """
    import os, sys, threading
    from taskiq_redis._core.locks import ForkSafeLock

    locks = [ForkSafeLock() for _ in range(3)]
    held, over = threading.Event(), threading.Event()

    def hold():
        with locks[0], locks[1]:
            held.set()
            over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        # The thread that holds them doesn't exist here.
        for lock in locks:
            with lock:
                pass
        os._exit(42)
    _, status = os.waitpid(child, 0)
    # The thread of the parent still holds them.
    assert not locks[0].acquire(blocking=False) and locks[2].acquire(blocking=False)
    over.set()
    thread.join(30)
    assert locks[0].acquire(blocking=False)
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
@pytest.mark.parametrize("program", [FORK, BROKER], ids=["locks", "broker"])
def test_locks_are_released_in_a_forked_child(program: str) -> None:
    # In a process of its own: this one has threads that a fork would warn about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert ended.returncode == 42, ended.stderr
