"""A worker without asyncio: a loop over `listen` of a blocking broker."""

import signal
import sys
import time
from typing import Any

from app import broker, work
from objects import run
from taskiq import AckableMessage, TaskiqResult

from taskiq_redis import SyncBroker, to_sync


def main() -> None:
    """Run each task, store its result and acknowledge it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with to_sync(broker) as twin:
        print("Listening started.", flush=True)
        for message in twin.listen():
            if isinstance(message, AckableMessage):
                execute(twin, message.data)
                message.ack()
            else:
                execute(twin, message)


def execute(twin: SyncBroker, data: bytes) -> None:
    """Run one task, and store its result."""
    message = twin.formatter.loads(data)
    started = time.monotonic()
    value: Any = run(work.original_func, *message.args)
    result = TaskiqResult(
        is_err=False,
        return_value=value,
        execution_time=time.monotonic() - started,
        labels=message.labels,
    )
    twin.result_backend.set_result(message.task_id, result)


if __name__ == "__main__":
    main()
