"""A program that takes tasks off the queue itself, and acknowledges them by hand."""

import signal
import sys
import time
from types import FrameType

from taskiq import AckableMessage

from tests.programs.app import note, sync_broker


def shut_down(number: int, frame: FrameType | None) -> None:
    sync_broker.shutdown()


def leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def consume(seconds: float) -> None:
    for message in sync_broker.listen():
        data = message.data if isinstance(message, AckableMessage) else message
        task = sync_broker.formatter.loads(data)
        time.sleep(seconds)
        note(task.args[0])
        print("took", task.args[0], flush=True)
        if isinstance(message, AckableMessage):
            message.ack()


if __name__ == "__main__":
    end, seconds = sys.argv[1], float(sys.argv[2])
    if end != "interrupt":
        signal.signal(signal.SIGTERM, shut_down if end == "shutdown" else leave)
    print("listening", flush=True)
    try:
        consume(seconds)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("done", flush=True)
