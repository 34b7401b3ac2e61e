"""Consume messages, and fork a child to run each task."""

import os
import signal
import sys
from types import FrameType

from taskiq import AckableMessage

from tests.e2e.apps.twins import note, record, sync_broker


def stop(number: int, frame: FrameType | None) -> None:
    sync_broker.stop()


def run(data: bytes) -> None:
    task = sync_broker.formatter.loads(data)
    note(task.args[0])
    if not task.args[0].startswith("from"):
        sync_broker.kicker(record).kiq(f"from {task.args[0]}")


def run_in_child(data: bytes) -> None:
    pid = os.fork()
    if pid == 0:
        run(data)
        # A regular exit, which closes all inherited objects.
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    for message in sync_broker.listen():
        run_in_child(message.data if isinstance(message, AckableMessage) else message)
        if isinstance(message, AckableMessage):
            message.ack()
    sync_broker.shutdown()
    print("done", flush=True)
