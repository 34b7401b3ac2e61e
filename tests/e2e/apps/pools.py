"""Tasks without an event loop, for workers with threads or with a pool of processes."""

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
def meet(places: int) -> tuple[int, int]:
    """Wait until so many of these run at the same time; return where this one ran."""
    record("meet")
    wait_until(lambda: RECORDS.count("meet") == places)
    return os.getpid(), threading.get_ident()


@broker.task
def fail() -> None:
    raise ValueError("as it should")


@broker.task
async def parent() -> int:
    """Return the worker's process."""
    return os.getpid()


@sync_broker.task
def double(number: int) -> int:
    """Be declared on a blocking broker."""
    return number * 2


@broker.task
def relay(number: int) -> Any:
    """Let another task do the work, which blocking code can send from anywhere."""
    sent = sync_broker.kicker(double).kiq(number)
    return sent.wait_result(timeout=TIMEOUT, check_interval=0.05).return_value
