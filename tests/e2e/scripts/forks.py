"""Fork repeatedly while other threads send."""

import asyncio
import os
import signal
import sys
import threading
import time
import warnings

from taskiq import TaskiqMessage, TaskiqMiddleware

from tests.e2e.apps.twins import record, sync_broker
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

# Python warns about forks of a process with threads, which are tested here.
warnings.simplefilter("ignore", DeprecationWarning)

#: known to the test
THREADS, FORKS = 8, 12

stopping = threading.Event()
sent: list[int] = []


class Slow(TaskiqMiddleware):
    """A middleware with an async hook: it runs on the portal thread, which children don't inherit."""

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        await asyncio.sleep(0)
        return message


def send_on() -> None:
    number = 0
    while not stopping.is_set():
        sync_broker.kicker(record).kiq("thread")
        number += 1
        # Slow enough for the worker to keep up, because children wait for results.
        stopping.wait(0.1)
    sent.append(number)


def child(number: int) -> None:
    for _ in range(3):
        task = sync_broker.kicker(record).kiq("child")
    task.wait_result(timeout=TIMEOUT, check_interval=0.02)
    sync_broker.shutdown()


def fork(number: int) -> None:
    pid = os.fork()
    if pid == 0:
        child(number)
        if number % 2:
            # Exit regularly, with all of Python's exit handlers.
            sys.exit(0)
        os._exit(0)
    deadline = time.monotonic() + TIMEOUT
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGABRT)
            raise TimeoutError(f"child {number} hangs")
        time.sleep(0.002)
    assert ended[1] == 0, ended


if __name__ == "__main__":
    sync_broker.add_middlewares(Slow())
    threads = [threading.Thread(target=send_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(FORKS):
            fork(number)
    finally:
        stopping.set()
    for thread in threads:
        thread.join()
    sync_broker.shutdown()
    pause(sum(sent))
