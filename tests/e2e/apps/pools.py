"""Sync tasks, for workers with a thread pool or a process pool."""

import os
import threading
from typing import Any

from taskiq_redis import to_sync
from tests.e2e.recorder import RECORDS, record
from tests.e2e.setting import SETTING
from tests.waiting import TIMEOUT, wait_until

broker = SETTING.broker()
sync_broker = to_sync(broker)


@broker.task
def meet(number: int) -> tuple[int, int]:
    """Wait until `number` of these run at the same time, and return this one's process and thread."""
    record("meet")
    wait_until(lambda: RECORDS.count("meet") == number)
    return os.getpid(), threading.get_ident()


@broker.task
def fail() -> None:
    raise ValueError("as it should")


@broker.task
async def parent() -> int:
    """Return the worker's process ID."""
    return os.getpid()


@sync_broker.task
def double(number: int) -> int:
    """Double a number; declared on a blocking broker."""
    return number * 2


@broker.task
def relay(number: int) -> Any:
    """Send another task with blocking code, and return its result."""
    sent = sync_broker.kicker(double).kiq(number)
    return sent.wait_result(timeout=TIMEOUT, check_interval=0.05).return_value
